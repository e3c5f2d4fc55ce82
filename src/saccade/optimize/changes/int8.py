"""Quantize to int8 after training, with the repair ladder's settings as parameters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from saccade.models.families import BOX_DECODES
from saccade.optimize.change import Effect, Ordinary, PlanContext, Prediction, Tried
from saccade.optimize.changes.fp16_weights import SIZE as FP16_SIZE
from saccade.optimize.distill import Distillation
from saccade.optimize.float_model import float_config, is_float
from saccade.optimize.precision_gain import precision_prediction
from saccade.optimize.quantization.ladder import FIRST, Attempt, Situation, climb, closed
from saccade.optimize.quantization.overflow import products_overflow
from saccade.optimize.quantization.recipe import HEAD_FLOAT, OUTPUT_FLOAT, Recipe
from saccade.pipeline.config import PipelineConfig
from saccade.tasks.nms import SUPPRESSED_DECODES

if TYPE_CHECKING:
    from saccade.optimize.quantization.contract import Quantizer

QUANTIZED = "the model is quantized already, and no float model is known behind it"
# Calibration, range estimation and writing the file.
COST_S = 9.0
# A prior: int8 costs some detectors a point of mAP or more, and others nothing.
ODDS = 0.5
SIZE = 0.28
# What files take that int8 still makes smaller, of the size in fp32.
LARGER = {"fp32": 1.0, "fp16": FP16_SIZE}
# From one runtime's int8 to another's: which kernels are faster depends on the layers.
OTHER_KERNELS, OTHER_KERNELS_BOUND = 1.08, 2.0
# From one quantizer's file to another's for the same runtime.
SAME_KERNELS, SAME_KERNELS_BOUND = 1.03, 1.3


@dataclass(frozen=True)
class QuantizeInt8(Ordinary):
    """Post-training quantization for a runtime, weights per channel, on real frames.

    It rounds, more coarsely than bf16, so the search may keep it for as long as labels do not
    speak against it; on unseen data its loss must be bounded like everything else, and it is the
    first change to be taken back there. A decoding that can be cut out of the graph is cut out
    before: it leaves the output layers nothing that int8 could not represent.

    Attributes:
        quantizer: name in the table of plug-ins; the configuration moves to its runtime.
        recipe: how to quantize.
        rung: step of the repair ladder that the recipe belongs to.
    """

    name: ClassVar[str] = "int8"
    effect: ClassVar[Effect] = "near_lossless"

    quantizer: str
    recipe: Recipe = field(default_factory=Recipe)
    rung: str = FIRST

    @classmethod
    def variants(cls, context: PlanContext) -> Iterable[Self]:
        """The first rung of every quantizer; the search climbs where accuracy asks for it."""
        from saccade import plugins

        config = context.config if is_float(context.config) else context.unquantized
        depth = 0 if config is None or _raw_outputs(_nms_outside(config)) else OUTPUT_FLOAT
        attends = context.config.description.decode == "detr"
        first = Recipe(float_depth=depth, transformer=attends, halved=products_overflow())
        for quantizer in plugins.names("quantizers"):
            yield cls(quantizer, first)

    @property
    def label(self) -> str:
        """Name, quantizer and what is special about the recipe."""
        return f"int8: {self.quantizer}, {self.recipe.label}"

    @property
    def runtime(self) -> str:
        """Whose int8 file is made."""
        return str(self._loaded.runtime)

    @property
    def _loaded(self) -> type[Quantizer]:
        from saccade import plugins

        found: type[Quantizer] = plugins.load("quantizers", self.quantizer)
        return found

    def next_rung(self, tried: Sequence[Tried], context: PlanContext) -> QuantizeInt8 | None:
        """What to try when this one costs too much accuracy; None at the top."""
        attempts = [Attempt(t.change.recipe, t.change.rung, t.drop) for t in tried]
        rung, recipe = next(climb(attempts, _situation(self.quantizer, context)), (None, None))
        return QuantizeInt8(self.quantizer, recipe, rung) if rung and recipe else None

    def closed_rungs(self, context: PlanContext) -> Sequence[tuple[str, str]]:
        """Training, for a model whose weights cannot be trained."""
        return tuple(closed(_situation(self.quantizer, context)))

    def applies(self, context: PlanContext) -> str | None:
        """Needs a float ONNX model, the quantizer, its runtime, and frames to calibrate on."""
        from saccade.optimize.quantization.checked import why_not_calibrated

        available = context.runtimes.get(self.runtime)
        if available is None or not available.ok:
            return f"{self.runtime} is not installed"
        config = float_config(context)
        if config is None and context.config.model.quantized:
            return QUANTIZED
        if config is None:
            return f"the model's weights are stored as {context.config.model.stored}"
        if context.config.model.quantized and self._in_use(context):
            return f"the model is quantized for {self.runtime} already"
        if config.model.format != "onnx":
            return f"the model is in {config.model.format} format"
        if context.config.runtime != self.runtime and not self._first:
            return f"another recipe for {self.runtime} comes first, as that is not in use"
        missing = self._loaded.missing()
        if missing is not None:
            return f"{missing} is not installed (pip install 'saccade[{self._loaded.extra}]')"
        return why_not_calibrated(context) or (
            f"{self.runtime} has no fast int8 on this CPU"
            if "int8" not in available.precisions
            else None
        )

    def predict(self, context: PlanContext) -> Prediction:
        """By the measured peaks of this machine; between int8 files of two runtimes, by a prior."""
        if context.config.model.quantized and context.config.runtime == self.runtime:
            basis = "prior: the same kernels, of which another recipe may use more"
            return Prediction(SAME_KERNELS, SAME_KERNELS_BOUND, basis, self._cost_s, ODDS)
        if context.config.model.quantized:
            basis = "prior: which int8 kernels are faster depends on the layers"
            return Prediction(OTHER_KERNELS, OTHER_KERNELS_BOUND, basis, self._cost_s, ODDS)
        prediction = precision_prediction(context, "int8", bytes_factor=0.5, cost_s=self._cost_s)
        size = LARGER.get(context.config.model.stored)
        shrinks = {"model_mb": SIZE / size} if size else {}
        return replace(prediction, odds=ODDS, shrinks=shrinks)

    @property
    def _cost_s(self) -> float:
        return COST_S + (Distillation.budget_s if self.recipe.trained else 0.0)

    def apply(self, context: PlanContext) -> PipelineConfig:
        """Quantize in a process of its own and point the configuration at the new file.

        Where only output layers or the few most sensitive ones stay float they run in fp32, which
        keeps them as exact as they were; half a model in fp32 would cost what int8 gains.
        """
        from saccade.optimize.quantization.make import quantized_file

        config = self._to_quantize(context)
        model = quantized_file(replace(context, config=config), self.quantizer, self.recipe)
        options = replace(config.options, precision=self._precision(context, config))
        return replace(config, model=model, options=options)

    def details(self, context: PlanContext) -> dict[str, Any]:
        """What was measured on the way: sensitivity per layer, what stayed float, doubts."""
        from saccade.optimize.quantization.make import details_of, quantized_path

        config = self._to_quantize(context)
        found = quantized_path(replace(context, config=config), self.quantizer, self.recipe)
        return details_of(found)

    def _to_quantize(self, context: PlanContext) -> PipelineConfig:
        """The float configuration in this runtime, its decoding cut out where that is possible."""
        from saccade.optimize.raw_decoding import why_not_raw, with_raw_decoding

        config = float_config(context)
        assert config is not None
        config = _nms_outside(config)
        if why_not_raw(config) is None:
            config = with_raw_decoding(config, context.folder)
        if config.runtime == self.runtime:
            return config
        options = replace(config.options, graph_level="default")
        return replace(config, runtime=self.runtime, options=options)

    @property
    def _first(self) -> bool:
        """Whether this quantizer is the one that its runtime is tried with."""
        from saccade import plugins

        runtimes = {n: plugins.load("quantizers", n).runtime for n in plugins.names("quantizers")}
        return next(n for n, r in runtimes.items() if r == self.runtime) == self.quantizer

    def _in_use(self, context: PlanContext) -> bool:
        """Whether the int8 file in use is this quantizer's, or it is not known whose it is."""
        from saccade.optimize.quantization.make import made_by

        if context.config.runtime != self.runtime:
            return False
        made = made_by(Path(context.config.model.path))
        return made is None or made[0] == self.quantizer

    def _precision(self, context: PlanContext, config: PipelineConfig) -> Any:
        offered = context.runtimes[self.runtime].precisions
        large = self.recipe.sensitive == "mixed" or self.recipe.float_depth >= HEAD_FLOAT
        if large and "bf16" in offered and (self.recipe.sensitive == "mixed" or _bf16(context)):
            return "bf16"
        return "fp32"


def _bf16(context: PlanContext) -> bool:
    return context.config.options.precision == "bf16"


def _situation(quantizer: str, context: PlanContext) -> Situation:
    from saccade import plugins
    from saccade.optimize.quantization.training import why_not_trained

    config = float_config(context) or context.config
    loaded: type[Quantizer] = plugins.load("quantizers", quantizer)
    return Situation(
        estimators=loaded.estimators,
        has_head=config.description.decode in SUPPRESSED_DECODES.union(BOX_DECODES),
        images=len(context.calibration) if context.calibration else 0,
        why_not_trained=why_not_trained(config, loaded.runtime),
    )


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
