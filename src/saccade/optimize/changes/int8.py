"""Quantize to int8 after training, with the repair ladder's settings as parameters."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from saccade.optimize.change import Effect, PlanContext, Prediction
from saccade.optimize.precision_gain import precision_prediction
from saccade.pipeline.config import PipelineConfig
from saccade.tasks.nms import SUPPRESSED_DECODES

# Calibration, range estimation and writing the file.
COST_S = 9.0
# A prior: int8 costs some detectors a point of mAP or more, and others nothing.
ODDS = 0.5


@dataclass(frozen=True)
class QuantizeInt8:
    """NNCF post-training quantization, weights per channel, on real frames.

    It rounds, more coarsely than bf16, so the search may keep it for as long as labels do not
    speak against it; on unseen data its loss must be bounded like everything else, and it is the
    first change to be taken back there. A decoding that can be cut out of the graph is cut out
    before: it leaves the output layers nothing that int8 could not represent.

    Attributes:
        rung: step of the repair ladder, see `saccade.optimize.quantize.RUNGS`.
    """

    name: ClassVar[str] = "int8"
    effect: ClassVar[Effect] = "near_lossless"

    rung: int = 0

    @classmethod
    def variants(cls, context: PlanContext) -> Iterable[Self]:
        """The first rung; the search climbs further where accuracy asks for it."""
        from saccade.optimize.quantize import EVERYTHING, OUTPUT_FLOAT

        raw = _raw_outputs(_nms_outside(context.config))
        return [cls(EVERYTHING if raw else OUTPUT_FLOAT)]

    @property
    def label(self) -> str:
        """Name and what is left out."""
        from saccade.optimize.quantize import RUNGS

        return f"int8: {RUNGS[self.rung]}"

    @property
    def next_rung(self) -> QuantizeInt8 | None:
        """What to try when this one costs too much accuracy; None at the top."""
        from saccade.optimize.quantize import RUNGS

        return QuantizeInt8(self.rung + 1) if self.rung + 1 < len(RUNGS) else None

    def applies(self, context: PlanContext) -> str | None:
        """Needs an fp32 ONNX model, NNCF, and frames to calibrate on."""
        from importlib.util import find_spec

        config = context.config
        if config.model.format != "onnx":
            return "the model is quantized already"
        if config.runtime != "openvino":
            return (
                "NNCF's int8 files are slower than fp32 in ONNX Runtime; switch to OpenVINO first"
            )
        if find_spec("nncf") is None:
            return "nncf is not installed (pip install 'saccade[openvino]')"
        if not context.calibration and not context.video:
            return "there are no images to calibrate on"
        if "int8" not in context.runtimes[config.runtime].precisions:
            return f"{config.runtime} has no fast int8 on this CPU"
        return None

    def predict(self, context: PlanContext) -> Prediction:
        """By the measured peaks of this machine."""
        prediction = precision_prediction(context, "int8", bytes_factor=0.5, cost_s=COST_S)
        return replace(prediction, odds=ODDS)

    def apply(self, context: PlanContext) -> PipelineConfig:
        """Quantize in a process of its own and point the configuration at the new file.

        Output layers are small, so where only they stay float they run in fp32, which keeps the
        boxes as exact as they were; a whole head in fp32 would cost what int8 gains.
        """
        from saccade.optimize.quantize import OUTPUT_FLOAT, quantize
        from saccade.optimize.raw_decoding import why_not_raw, with_raw_decoding

        config = _nms_outside(context.config)
        if why_not_raw(config) is None:
            config = with_raw_decoding(config, context.folder)
        model = quantize(replace(context, config=config), self.rung)
        if self.rung <= OUTPUT_FLOAT:
            config = replace(config, options=replace(config.options, precision="fp32"))
        return replace(config, model=model)


def _nms_outside(config: PipelineConfig) -> PipelineConfig:
    """The configuration with NMS taken out of the graph: it is put into ONNX models only."""
    return replace(config, nms="vectorized") if config.nms == "graph" else config


def _raw_outputs(config: PipelineConfig) -> bool:
    """Whether int8 may go up to the outputs: they hold no boxes, or raw maps of them."""
    from saccade.models.raw_head import RAW_DECODES
    from saccade.optimize.raw_decoding import why_not_raw

    decode = config.description.decode
    if decode not in SUPPRESSED_DECODES:
        return True
    return decode in RAW_DECODES.values() or why_not_raw(config) is None
