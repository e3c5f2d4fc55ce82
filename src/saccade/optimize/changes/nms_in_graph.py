"""Let the runtime suppress boxes, as the last operator of the graph."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from saccade.models.families import FINAL_DECODES
from saccade.optimize.change import Effect, OneVariant, PlanContext, Prediction, by_stage
from saccade.pipeline.config import PipelineConfig

# Compiled code instead of Python, on the candidates only; the graph grows by some operators.
POSTPROCESS, POSTPROCESS_BEST = 0.5, 0.1
INFER, INFER_BEST = 1.01, 1.0


@dataclass(frozen=True)
class SuppressInGraph(OneVariant):
    """ONNX NonMaxSuppression behind the model's outputs, which then are a handful of boxes.

    Whether a runtime takes it, and whether that is faster, the trial tells. The file stays as it
    is: the operators are added when a session is opened, so that another score threshold only
    needs another session.
    """

    name: ClassVar[str] = "nms_in_graph"
    effect: ClassVar[Effect] = "exact"

    def applies(self, context: PlanContext) -> str | None:
        """Needs an ONNX detector whose boxes are in the graph and not suppressed there."""
        from saccade.models.nms_graph import SUPPRESSIBLE

        config = context.config
        decode = config.description.decode
        if config.task != "detection":
            return f"{config.task} suppresses no boxes"
        if config.nms == "graph":
            return "already in use"
        if decode in FINAL_DECODES:
            return f"the boxes of a {decode} model need no suppression"
        if decode not in SUPPRESSIBLE:
            return f"the outputs of a {decode} model are no boxes yet"
        if config.model.format != "onnx":
            return "the model was converted already"
        return None

    def predict(self, context: PlanContext) -> Prediction:
        """Less Python after the model, a little more in it."""
        return by_stage(
            context,
            {"postprocess": POSTPROCESS, "infer": INFER},
            "prior",
            {"postprocess": POSTPROCESS_BEST, "infer": INFER_BEST},
        )

    def apply(self, context: PlanContext) -> PipelineConfig:
        """Ask for NMS in the graph."""
        return replace(context.config, nms="graph")
