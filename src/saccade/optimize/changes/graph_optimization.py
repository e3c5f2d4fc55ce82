"""How ONNX Runtime rewrites the graph: for a fixed input shape, and less of it than it can."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

from saccade.optimize.change import Effect, Ordinary, PlanContext, Prediction, by_stage
from saccade.pipeline.config import PipelineConfig

Level = Literal["all", "extended", "basic"]

FACTOR, BEST_CASE = 0.97, 0.85
# Of inference, what may be gained where kernels of the plain layout, or unfused ones, are faster.
# Rarely so; the trial decides.
LESS_FACTOR, LESS_BEST = 1.0, 0.9
STATIC = "static"
# Operators that only these steps write, by the beginning of their kind in ONNX Runtime's profile.
REORDERS, FUSED = ("Reorder",), ("Fused", "BiasGelu", "FastGelu", "QuickGelu")
# Of operator time, what they must take before a trial without them is worth its seconds. Reorders
# took 1 to 2% of YOLOX-nano and ESPNet, which were faster with them (in all 1.7 and 1.1 times);
# fused kernels pay where they are not the bulk of the work themselves.
LEAST_REORDERS, LEAST_FUSED = 0.03, 0.25


@dataclass(frozen=True)
class OptimizeGraph(Ordinary):
    """ONNX Runtime with a fixed input shape, or without some of its graph optimizations.

    Its highest level puts channels into blocks, as wide as a vector, and pays with reorders where
    an operator does not know them; ``"extended"`` does without. ``"basic"`` also leaves out fused
    operators, which have kernels of their own.

    Attributes:
        level: what is left in; ``"all"`` fixes the shape, where it is open.
    """

    name: ClassVar[str] = "graph_optimization"
    effect: ClassVar[Effect] = "exact"

    level: Level = "all"

    @classmethod
    def variants(cls, context: PlanContext) -> Iterable[Self]:
        """The fixed shape, and both lower levels."""
        return [cls("all"), cls("extended"), cls("basic")]

    @property
    def label(self) -> str:
        """Name and what is changed."""
        return f"{self.name}: {'fixed shape' if self.level == 'all' else self.level}"

    def applies(self, context: PlanContext) -> str | None:
        """Only ONNX Runtime has levels, and leaves a dynamic shape dynamic."""
        config = context.config
        if config.runtime != "onnxruntime":
            return f"{config.runtime} already compiles for the stream's shape"
        if self.level != "all":
            return self._why_not_less(context)
        if not config.description.input.dynamic:
            return "the model's shape is fixed already"
        if config.options.graph_level.startswith(STATIC):
            return "already in use"
        return None

    def _why_not_less(self, context: PlanContext) -> str | None:
        """Without operators of the step that is left out, nothing would change."""
        now = context.config.options.graph_level
        if now.endswith(self.level):
            return "already in use"
        if now not in ("default", "all", STATIC, f"{STATIC}_extended", "extended"):
            return f"the graph is optimized less already ({now})"
        if self.level == "extended" and _written(context, REORDERS) < LEAST_REORDERS:
            return "reorders of the memory layout, which it would leave out, take next to nothing"
        if self.level == "basic" and context.config.model.quantized:
            return "int8 operators are fused from the file's, which it would leave out"
        if self.level == "basic" and _written(context, FUSED) < LEAST_FUSED:
            return "fused operators, which it would leave out, are not what takes the time"
        return None

    def predict(self, context: PlanContext) -> Prediction:
        """A little less time between operators; for lower levels, the measured reorders."""
        if self.level == "all":
            return by_stage(context, {"infer": FACTOR}, "prior", {"infer": BEST_CASE})
        if self.level == "basic":
            basis = "prior: fused kernels are rarely slower"
            return by_stage(context, {"infer": LESS_FACTOR}, basis, {"infer": LESS_BEST})
        share = _written(context, REORDERS)
        basis = f"reorders take {share:.0%} of inference; what the blocks gain elsewhere is lost"
        best = LESS_BEST * (1 - share)
        return by_stage(context, {"infer": LESS_FACTOR}, basis, {"infer": best})

    def apply(self, context: PlanContext) -> PipelineConfig:
        """Ask for the level; a shape that was fixed stays so."""
        config = context.config
        fixed = config.options.graph_level.startswith(STATIC)
        level: str = STATIC if self.level == "all" else self.level
        if fixed and self.level != "all":
            level = f"{STATIC}_{self.level}"
        return replace(config, options=replace(config.options, graph_level=level))


def _written(context: PlanContext, kinds: tuple[str, ...]) -> float:
    """Share 0-1 of operator time that goes into operators of these kinds."""
    times = context.profile.operators
    whole = sum(time.wall_ms for time in times)
    there = sum(time.wall_ms for time in times if time.kind.startswith(kinds))
    return there / whole if whole > 0 else 0.0
