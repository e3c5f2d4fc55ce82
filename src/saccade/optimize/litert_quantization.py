"""Full-integer quantization of LiteRT models, in a process of its own; files are used again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from saccade.models.files import model_file
from saccade.optimize.change import PlanContext
from saccade.optimize.litert_activations import observe_litert
from saccade.optimize.litert_calibrated import Calibrated, in_order
from saccade.optimize.litert_recipe import LiteRtRecipe
from saccade.optimize.litert_sensitivity import measure
from saccade.optimize.quantization.activations import Ranges
from saccade.optimize.quantization.calibration import CalibrationData, calibration_tensors
from saccade.optimize.quantization.checked import check_calibration, spread
from saccade.optimize.quantization.kept_float import kept_float
from saccade.optimize.quantization.make import (
    calibration_data,
    calibration_key,
    details_path,
    ranked_or_cached,
    write_details,
)
from saccade.optimize.quantization.recipe import Recipe
from saccade.optimize.quantization.sensitivity import Sensitivity
from saccade.optimize.workshop import workshop
from saccade.pipeline.config import ModelFile, PipelineConfig, digest

# Part of a file's name: raised when the same settings are made in another way.
METHOD = "per image, bias corrected 3"
TIMEOUT_S = 600.0
WORKER = "saccade.optimize.litert_quantization:LiteRtQuantizer"


def quantize_litert(context: PlanContext, recipe: LiteRtRecipe) -> ModelFile:
    """Quantize the context's ``.tflite`` model; a file that is already there is used again.

    Args:
        context: whose model is float, with images or video to calibrate on.
        recipe: how.

    Raises:
        DataError: the calibration images are too few, or not of the kind the model is used on.
        ModelError: the quantizer refused the model.
        RuntimeFailure: there are no frames, or the process failed.
    """
    target = quantized_path(context, recipe)
    if not details_path(target).exists():
        context.folder.mkdir(parents=True, exist_ok=True)
        data = calibration_data(context, Recipe())
        write_quantized(context.config, data, recipe, target)
    return stored_int8(target)


def quantized_path(context: PlanContext, recipe: LiteRtRecipe) -> Path:
    """Where the file is or will be: equal path means equal file."""
    calibrated = calibration_key(context.config, calibration_data(context, Recipe()))
    key = digest([context.config.model.sha256, METHOD, asdict(recipe), calibrated])
    return context.folder / f"int8-{key}.tflite"


def write_quantized(
    config: PipelineConfig, data: CalibrationData, recipe: LiteRtRecipe, target: Path
) -> None:
    """Quantize in a process of its own.

    Args:
        config: how the float ``.tflite`` model runs.
        data: what to calibrate on.
        recipe: how.
        target: where to write; what is known of the file goes beside it.

    Raises:
        DataError: the calibration images are too few, or not of the kind the model is used on.
        ModelError: the quantizer refused the model.
        RuntimeFailure: there are no frames, or the process failed.
    """
    with workshop(WORKER, config.preprocessor) as worker:
        worker.call("run", config, data, recipe, str(target), timeout_s=TIMEOUT_S)


def stored_int8(path: Path) -> ModelFile:
    """A quantized file, marked as such."""
    found = model_file(path)
    return ModelFile(found.path, found.sha256, found.format, stored="int8")


class LiteRtQuantizer:
    """Runs a job. Lives in a worker process, because the quantizer is heavy and may fail."""

    def run(
        self, config: PipelineConfig, data: CalibrationData, recipe: LiteRtRecipe, target: str
    ) -> None:
        """Quantize and write the file whole or not at all and, last, the document beside it."""
        began = time.monotonic()
        path, model = Path(target), Path(config.model.path)
        samples = calibration_tensors(config, data)
        observe = partial(_observed, model)
        doubts = check_calibration(config, data, observe(spread(samples)), observe)
        calibrated = Calibrated.of(model, samples, recipe)
        ranked: list[Sensitivity] = []
        if recipe.sensitive != "none":
            calibrated_on = calibration_key(config, data)
            # Ports are left out: one layer alone is measured between float ports.
            key = digest([config.model.sha256, METHOD, recipe.ranges, calibrated_on])
            cache = path.with_name(f"sensitivity-{key}.json")
            ranked = ranked_or_cached(cache, partial(measure, calibrated))
        kept = kept_float(recipe.sensitive, ranked)
        draft = path.with_name("partial-" + path.name)
        draft.write_bytes(calibrated.quantized(recipe, kept))
        draft.replace(path)
        document = {
            "recipe": recipe.label,
            "images": len(samples),
            "float_layers": kept,
            "sensitivity": [asdict(item) for item in ranked],
            "doubts": doubts,
            "wall_s": time.monotonic() - began,
        }
        write_details(details_path(path), document)


def _observed(model: Path, samples: Sequence[NDArray[np.float32]]) -> Ranges:
    return observe_litert(model, in_order(model, samples))
