"""Drop outputs that nobody reads, with what computes them, and slim the rest with onnxslim."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from saccade.errors import ModelError
from saccade.optimize.change import Effect, OneVariant, PlanContext, Prediction, by_stage
from saccade.pipeline.config import PipelineConfig

if TYPE_CHECKING:
    import onnx

METHOD = "slim 1"
# Of the number of nodes: what slimming must take away to be worth a trial. Runtimes fold and fuse
# on their own, and what onnxslim does besides is mostly a handful of reshapes.
LEAST_SHARE = 0.02
# Of inference, what slimming may bring besides the outputs dropped; a prior.
FACTOR, BEST_CASE = 0.99, 0.85
# Writing and checking the file.
COST_S = 2.0
# Of the largest value of an output: what folding may change, by arithmetic in another order.
TOLERANCE = 1e-4
# Of an output's whole numbers, class ids: as many may differ where two classes are as good.
ID_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Leaner:
    """What the change would take away from a model.

    Attributes:
        kept: indices of the outputs that stay.
        unread: names of those that go.
        dead: names of the nodes that only those need.
        nodes: number of nodes before and after.
        mb: megabytes of the file before and after.
        why_not: why nothing can be said of it; empty where all of the above is known.
    """

    kept: tuple[int, ...] = ()
    unread: tuple[str, ...] = ()
    dead: frozenset[str] = frozenset()
    nodes: tuple[int, int] = (0, 0)
    mb: tuple[float, float] = (0.0, 0.0)
    why_not: str = ""


@dataclass(frozen=True)
class SlimGraph(OneVariant):
    """A segmenter's auxiliary head, a detector's training outputs: computed, and never read."""

    name: ClassVar[str] = "slim_graph"
    effect: ClassVar[Effect] = "exact"

    @property
    def label(self) -> str:
        """Name."""
        return "slim_graph: without what nobody reads"

    def applies(self, context: PlanContext) -> str | None:
        """Needs an ONNX model in floats with something to take away."""
        config = context.config
        if config.model.format != "onnx":
            return f"the model is in {config.model.format} format, and this starts from ONNX"
        if config.model.stored != "fp32":
            return f"the model's weights are stored as {config.model.stored}, which it would undo"
        found = _leaner(config)
        if found.why_not:
            return found.why_not
        before, after = found.nodes
        if not found.unread and after > before * (1 - LEAST_SHARE):
            return f"every output is read, and slimming leaves {after} of {before} nodes"
        return None

    def predict(self, context: PlanContext) -> Prediction:
        """By the measured time of the operators that go, and a prior for the others."""
        found = _leaner(context.config)
        dead, basis = _dead_share(context, found)
        expected = by_stage(
            context, {"infer": (1 - dead) * FACTOR}, basis, {"infer": (1 - dead) * BEST_CASE}
        )
        smaller = found.mb[1] / found.mb[0]
        shrinks = {"model_mb": smaller} if smaller < 1 else {}
        return replace(expected, cost_s=COST_S, shrinks=shrinks)

    def apply(self, context: PlanContext) -> PipelineConfig:
        """Write the smaller model, its outputs compared with those of the larger one."""
        from saccade.models.graph_slim import can_slim
        from saccade.models.read_outputs import described_with
        from saccade.optimize.rewriting import rewritten

        config, found = context.config, _leaner(context.config)
        method = f"{METHOD} {can_slim()} {','.join(map(str, found.kept))}"
        rewrite = partial(_rewritten, kept=found.kept)
        check = partial(_check_same, kept=found.kept)
        model = rewritten(config, context.folder, method, rewrite, check)
        if not found.unread:
            # The outputs are those of the program still, so changes of weights may begin there.
            return replace(config, model=replace(model, program=config.model.program))
        description = described_with(config.description, found.kept)
        return replace(config, model=model, description=description)


def _leaner(config: PipelineConfig) -> Leaner:
    """What could go."""
    from saccade.models.read_outputs import read_outputs

    return _examined(config.model.path, config.model.sha256, read_outputs(config.description))


@lru_cache(maxsize=16)
def _examined(path: str, sha256: str, read: tuple[int, ...] | None) -> Leaner:
    from saccade.models.onnx_file import read_onnx
    from saccade.models.onnx_save import file_bytes

    try:
        before = read_onnx(path)
        names = [output.name for output in before.graph.output]
        kept = tuple(range(len(names))) if read is None else read
        after = _rewritten(before, kept)
    except ModelError as error:
        return Leaner(why_not=str(error))
    dead = _node_names(before) - _node_names(_without(before, kept))
    return Leaner(
        kept,
        tuple(name for index, name in enumerate(names) if index not in kept),
        frozenset(dead),
        (len(before.graph.node), len(after.graph.node)),
        (file_bytes(before) / 1e6, file_bytes(after) / 1e6),
    )


def _without(model: onnx.ModelProto, kept: tuple[int, ...]) -> onnx.ModelProto:
    from saccade.models.read_outputs import with_outputs

    return with_outputs(model, kept)


def _rewritten(model: onnx.ModelProto, kept: tuple[int, ...]) -> onnx.ModelProto:
    """Without onnxslim, unread outputs are dropped all the same."""
    from saccade.models.graph_slim import can_slim, slimmed

    smaller = _without(model, kept)
    return slimmed(smaller) if can_slim() else smaller


def _node_names(model: onnx.ModelProto) -> set[str]:
    return {node.name for node in model.graph.node}


def _dead_share(context: PlanContext, found: Leaner) -> tuple[float, str]:
    """Share 0-1 of inference that goes into unread outputs, and what tells it."""
    times = context.profile.operators
    whole = sum(time.wall_ms for time in times)
    if not found.dead:
        return 0.0, "prior: runtimes fold most of it themselves"
    if whole > 0:
        # Runtimes that fuse may name what is left otherwise; then the share is too small.
        share = sum(time.wall_ms for time in times if time.name in found.dead) / whole
        return share, "measured time of the operators that go"
    return len(found.dead) / found.nodes[0], "number of nodes that go"


def _check_same(
    before: list[NDArray[Any]], after: list[NDArray[Any]], kept: tuple[int, ...]
) -> None:
    for index, found in zip(kept, after, strict=True):
        expected = before[index]
        if expected.shape != found.shape or expected.dtype != found.dtype:
            raise ModelError(
                f"Made smaller, the graph gives {found.dtype} of shape {found.shape} where "
                f"{expected.dtype} of shape {expected.shape} was expected; it is left as it is."
            )
        difference = _difference(expected, found)
        if not difference <= 1:
            raise ModelError(
                f"Made smaller, the graph's output {index} differs by {difference:.3g} times what "
                "arithmetic in another order may; it is left as it is."
            )


def _difference(expected: NDArray[Any], found: NDArray[Any]) -> float:
    """How much two outputs differ, where 1 is what is allowed."""
    if not expected.size:
        return 0.0
    if not np.issubdtype(expected.dtype, np.floating):
        return float(np.mean(expected != found)) / ID_TOLERANCE
    scale = max(float(np.abs(expected).max()), float(np.finfo(np.float32).tiny))
    return float(np.abs(expected - found).max()) / (TOLERANCE * scale)
