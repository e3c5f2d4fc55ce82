"""Make a kit for a target from what the user asks: exports, candidates, frames, estimates."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade import plugins
from saccade.deploy.exports.contract import Export, ExportRequest, Run
from saccade.deploy.kit.record import KitFile
from saccade.deploy.kit.write import FRAMES, KitContents, outputs_here, write_kit
from saccade.errors import ModelError, SaccadeError
from saccade.estimate.candidates import (
    Candidate,
    candidates,
    check_usable,
    estimate_document,
)
from saccade.estimate.graph import GraphFacts, read_graph
from saccade.models.conversions.contract import ConversionRequest
from saccade.optimize.converting import converted
from saccade.optimize.job import Job
from saccade.optimize.quantization.calibration import CalibrationData, calibration_tensors
from saccade.optimize.quantization.recipe import CALIBRATION_IMAGES
from saccade.pipeline.pipeline import input_hw
from saccade.playbook.model import native_runtime
from saccade.progress import Progress
from saccade.targets.read import is_here, read_target
from saccade.targets.target import GPU_HERE, HERE, Target

# Frames that a converted model is compared with the original on.
COMPARED = 2
# What the machine at hand does not mean: no GPU by `cpu`, and no accelerator on its bus by either.
ACCELERATORS = {
    HERE: ("tensorrt", "onnxruntime-tensorrt", "onnxruntime-cuda", "edgetpu"),
    GPU_HERE: ("edgetpu",),
}


@dataclass(frozen=True)
class Estimates:
    """What is known of a model on a target without measuring.

    Attributes:
        graph: the model at the size in use.
        name: of the target.
        target: None for this machine, of which nothing has to be estimated.
        candidates: runtimes and precisions there.
    """

    graph: GraphFacts
    name: str
    target: Target | None
    candidates: tuple[Candidate, ...]

    def document(self) -> dict[str, Any]:
        """JSON-ready; empty for this machine."""
        if self.target is None:
            return {}
        return dict(estimate_document(self.graph, self.target, self.candidates))

    def has(self, runtime: str) -> bool:
        """Whether the target has a runtime at all."""
        if self.target is None:
            return runtime not in ACCELERATORS.get(self.name, ())
        return runtime in self.target.runtimes or runtime in self.target.host_runtimes

    def refusal(self, run: Run) -> str | None:
        """Why the target cannot run a file in that way, or None."""
        if not self.has(run.runtime):
            return f"{self.name} has no {run.runtime}"
        if self.target is None or run.runtime in self.target.host_runtimes:
            return None
        found = next(
            (c for c in self.candidates if c.label == f"{run.runtime} {run.precision}"), None
        )
        if found is None:
            return f"{run.runtime} has no {run.precision} on {self.target.name}"
        return None if found.usable else found.reason


def estimate(model: Path, hw: tuple[int, int], name: str) -> Estimates:
    """Estimate a model on a target.

    Raises:
        ModelError: the model is unreadable, no runtime there takes it, or it does not fit.
    """
    graph = read_graph(model, hw)
    if is_here(name):
        return Estimates(graph, name, None, ())
    target = read_target(name)
    found = candidates(graph, target)
    check_usable(found, target, model.name)
    return Estimates(graph, name, target, found)


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


def estimate_job(job: Job) -> Estimates:
    """The same for a job that was prepared."""
    hw = input_hw(job.baseline)
    return estimate(Path(job.baseline.model.path), hw, job.spec.target)


def make_kit(job: Job, estimates: Estimates, out: Path, say: Progress) -> Mapping[str, Any]:
    """Write a kit and return its document.

    Raises:
        ModelError: no file that can be made here runs on the target.
        InputError: something that is no kit is at ``out``.
    """
    with tempfile.TemporaryDirectory(prefix="saccade-kit-") as work:
        request = export_request(job, estimates.graph.input_hw, Path(work))
        files, left_out = make_files(request, estimates, say)
        if not any(file.runs for file in files):
            raise ModelError(_nothing(job.spec.target, left_out))
        contents = KitContents(request, files, left_out, job.spec.target, estimates.document())
        return write_kit(contents, out)


def export_request(job: Job, hw: tuple[int, int], work: Path) -> ExportRequest:
    """The frames and the place that exports need."""
    config = replace(job.baseline, shape="square")
    return ExportRequest(config, hw, _frames(job, 2 * FRAMES), _calibration(job), work)


def _calibration(job: Job) -> CalibrationData:
    calibration = job.roles.calibration if job.roles else None
    images = calibration.images[:CALIBRATION_IMAGES] if calibration else ()
    return CalibrationData(tuple(images), job.source if job.video else None)


def _frames(job: Job, count: int) -> tuple[NDArray[Any], ...]:
    """The first frames to calibrate on, preprocessed."""
    config = replace(job.baseline, shape="square")
    return tuple(calibration_tensors(config, _calibration(job))[:count])


def make_files(
    request: ExportRequest, estimates: Estimates, say: Progress
) -> tuple[tuple[KitFile, ...], tuple[tuple[str, str], ...]]:
    """Every file that the target can use or that stands for one; and what is left out, why."""
    left_out: list[tuple[str, str]] = []
    made: dict[str, KitFile] = {}
    wanted = _allowed_runs(request, estimates, left_out)
    stand_ins = {run.judged_as for runs in wanted.values() for run in runs}
    for name in plugins.names("exports"):
        export: Export = plugins.load("exports", name)
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
    files = tuple(
        replace(file, runs=tuple(_judged_by_what_exists(run, made) for run in file.runs))
        for file in made.values()
    )
    return files, tuple(left_out)


def _made(export: Export, request: ExportRequest, runs: tuple[Run, ...]) -> KitFile:
    """A file that has run here once."""
    config = export.config(request, export.write(request))
    outputs = outputs_here(config, request)
    return KitFile(export.name, export.label, export.precision, config, outputs, runs)


def _allowed_runs(
    request: ExportRequest, estimates: Estimates, left_out: list[tuple[str, str]]
) -> dict[str, tuple[Run, ...]]:
    """Export → the runs of it that the target takes."""
    allowed: dict[str, tuple[Run, ...]] = {}
    for name in plugins.names("exports"):
        export: Export = plugins.load("exports", name)
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


def _judged_by_what_exists(run: Run, made: Mapping[str, KitFile]) -> Run:
    return run if run.judged_as in made else replace(run, judged_as="")


def _nothing(target: str, left_out: tuple[tuple[str, str], ...]) -> str:
    known = read_target(target).runtimes if not is_here(target) else {}
    first = "; ".join(f"{what}: {reason}" for what, reason in left_out[:2])
    return (
        f"No model file that can be made here runs on '{target}', which takes "
        f"{', '.join(known)}. Left out: {first}. Add an export for it (entry point "
        "'saccade.exports'), or choose another target."
    )
