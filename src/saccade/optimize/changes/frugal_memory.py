"""Let the allocator give memory back, for a goal on peak memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from saccade.optimize.change import Effect, Ordinary, PlanContext, Prediction
from saccade.pipeline.allocator import has_mallopt
from saccade.pipeline.config import PipelineConfig

# Priors, from YOLOX-nano, MobileNetV2 and ResNet-50 in two runtimes (docs/decisions/0021).
SHRINKS, SHRINKS_WITHOUT_ARENA = 0.95, 0.92
SLOWER, SLOWER_WITHOUT_ARENA = 0.97, 0.8


@dataclass(frozen=True)
class FrugalMemory(Ordinary):
    """One malloc arena that gives memory back; in ONNX Runtime also without its own arena.

    ONNX Runtime's arena alone is no lever: without it, and with the allocator as it comes, the
    peak was higher (199 MB against 181 MB on YOLOX-nano), because every freed block stayed in
    malloc's hands.

    Attributes:
        arena: ONNX Runtime keeps its arena.
    """

    name: ClassVar[str] = "frugal_memory"
    effect: ClassVar[Effect] = "exact"

    arena: bool = True

    @classmethod
    def variants(cls, context: PlanContext) -> Iterable[Self]:
        """With ONNX Runtime's arena and, where that is the runtime, without."""
        yield cls(True)
        if context.config.runtime == "onnxruntime":
            yield cls(False)

    @property
    def label(self) -> str:
        """Name and what is given up."""
        return self.name if self.arena else f"{self.name}: without the runtime's arena"

    def applies(self, context: PlanContext) -> str | None:
        """Only where peak memory is too high: it makes nothing faster."""
        config = context.config
        if "peak_rss_mb" not in context.missed:
            return "it saves memory, not time, and no goal asks for that"
        if not has_mallopt():
            return "the C library of this system cannot be told (no mallopt)"
        if config.allocator == "frugal" and config.options.arena == self.arena:
            return "already in use"
        if config.allocator == "frugal" and self.arena:
            return "the arena was given up for less memory"
        return None

    def predict(self, context: PlanContext) -> Prediction:
        """By priors; what is left to give back depends on model and runtime."""
        shrinks = SHRINKS if self.arena else SHRINKS_WITHOUT_ARENA
        slower = SLOWER if self.arena else SLOWER_WITHOUT_ARENA
        basis = "prior: what malloc holds back, on three models"
        return Prediction(slower, 1.0, basis, shrinks={"peak_rss_mb": shrinks})

    def apply(self, context: PlanContext) -> PipelineConfig:
        """Set the allocator and the arena."""
        config = context.config
        options = replace(config.options, arena=self.arena)
        return replace(config, allocator="frugal", options=options)
