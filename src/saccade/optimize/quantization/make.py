"""Carry out a recipe in a process of its own; a file that is already there is used again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import onnx

from saccade import plugins
from saccade.data.contract import FrameOf
from saccade.data.sequences import clips_of
from saccade.errors import RuntimeFailure
from saccade.models.files import model_file
from saccade.optimize.change import PlanContext
from saccade.optimize.model_inputs import feeding
from saccade.optimize.quantization.activations import observe
from saccade.optimize.quantization.calibration import (
    COMPARED,
    CalibrationData,
    calibration_tensors,
)
from saccade.optimize.quantization.checked import check_calibration
from saccade.optimize.quantization.contract import Quantizer, Samples
from saccade.optimize.quantization.equalize import equalized
from saccade.optimize.quantization.kept_float import kept_float
from saccade.optimize.quantization.layer_times import LayerTime
from saccade.optimize.quantization.layer_times import measure as measure_times
from saccade.optimize.quantization.layers import named
from saccade.optimize.quantization.prepared import float_model
from saccade.optimize.quantization.recipe import Recipe
from saccade.optimize.quantization.sensitivity import BUDGET_S, SHOWN_S, Sensitivity, measure
from saccade.optimize.quantization.training import train
from saccade.optimize.workshop import workshop
from saccade.pipeline.config import ModelFile, PipelineConfig, digest
from saccade.runtimes.openvino_core import openvino_core

# Part of a file's name: raised when the same recipe is made in another way.
METHOD = "recipes 2"
TIMEOUT_S = 420.0
_Item = TypeVar("_Item", LayerTime, Sensitivity)
WORKER = "saccade.optimize.quantization.make:QuantizationWorker"


@dataclass(frozen=True)
class QuantizationJob:
    """What to quantize, how, and on what.

    Attributes:
        quantizer: name in the table of plug-ins.
        cache: file for the measured sensitivity, which several recipes share.
        shows_layers: measure sensitivity also where the recipe needs none and it takes but seconds,
            for people; whatever recipe comes next finds it.
        compared: for recipes that leave layers float which int8 makes no faster.
    """

    config: PipelineConfig
    quantizer: str
    recipe: Recipe
    data: CalibrationData
    cache: Path
    shows_layers: bool = False
    compared: Compared | None = None


@dataclass(frozen=True)
class Compared:
    """What tells where int8 pays.

    Attributes:
        whole: the model with every layer rounded that can be.
        cache: file for the measured times of layers, which several recipes share.
    """

    whole: ModelFile
    cache: Path


def quantized_file(context: PlanContext, quantizer: str, recipe: Recipe) -> ModelFile:
    """The context's model, quantized.

    Raises:
        DataError: the calibration images are too few, or not of the kind the model is used on.
        RuntimeFailure: the library refused the model.
    """
    target = quantized_path(context, quantizer, recipe)
    if not details_path(target).exists():
        context.folder.mkdir(parents=True, exist_ok=True)
        config = context.config
        # Of the usual images: more of them tell no other layers.
        usual = calibration_key(config, calibration_data(context, Recipe()))
        made = [config.model.sha256, quantizer, METHOD, usual, recipe.halved]
        compared = None
        if recipe.paying:
            whole = quantized_file(context, quantizer, recipe.whole)
            compared = Compared(whole, context.folder / f"layer-times-{digest(made)}.json")
        job = QuantizationJob(
            config,
            quantizer,
            recipe,
            calibration_data(context, recipe),
            context.folder / f"sensitivity-{digest([*made, recipe.equalized])}.json",
            shows_layers=True,
            compared=compared,
        )
        run_job(job, target)
    return quantized_model(target)


def run_job(job: QuantizationJob, target: Path) -> None:
    """Quantize in a process of its own and write ``target``.

    Raises:
        DataError: the calibration images are too few, or not of the kind the model is used on.
        RuntimeFailure: the library refused the model.
    """
    with workshop(WORKER, f"{job.quantizer} {job.config.preprocessor}") as worker:
        worker.call("run", job, str(target), timeout_s=TIMEOUT_S)


def quantized_path(context: PlanContext, quantizer: str, recipe: Recipe) -> Path:
    """Where the file is or will be: equal path means equal file."""
    calibrated = calibration_key(context.config, calibration_data(context, recipe))
    key = digest([context.config.model.sha256, quantizer, asdict(recipe), METHOD, calibrated])
    suffix: str = plugins.load("quantizers", quantizer).suffix
    return context.folder / f"int8-{key}{suffix}"


def calibration_data(context: PlanContext, recipe: Recipe) -> CalibrationData:
    """Images and video that this recipe calibrates on."""
    images = context.calibration.images[: recipe.images] if context.calibration else ()
    compared = context.selection.images[:COMPARED] if context.selection else ()
    # Frames of a labelled video are real frames; others of it may be what is judged on.
    video = context.source if context.video and not clips_of(images) else None
    return CalibrationData(tuple(images), video, tuple(compared))


def calibration_key(config: PipelineConfig, data: CalibrationData) -> str:
    """Equal key means equal inputs: part of the name of every file that is made by calibrating.

    Args:
        config: how frames become inputs.
        data: whose frames.
    """
    fed, described = feeding(config), config.description
    return digest(
        [
            [asdict(described.preprocessing), described.own_hw, described.stride],
            [fed.input_size, fed.shape, fed.margin, fed.squeeze],
            [fed.preprocessor, fed.reader, fed.resize, fed.skip_loop_filter],
            # Other frames of a video calibrate where objects are followed.
            fed.tracker is not None,
            [[_identity(i.path, i.frame) for i in part] for part in (data.images, data.compared)],
            _identity(Path(data.video)) if data.video is not None else None,
        ]
    )


def _identity(path: Path, frame: FrameOf | None = None) -> list[str | int | None]:
    """A file by name and size, as data that moved is the same data, and a frame's place in it."""
    file = [path.name, path.stat().st_size] if path.is_file() else [str(path), None]
    return [*file, frame.index if frame is not None else None]


def quantized_model(path: Path) -> ModelFile:
    """A quantized file on disk; the hash of an IR covers both of its files."""
    if path.suffix != ".xml":
        found = model_file(path)
        return ModelFile(found.path, found.sha256, stored="int8")
    weights = path.with_suffix(".bin")
    parts = [model_file(path).sha256, model_file(weights).sha256]
    shape = openvino_core().read_model(str(path)).inputs[0].partial_shape
    dynamic = any(side.is_dynamic for side in list(shape)[2:])
    return ModelFile(str(path), digest(parts), "openvino_ir", str(weights), dynamic, "int8")


def details_path(target: Path) -> Path:
    """The document beside a quantized file: what was left float and why, and what is doubtful."""
    return target.with_suffix(".json")


def details_of(target: Path) -> dict[str, Any]:
    """What is on record about a quantized file; empty where there is nothing."""
    try:
        document: dict[str, Any] = json.loads(details_path(target).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document


def made_by(target: Path) -> tuple[str, Recipe] | None:
    """Quantizer and recipe of a quantized file; None where that is not on record."""
    found = details_of(target).get("made_by")
    return (found["quantizer"], Recipe(**found["recipe"])) if found else None


class QuantizationWorker:
    """Runs a job. Lives in a worker process, because the libraries are heavy and may fail."""

    def run(self, job: QuantizationJob, target: str) -> None:
        """Quantize and write the file and, last, the document beside it."""
        began = time.monotonic()
        path, recipe = Path(target), job.recipe
        quantizer: Quantizer = plugins.load("quantizers", job.quantizer)
        samples = calibration_tensors(job.config, job.data)
        model = named(float_model(job.config, samples))
        ranges = observe(model, samples)
        doubts = check_calibration(job.config, job.data, ranges, partial(observe, model))
        if recipe.trained:
            train(job.config, samples, recipe, quantizer.runtime, path)
            write_details(details_path(path), {**_origin(job), "doubts": doubts})
            return
        times = _times(job, model, samples)
        evened = 0
        if recipe.equalized:
            model, evened = equalized(model, ranges)
            ranges = observe(model, samples)
        ranked: list[Sensitivity] = []
        if recipe.sensitive != "none" or job.shows_layers:
            needed = recipe.sensitive != "none"
            how = (BUDGET_S, True) if needed else (SHOWN_S, False)
            scheme = quantizer.scheme
            measured = partial(measure, model, samples, ranges, scheme, recipe, *how)
            ranked = ranked_or_cached(job.cache, measured)
        kept = kept_float(recipe.sensitive, ranked, times)
        quantizer.quantize(model, samples, recipe, kept, path)
        document = {
            **_origin(job),
            "images": len(samples),
            "equalized": evened,
            "float_layers": kept,
            "layer_times": [asdict(item) for item in times],
            "sensitivity": [asdict(item) for item in ranked],
            "doubts": doubts,
            "wall_s": time.monotonic() - began,
        }
        write_details(details_path(path), document)


def _times(job: QuantizationJob, model: onnx.ModelProto, samples: Samples) -> list[LayerTime]:
    """What int8 brings each layer, from the file that several recipes share or as measured now.

    Raises:
        RuntimeFailure: it makes every layer faster, so that the recipe would change nothing.
    """
    if job.compared is None:
        return []
    measured = partial(measure_times, model, job.config, job.compared.whole, samples)
    times = _cached(job.compared.cache, "layer_times", LayerTime, measured)
    if all(item.pays for item in times):
        raise RuntimeFailure(f"int8 makes each of {len(times)} layers faster: none is left float")
    return times


def _origin(job: QuantizationJob) -> dict[str, Any]:
    """For people, and for whoever rounds a changed model in the same way."""
    made = {"quantizer": job.quantizer, "recipe": asdict(job.recipe)}
    return {"recipe": job.recipe.label, "made_by": made}


def ranked_or_cached(cache: Path, measured: Callable[[], list[Sensitivity]]) -> list[Sensitivity]:
    """Sensitivity from a file that several recipes share, else as it is measured now."""
    return _cached(cache, "sensitivity", Sensitivity, measured)


def _cached(
    cache: Path, name: str, kind: Callable[..., _Item], measured: Callable[[], list[_Item]]
) -> list[_Item]:
    if cache.exists():
        stored = json.loads(cache.read_text(encoding="utf-8"))
        return [kind(**item) for item in stored[name]]
    found = measured()
    if found:
        write_details(cache, {name: [asdict(item) for item in found]})
    return found


def write_details(path: Path, document: dict[str, Any]) -> None:
    """Write the document beside a quantized file, whole or not at all."""
    draft = path.with_name("partial-" + path.name)
    draft.write_text(json.dumps(document, indent=1), encoding="utf-8")
    draft.replace(path)
