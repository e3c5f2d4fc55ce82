"""The playbook of a training up to its bottlenecks: what `saccade train profile` runs."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from saccade.diagnose.diagnose import findings_document
from saccade.diagnose.records import Finding
from saccade.diagnose.training import diagnose_training
from saccade.environment import usable_cores
from saccade.optimize.training_profile import profile_training
from saccade.playbook.training.prepare import TrainingTask, prepare
from saccade.progress import Progress, SilentProgress
from saccade.study import RunFolder
from saccade.train.config import Strategy
from saccade.train.dividing import spread
from saccade.train.profile import TrainingProfile
from saccade.train.spec import TrainingSpec


def profile_job(
    spec: TrainingSpec,
    out: Path,
    seconds: float,
    *,
    least_steps: int = 0,
    nvtx: bool = False,
    processes: int = 1,
    strategy: Strategy = "ddp",
    progress: Progress | None = None,
) -> tuple[TrainingProfile, tuple[Finding, ...]]:
    """Profile a job as the user's own script trains it, and name its bottlenecks.

    Writes ``environment.json``, ``profile.json``, ``trace.json`` and ``findings.json``.

    Args:
        spec: names the job; its goals and budget do not matter here.
        out: the run folder.
        seconds: about how long it takes; slow steps take longer.
        least_steps: that are measured at least.
        nvtx: name the parts of watched steps for Nsight Systems.
        processes: that share every batch, on this machine.
        strategy: how they share the model.
        progress: told what is being done.

    Raises:
        SpecError: it is no job, or its batch cannot be divided by so many processes.
        DataError: its data cannot be read.
        StorageError: the run folder cannot be written.
    """
    said = progress or SilentProgress()
    run = RunFolder(out)
    said.step("Opening the job")
    task = prepare(spec, out)
    spread_out = spread(task.baseline, processes, 1, strategy, usable_cores())
    task = replace(task, baseline=spread_out)
    run.write_json("environment.json", task.environment.to_dict())
    return profiled(task, run, seconds, least_steps=least_steps, nvtx=nvtx, progress=said)


def profiled(
    task: TrainingTask,
    run: RunFolder,
    seconds: float,
    *,
    least_steps: int = 0,
    nvtx: bool = False,
    progress: Progress | None = None,
) -> tuple[TrainingProfile, tuple[Finding, ...]]:
    """Profile a prepared job and write ``profile.json``, ``trace.json`` and ``findings.json``.

    See `profile_job` for the arguments and what it raises.
    """
    profile = profile_training(
        task.baseline, seconds, run.path, least_steps=least_steps, nvtx=nvtx, progress=progress
    )
    findings = diagnose_training(profile)
    run.write_json("profile.json", profile_document(profile))
    run.write_json("findings.json", findings_document(findings))
    return profile, findings


def profile_document(profile: TrainingProfile) -> dict[str, Any]:
    """A training's profile, JSON-ready, with the numbers that people ask for first on top."""
    block, steps = profile.block, max(1, len(profile.block.step_s))
    return {
        "samples_per_s": block.samples_per_s,
        "synthetic_samples_per_s": profile.synthetic.samples_per_s,
        "loader_samples_per_s": profile.loader.samples_per_s if profile.loader else None,
        "step_ms": 1e3 * block.wall_s / steps,
        "part_ms": {part: 1e3 * sum(times) / steps for part, times in block.part_s.items()},
        **asdict(profile),
    }
