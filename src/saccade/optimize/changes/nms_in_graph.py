"""Let the runtime suppress boxes, as the last operator of the graph."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from typing import ClassVar

from saccade.models.families import FINAL_DECODES
from saccade.optimize.change import Effect, OneVariant, PlanContext, Prediction, by_stage
from saccade.pipeline.config import PipelineConfig
from saccade.tasks.nms import SUPPRESSED_DECODES

# Compiled code instead of Python, on the candidates only; the graph grows by some operators.
POSTPROCESS, POSTPROCESS_BEST = 0.5, 0.1
INFER, INFER_BEST = 1.01, 1.0
# Who puts NMS behind a model, and the package that it is made with, by the model's format.
MAKERS = {
    "onnx": ("saccade.models.nms_graph", "onnx"),
    "torch_export": ("saccade.models.torch_nms", "torchvision"),
}


@dataclass(frozen=True)
class SuppressInGraph(OneVariant):
    """NMS behind the model's outputs, which then are a handful of boxes.

    ONNX's NonMaxSuppression; behind a PyTorch model torchvision's NMS, on the model's device.
    Whether a runtime takes it, and whether that is faster, the trial tells. The file stays as it
    is: the operators are added when a session is opened, so that another score threshold only
    needs another session.
    """

    name: ClassVar[str] = "nms_in_graph"
    effect: ClassVar[Effect] = "exact"

    def applies(self, context: PlanContext) -> str | None:
        """Needs a detector whose boxes are in the graph and not suppressed there."""
        config = context.config
        decode = config.description.decode
        if config.nms == "graph":
            return "already in use"
        if decode in FINAL_DECODES:
            return f"the boxes of a {decode} model need no suppression"
        if decode not in SUPPRESSED_DECODES:
            return f"{config.task} suppresses no boxes"
        if config.model.format not in MAKERS:
            return f"the model is in {config.model.format} format, and this starts from ONNX"
        maker, package = MAKERS[config.model.format]
        if find_spec(package) is None:
            return f"{package} is not installed"
        if decode not in import_module(maker).SUPPRESSIBLE:
            return f"the outputs of a {decode} model are more, or less, than boxes and scores"
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
