"""One inference for both tasks: one model file with both outputs and one of all they share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Self

from saccade.errors import ModelError
from saccade.models.description import InputSpec
from saccade.models.files import model_file
from saccade.optimize.change import Effect, Prediction
from saccade.optimize.sharing.contract import SharingContext
from saccade.optimize.sharing.cost import SystemCost
from saccade.optimize.sharing.decode import decoded_once, why_not_once
from saccade.optimize.sharing.geometry import why_other_geometry
from saccade.optimize.sharing.preprocess import scaled_first
from saccade.pipeline.config import ModelFile, PipelineConfig, digest
from saccade.pipeline.system import SystemConfig

METHOD = "one pass 2"
# What a runtime may save beside the arithmetic: one start and one end of an inference.
BEST_CASE = 0.9


@dataclass(frozen=True)
class OnePass:
    """Both graphs in one, with what is equal in both kept once.

    Attributes:
        runs_as: whose runtime and options it runs with, 0 or 1.
        how: them, for people; empty where both run alike.
    """

    name: ClassVar[str] = "one_pass"
    effect: ClassVar[Effect] = "exact"

    runs_as: int = 0
    how: str = ""

    @classmethod
    def variants(cls, context: SharingContext) -> Iterable[Self]:
        """The runtime of each, where they differ."""
        first, second = context.config.parts
        if running(first) == running(second):
            return [cls()]
        return [
            cls(part, f"{config.runtime} {config.options.precision} as {config.task}")
            for part, config in enumerate(context.config.parts)
        ]

    @property
    def label(self) -> str:
        """Name and how it runs."""
        return f"{self.name}: {self.how}" if self.how else self.name

    def applies(self, context: SharingContext) -> str | None:
        """Both models are float ONNX, see frames alike, and neither has its own place to run."""
        parts = context.config.parts
        if context.config.sharing.one_pass:
            return "already in use"
        reason = why_not_once(context)
        if reason is not None:
            return reason
        reason = why_other_geometry(parts, context.plans[0].frame_hw)
        if reason is not None:
            return reason
        for part in parts:
            if part.model.format != "onnx":
                return f"the model of {part.task} is in {part.model.format} format"
        chosen, other = parts[self.runs_as], parts[1 - self.runs_as]
        if other.model.quantized and chosen.runtime != other.runtime:
            return f"the model of {other.task} was quantized for {other.runtime}"
        if "onnx" not in context.plans[self.runs_as].runtimes[chosen.runtime].formats:
            return f"{chosen.runtime} does not take ONNX"
        return None

    def cost(self, context: SharingContext) -> SystemCost:
        """Work that is done once, and one preprocessing."""
        left = work_left(context.config.parts, _input_hw(context))
        once = decoded_once(context).cost
        return once.scaled(1, "preprocess", 0.0).scaled(1, "infer", left)

    def predict(self, context: SharingContext) -> Prediction:
        """By the operations of both graphs and of the merged one."""
        cost = self.cost(context)
        left = work_left(context.config.parts, _input_hw(context))
        best = cost.scaled(0, "infer", BEST_CASE).scaled(1, "infer", BEST_CASE)
        said = (
            f"{1 - left:.0%} of {context.tasks[1]}'s operations are {context.tasks[0]}'s too"
            if left < 1
            else "the graphs have nothing in common but their input"
        )
        return Prediction(context.gain(cost), context.gain(best), said)

    def apply(self, context: SharingContext) -> SystemConfig:
        """Write the merged model, after it was seen to answer as both.

        Raises:
            ModelError: the graphs cannot be merged, or then answer differently.
        """
        first, second = (
            scaled_first(_nms_outside(part)) for part in decoded_once(context).config.parts
        )
        path = _merged_file(context, (first, second))
        outputs = len(_read(first.model).graph.output)
        return one_model((first, second), model_file(path), outputs, self.runs_as, context)


def one_model(
    parts: tuple[PipelineConfig, PipelineConfig],
    model: ModelFile,
    first_outputs: int,
    runs_as: int,
    context: SharingContext,
) -> SystemConfig:
    """The system in which one model file answers for both.

    Args:
        parts: both pipelines, as far as they are not changed by this.
        model: the file; its input is fed as the first's.
        first_outputs: how many of its outputs are the first's.
        runs_as: whose runtime and options are used.
        context: its sharing is kept.
    """
    stored = "int8" if any(part.model.quantized for part in parts) else model.stored
    chosen = parts[runs_as]
    spec = _fixed_input([part.description.input for part in parts], _input_hw(context))
    first, second = (
        replace(
            part,
            model=replace(model, stored=stored),
            runtime=chosen.runtime,
            options=chosen.options,
            description=replace(part.description, input=spec),
            # One thread feeds the one model, so both wait in one queue.
            execution=chosen.execution,
            queue_depth=chosen.queue_depth,
        )
        for part in parts
    )
    sharing = replace(context.config.sharing, decode=True, first_outputs=first_outputs)
    return SystemConfig((first, second), replace(sharing, preprocess=False))


def running(config: PipelineConfig) -> tuple[Any, ...]:
    """What decides how a model is executed."""
    return config.runtime, config.options, config.execution, config.queue_depth


def work_left(parts: tuple[PipelineConfig, PipelineConfig], hw: tuple[int, int]) -> float:
    """Share of the second model's operations that merging leaves; 1 where that is not known."""
    first, second = (part.model for part in parts)
    return _work_left(first.path, second.path, first.sha256 + second.sha256, _merge_key(parts), hw)


@lru_cache(maxsize=8)
def _work_left(
    first: str, second: str, content: str, merge: _MergeKey, hw: tuple[int, int]
) -> float:
    from saccade.models.onnx_file import read_onnx
    from saccade.models.reshape import at_size
    from saccade.profile.flops import operator_work

    try:
        graphs = [at_size(read_onnx(path), hw) for path in (first, second)]
        together = _merge(graphs, merge)
        mine, theirs, both = (
            sum(work.flops for work in operator_work(graph, hw).values())
            for graph in (*graphs, together)
        )
    except ModelError:
        return 1.0
    return min(1.0, max(0.0, (both - mine) / theirs)) if theirs else 1.0


# What a merge depends on beside the graphs: names of the inputs, and both preprocessings.
_MergeKey = tuple[tuple[str, str], tuple[Any, Any]]


def _merge_key(parts: tuple[PipelineConfig, PipelineConfig]) -> _MergeKey:
    first, second = (part.description for part in parts)
    names = first.input.name, second.input.name
    return names, (first.preprocessing, second.preprocessing)


def _merge(graphs: Any, merge: _MergeKey) -> Any:
    from saccade.models.merged_graph import merged

    first, second = graphs
    return merged(first, second, *merge)


def _merged_file(context: SharingContext, parts: tuple[PipelineConfig, PipelineConfig]) -> Path:
    from saccade.models.equivalence import check_same
    from saccade.models.onnx_run import run_once
    from saccade.models.onnx_save import save_onnx
    from saccade.models.reshape import at_size
    from saccade.optimize.real_inputs import real_inputs

    names, preprocessing = merge = _merge_key(parts)
    folder, hw = context.plans[0].folder, _input_hw(context)
    content = [*(part.model.sha256 for part in parts), *hw]
    target = (
        folder / f"both-{digest([*content, names, list(map(repr, preprocessing)), METHOD])}.onnx"
    )
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    graphs = [at_size(_read(part.model), hw) for part in parts]
    both = _merge(graphs, merge)
    fed = [real_inputs(replace(context.plans[0], config=part), 2, hw) for part in parts]
    for tensor, other in zip(*fed, strict=True):
        expected = [
            *run_once(graphs[0], {names[0]: tensor[None]}),
            *run_once(graphs[1], {names[1]: other[None]}),
        ]
        check_same(expected, run_once(both, {names[0]: tensor[None]}), "The merged model")
    save_onnx(both, target)
    return target


def _read(model: ModelFile) -> Any:
    from saccade.models.onnx_file import read_onnx

    return read_onnx(model.path)


def _input_hw(context: SharingContext) -> tuple[int, int]:
    from saccade.pipeline.pipeline import letterbox_of

    return letterbox_of(context.config.parts[0], context.plans[0].frame_hw).input_hw


def _nms_outside(config: PipelineConfig) -> PipelineConfig:
    """NMS at the end of a graph has to know where its outputs are; outside it finds the same."""
    return replace(config, nms="top_k") if config.nms == "graph" else config


def _fixed_input(inputs: list[InputSpec], hw: tuple[int, int]) -> InputSpec:
    """The first's input, of fixed shape where that of either is."""
    mine = inputs[0]
    if all(spec.dynamic for spec in inputs):
        return mine
    return replace(mine, shape=(*mine.shape[:2], *hw))
