"""Changes of weights start from the float model; what had been rounded is rounded again after."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from saccade.optimize.change import PlanContext
from saccade.optimize.quantization.recipe import Recipe
from saccade.pipeline.config import PipelineConfig

FLOAT = ("fp32", "fp16")


def is_float(config: PipelineConfig) -> bool:
    """Whether the model's weights are stored as floats."""
    return config.model.stored in FLOAT


def float_config(context: PlanContext) -> PipelineConfig | None:
    """The configuration with its model float again, read as that model has to be.

    Weights that were stored as fp16 count as float where there are no others. None where no float
    model is known.
    """
    config, before = context.config, context.unquantized
    if config.model.stored == "fp32":
        return config
    better = ("fp32",) if is_float(config) else FLOAT
    if before is not None and before.model.stored in better:
        return replace(config, model=before.model, description=before.description)
    return config if is_float(config) else None


def float_context(context: PlanContext) -> PlanContext | None:
    """The same situation before its model was rounded; None where that model is not known."""
    config = float_config(context)
    if config is None or config == context.config:
        return context if config is not None else None
    before = context.unquantized
    assert before is not None
    # The precision and the runtime's own settings belong to the model that they were chosen for.
    if before.model.format not in context.runtimes[config.runtime].formats:
        config = replace(config, runtime=before.runtime, options=before.options)
    options = replace(config.options, precision=before.options.precision)
    return replace(context, config=replace(config, options=options))


def why_not_rounded_again(context: PlanContext) -> str | None:
    """None where a changed model can be rounded as the one in use is, else the reason."""
    config = context.config
    if is_float(config):
        return None
    if float_config(context) is None:
        return f"no float model is known behind the one that is stored as {config.model.stored}"
    if config.model.stored == "int8_weights" or _how_quantized(context) is not None:
        return None
    return f"the model is quantized for {config.runtime}, in a way that is not on record"


def rounded_again(context: PlanContext, changed: PipelineConfig) -> PipelineConfig:
    """A changed float configuration, its model stored as that of the context is.

    Args:
        context: its configuration is the one in use, whose way of rounding is repeated.
        changed: the configuration with the changed float model.

    Raises:
        DataError: the calibration images do not suffice.
        RuntimeFailure: the library refused the model.
    """
    stored = context.config.model.stored
    again = stored == "int8_weights" or (stored == "fp16" and changed.model.format == "onnx")
    if again and changed.model.stored != stored:
        from saccade.optimize.quantization.weights import stored_file

        return replace(changed, model=stored_file(changed.model, stored, context.folder))
    if is_float(context.config):
        return changed
    from saccade.optimize.changes.int8 import QuantizeInt8

    how = _how_quantized(context)
    assert how is not None
    return QuantizeInt8(*how).apply(replace(context, config=changed, unquantized=changed))


def _how_quantized(context: PlanContext) -> tuple[str, Recipe] | None:
    """Quantizer and recipe of the int8 file in use, from the document beside it."""
    from saccade.optimize.quantization.make import made_by

    return made_by(Path(context.config.model.path))
