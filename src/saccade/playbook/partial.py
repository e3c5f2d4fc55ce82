"""The playbook up to some step: what the verbs `baseline`, `profile`, `diagnose` and `plan` run."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from saccade.deploy.kit.write import check_place
from saccade.diagnose.records import Finding
from saccade.environment import detect
from saccade.errors import SaccadeError, SpecError, StorageError
from saccade.measurement import STAGES
from saccade.models.candidates import candidate_name
from saccade.optimize.job import Job, plan_context
from saccade.optimize.plan import Plan, make_plan
from saccade.optimize.race import Runner
from saccade.pipeline.config import PipelineConfig
from saccade.playbook.candidates import in_full, spec_of, with_candidates
from saccade.playbook.elsewhere import prepare_elsewhere
from saccade.playbook.estimates import estimate_all, estimate_job
from saccade.playbook.kit import make_kit
from saccade.playbook.model import describe_model
from saccade.playbook.optimize import remember_spec
from saccade.playbook.prepare import check_at_hand, naive, prepare, runtimes
from saccade.playbook.steps import (
    Baseline,
    measure_baseline,
    measure_roofline,
    profiler_of,
    write_profile,
)
from saccade.playbook.students import untaught, with_students
from saccade.profile.records import Profile
from saccade.progress import Progress, SilentProgress
from saccade.spec import Spec
from saccade.study import RunFolder
from saccade.targets.read import is_here
from saccade.validate.blocks import unit_weights
from saccade.validate.referee import judge_of, results_on


def start(spec: Spec, out: Path, progress: Progress | None = None) -> tuple[Job, RunFolder]:
    """Open the run folder and prepare the job.

    Raises:
        SaccadeError: see `saccade.errors`.
    """
    if not is_here(spec.target):
        raise SpecError(
            f"This measures this machine, and the target is '{spec.target}'. Use `saccade plan` or "
            "`saccade optimize` for estimates, and `saccade export --kit` to measure there."
        )
    check_at_hand(spec.target, detect(), runtimes())
    run = RunFolder(out)
    remember_spec(run, spec)
    job = prepare(spec, run, progress or SilentProgress())
    run.write_json("environment.json", {**job.environment.to_dict(), "hash": job.environment.hash})
    return job, run


def baseline_only(
    spec: Spec, out: Path, progress: Progress | None = None
) -> tuple[Baseline, dict[str, float]]:
    """Measure the baseline, write ``baseline.json``, and judge its accuracy where labels exist."""
    job, run = start(spec, out, progress)
    say = progress or SilentProgress()
    measured = measure_baseline(job, run, say)
    roles = job.roles
    if roles is None or roles.report is None or not roles.report.labelled:
        return measured, {}
    say.note(f"accuracy on {len(roles.report)} images")
    runner = Runner(job.baseline, job.source)
    try:
        weights = unit_weights(roles.report)
        results = results_on(runner, roles.report)
        found = judge_of(runner).scored(roles.report, results, weights)
    finally:
        runner.close()
    return measured, found.values


def baseline_report(measured: Baseline, accuracy: dict[str, float]) -> dict[str, Any]:
    """What `saccade baseline` prints, JSON-ready."""
    metrics = {name: asdict(value) for name, value in measured.metrics.items()}
    for name, value in accuracy.items():
        metrics[name] = {"value": value, "low": None, "high": None}
    stages = {
        stage: fmean(ms for block in measured.blocks for ms in block.stage_ms[stage])
        for stage in STAGES
    }
    return {
        "config_hash": measured.config.hash,
        "resolution": measured.resolution,
        "metrics": metrics,
        "stages_ms": stages,
    }


def profile_and_diagnose(
    spec: Spec, out: Path, progress: Progress | None = None
) -> tuple[Job, Profile, tuple[Finding, ...]]:
    """Profile the baseline; write ``profile.json``, ``trace.json`` and ``findings.json``."""
    job, run = start(spec, out, progress)
    roofline = measure_roofline(run, job.environment)
    profile = profiler_of(job, roofline)(job.baseline)
    return job, profile, write_profile(run, profile)


def profile_baseline(spec: Spec, out: Path, progress: Progress | None = None) -> Profile:
    """Profile the baseline."""
    return profile_and_diagnose(spec, out, progress)[1]


def plan_only(spec: Spec, out: Path, progress: Progress | None = None) -> Plan:
    """Rank the changes that apply to the baseline; write ``plan.json``."""
    job, profile, _ = profile_and_diagnose(spec, out, progress)
    say = progress or SilentProgress()
    job = with_students(with_candidates(job, RunFolder(out), say), RunFolder(out), say)
    plan = make_plan(plan_context(job, job.baseline, profile))
    RunFolder(out).write_json("plan.json", plan.document())
    return plan


def estimate_only(spec: Spec, out: Path) -> dict[str, Any]:
    """What can be said about a target that is not at hand; writes ``estimates.json``.

    Needs the model alone: no data, no video, and nothing is run but ONNX Runtime's reading of it.

    Raises:
        ModelError: no runtime of the target takes the model or what may take its place, or none
            of them fits there.
    """
    run = RunFolder(out)
    remember_spec(run, spec)
    described = describe_model(spec, out / "models", to_run=False)
    config = naive(spec, described.resolved.onnx, described.description)
    named, left_out = _named(spec, out / "models")
    found = estimate_all(config, spec.target, named, (*left_out, *untaught(spec))).document()
    run.write_json("estimates.json", found)
    return found


def _named(
    spec: Spec, folder: Path
) -> tuple[list[tuple[str, PipelineConfig]], list[tuple[str, str]]]:
    """The candidates by name, as far as they can be read, and why the others cannot.

    Raises:
        ModelError: there is no such candidate.
    """
    found: list[tuple[str, PipelineConfig]] = []
    left_out: list[tuple[str, str]] = []
    for wanted in in_full(spec.candidates):
        name, asked = candidate_name(wanted.model), spec_of(spec, wanted)
        try:
            described = describe_model(asked, folder / f"candidate-{name}", to_run=False)
            config = naive(asked, described.resolved.onnx, described.description)
        except StorageError:
            raise
        except SaccadeError as error:
            left_out.append((name, str(error)))
            continue
        found.append((name, config))
    return found, left_out


def export_kit(spec: Spec, out: Path, progress: Progress | None = None) -> dict[str, Any]:
    """Make a kit for the spec's target and return its document.

    Raises:
        SaccadeError: the input is unusable, or no file that can be made here runs there.
    """
    out = out.resolve()
    check_place(out)
    say = progress or SilentProgress()
    with tempfile.TemporaryDirectory(prefix="saccade-") as folder:
        say.step("Model and frames")
        job = prepare_elsewhere(spec, RunFolder(Path(folder) / "run"), say)
        say.step("Kit")
        return dict(make_kit(job, estimate_job(job), out, say))
