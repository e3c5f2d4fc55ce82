"""Make a kit for a target from what the user asks: exports, candidates, frames, estimates."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade import plugins
from saccade.deploy.exports.contract import Export, ExportRequest, Run
from saccade.deploy.exports.onnx_fixed import CALIBRATION_CACHE
from saccade.deploy.kit.record import KitFile, slug
from saccade.deploy.kit.write import FRAMES, KitContents, outputs_here, write_kit
from saccade.errors import ModelError, SaccadeError
from saccade.models.conversions.contract import ConversionRequest
from saccade.optimize.converting import converted
from saccade.optimize.job import Job
from saccade.optimize.quantization.calibration import (
    COMPARED as COMPARED_IMAGES,
)
from saccade.optimize.quantization.calibration import CalibrationData, input_tensors
from saccade.optimize.quantization.recipe import CALIBRATION_IMAGES
from saccade.pipeline.pipeline import input_hw
from saccade.playbook.estimates import Estimates, OtherModel
from saccade.playbook.model import native_runtime
from saccade.progress import Progress
from saccade.targets.read import is_here, read_target

# Frames that a converted model is compared with the original on.
COMPARED = 2


def as_onnx(job: Job) -> Job:
    """The job with its model as ONNX, which estimates and exports start from.

    ONNX that was made from a PyTorch program knows it, for exports that start there.

    Raises:
        ModelError: the model cannot be made into ONNX, or answers differently then.
    """
    model = job.baseline.model
    if model.format == "onnx":
        return job
    frames = np.concatenate(_frames(job, COMPARED))
    asked = ConversionRequest(job.folder / "models", input_hw(job.baseline), frames)
    made = converted(model, ("onnx",), asked)
    return replace(job, baseline=replace(job.baseline, model=made, runtime=native_runtime(made)))


def make_kit(job: Job, estimates: Estimates, out: Path, say: Progress) -> Mapping[str, Any]:
    """Write a kit and return its document.

    Raises:
        ModelError: no file that can be made here runs on the target.
        InputError: something that is no kit is at ``out``.
    """
    with tempfile.TemporaryDirectory(prefix="saccade-kit-") as work:
        request = export_request(job, estimates.graph.input_hw, Path(work))
        files, left_out = make_files(request, estimates, say)
        for other in estimates.others:
            more, without = other_files(job, other, Path(work), say)
            files, left_out = (*files, *more), (*left_out, *without)
        if not any(file.runs for file in files):
            raise ModelError(_nothing(job.spec.target, left_out))
        for name, reason in estimates.left_out:
            say.note(f"{name}: left out, {reason}")
        left_out = (*left_out, *estimates.left_out)
        contents = KitContents(request, files, left_out, job.spec.target, estimates.document())
        return write_kit(contents, out)


def other_files(
    job: Job, other: OtherModel, work: Path, say: Progress
) -> tuple[tuple[KitFile, ...], tuple[tuple[str, str], ...]]:
    """The files of what may take the model's place, and what is left out of them, why."""
    say.note(f"{other.name}, which may take the model's place:")
    folder = work / slug(other.name)
    folder.mkdir()
    theirs = replace(job, baseline=other.config, description=other.config.description)
    try:
        request = export_request(theirs, other.estimates.graph.input_hw, folder)
    except SaccadeError as error:  # the model itself and the others are still worth measuring
        say.note(f"{other.name}: left out, {error}")
        return (), ((other.name, str(error)),)
    files, left_out = make_files(request, other.estimates, say, resized=other.resized)
    files, uncached = _without_cache(files)
    return (
        tuple(file.of_model(other.name, request) for file in files),
        tuple((f"{other.name}: {what}", reason) for what, reason in (*left_out, *uncached)),
    )


def _without_cache(
    files: tuple[KitFile, ...],
) -> tuple[tuple[KitFile, ...], tuple[tuple[str, str], ...]]:
    """Files without the runs that take the kit's calibration cache, which is of its own model."""
    kept, left_out = [], []
    for file in files:
        runs = tuple(
            run for run in file.runs if not any(CALIBRATION_CACHE in flag for flag in run.flags)
        )
        kept.append(replace(file, runs=runs))
        left_out += [
            (
                f"{file.label} in {run.runtime} {run.precision}",
                "a kit holds one calibration cache, of the model itself; the symmetric int8 file "
                "needs none",
            )
            for run in file.runs
            if run not in runs
        ]
    return tuple(kept), tuple(left_out)


def export_request(job: Job, hw: tuple[int, int], work: Path) -> ExportRequest:
    """The frames and the place that exports need."""
    config = replace(job.baseline, shape="square")
    return ExportRequest(config, hw, _frames(job, 2 * FRAMES), _calibration(job), work)


def _calibration(job: Job) -> CalibrationData:
    calibration = job.roles.calibration if job.roles else None
    images = calibration.images[:CALIBRATION_IMAGES] if calibration else ()
    selection = job.roles.selection if job.roles else None
    compared = selection.images[:COMPARED_IMAGES] if selection else ()
    return CalibrationData(tuple(images), job.source if job.video else None, tuple(compared))


def _frames(job: Job, count: int) -> tuple[NDArray[Any], ...]:
    """The first frames to calibrate on, preprocessed."""
    config = replace(job.baseline, shape="square")
    return tuple(input_tensors(config, _calibration(job))[:count])


def make_files(
    request: ExportRequest, estimates: Estimates, say: Progress, *, resized: bool = False
) -> tuple[tuple[KitFile, ...], tuple[tuple[str, str], ...]]:
    """Every file that the target can use or that stands for one; and what is left out, why.

    Args:
        request: the model and the frames.
        estimates: what the target takes of it.
        say: who is told.
        resized: the model is there in full already, so only what is made quickly is made.
    """
    left_out: list[tuple[str, str]] = []
    made: dict[str, KitFile] = {}
    exports = _exports(resized)
    wanted = _allowed_runs(exports, request, estimates, left_out)
    stand_ins = {run.judged_as for runs in wanted.values() for run in runs}
    for name, export in exports.items():
        if name not in wanted and name not in stand_ins:
            continue
        reason = export.applies(request)
        if reason is None:
            try:
                made[name] = _made(export, request, wanted.get(name, ()))
                say.note(f"{export.label}: {made[name].config.model.size_mb:.1f} MB")
                continue
            except SaccadeError as error:  # one file less; the others are still worth measuring
                reason = str(error)
        left_out.append((export.label, reason))
        say.note(f"{export.label}: left out, {reason}")
    files = tuple(_judgeable(file, made, left_out) for file in made.values())
    return files, tuple(left_out)


def _made(export: Export, request: ExportRequest, runs: tuple[Run, ...]) -> KitFile:
    """A file that has run here once."""
    config = export.config(request, export.write(request))
    outputs = outputs_here(config, request)
    return KitFile(export.name, export.label, export.precision, config, outputs, runs)


def _exports(resized: bool) -> dict[str, Export]:
    """All exports, or those that are quickly made at every size."""
    found = {name: plugins.load("exports", name) for name in plugins.names("exports")}
    return {
        name: export
        for name, export in found.items()
        if not resized or getattr(export, "at_any_size", False)
    }


def _allowed_runs(
    exports: Mapping[str, Export],
    request: ExportRequest,
    estimates: Estimates,
    left_out: list[tuple[str, str]],
) -> dict[str, tuple[Run, ...]]:
    """Export → the runs of it that the target takes."""
    allowed: dict[str, tuple[Run, ...]] = {}
    for name, export in exports.items():
        kept = []
        for run in export.runs(request):
            reason = estimates.refusal(run)
            if reason is None:
                kept.append(run)
            elif export.applies(request) is None and estimates.has(run.runtime):
                left_out.append((f"{export.label} in {run.runtime} {run.precision}", reason))
        if kept:
            allowed[name] = tuple(kept)
    return allowed


def _judgeable(
    file: KitFile, made: Mapping[str, KitFile], left_out: list[tuple[str, str]]
) -> KitFile:
    """The file without the runs whose accuracy nothing could stand for here."""
    runs = tuple(run for run in file.runs if not run.judged_as or run.judged_as in made)
    left_out += [
        (
            f"{file.label} in {run.runtime} {run.precision}",
            f"its accuracy is that of '{run.judged_as}', which could not be made",
        )
        for run in file.runs
        if run not in runs
    ]
    return replace(file, runs=runs)


def _nothing(target: str, left_out: tuple[tuple[str, str], ...]) -> str:
    known = read_target(target).runtimes if not is_here(target) else {}
    first = "; ".join(f"{what}: {reason}" for what, reason in left_out[:2])
    return (
        f"No model file that can be made here runs on '{target}', which takes "
        f"{', '.join(known)}. Left out: {first}. Add an export for it (entry point "
        "'saccade.exports'), or choose another target."
    )
