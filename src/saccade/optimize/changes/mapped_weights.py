"""Keep an ONNX model's weights in a file beside it, which is mapped and not read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from saccade.optimize.change import Effect, OneVariant, PlanContext, Prediction
from saccade.pipeline.config import PipelineConfig

COST_S = 3.0
# Smaller weights than this share of the process are not worth two files.
LEAST_SHARE = 0.02
# Copies of the weights that reading one file costs at the peak, measured on ResNet-50: 312 MB
# against 228 MB with 102 MB of weights.
COPIES_SAVED = 0.8


@dataclass(frozen=True)
class MapWeights(OneVariant):
    """Weights as ONNX external data.

    In one file they are bytes of a message that is parsed into memory, and the runtime copies
    what it executes from that; in a file of their own they are mapped, and only what is copied
    counts.
    """

    name: ClassVar[str] = "mapped_weights"
    effect: ClassVar[Effect] = "exact"

    def applies(self, context: PlanContext) -> str | None:
        """Where peak memory is too high and the weights are a part of it."""
        config = context.config
        if "peak_rss_mb" not in context.missed:
            return "it saves memory, not time, and no goal asks for that"
        if config.model.format != "onnx":
            return f"the model is in {config.model.format} format"
        if config.runtime != "onnxruntime":
            return f"{config.runtime} copies the weights all the same"
        if config.model.weights is not None or config.model.external_bytes:
            return "already in use"
        share = self._share(context)
        if share < LEAST_SHARE:
            return f"the weights are {share:.1%} of the memory in use"
        return None

    def predict(self, context: PlanContext) -> Prediction:
        """By the size of the weights against the memory in use."""
        share = self._share(context)
        basis = f"weights are {share:.0%} of the memory in use, and are held more than once"
        shrinks = max(0.4, 1 - COPIES_SAVED * share)
        return Prediction(1.0, 1.0, basis, COST_S, shrinks={"peak_rss_mb": shrinks})

    def apply(self, context: PlanContext) -> PipelineConfig:
        """Write the model and its weights apart."""
        from saccade.optimize.quantization.weights import mapped_file

        return replace(context.config, model=mapped_file(context.config.model, context.folder))

    def _share(self, context: PlanContext) -> float:
        resident = max((s.rss_mb for s in context.profile.resources), default=0.0)
        size = context.config.model.size_mb
        return size / max(resident, size)  # where memory was not seen, it is all there is
