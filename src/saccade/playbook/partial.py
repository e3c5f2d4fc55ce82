"""The playbook up to some step: what the verbs `baseline`, `profile`, `diagnose` and `plan` run."""

from __future__ import annotations

from pathlib import Path

from saccade.diagnose.records import Finding
from saccade.optimize.job import Job, plan_context
from saccade.optimize.plan import Plan, make_plan
from saccade.playbook.optimize import remember_spec
from saccade.playbook.prepare import prepare
from saccade.playbook.steps import (
    Baseline,
    measure_baseline,
    measure_roofline,
    profiler_of,
    write_profile,
)
from saccade.profile.records import Profile
from saccade.progress import Progress, SilentProgress
from saccade.spec import Spec
from saccade.study import RunFolder


def start(spec: Spec, out: Path, progress: Progress | None = None) -> tuple[Job, RunFolder]:
    """Open the run folder and prepare the job.

    Raises:
        SaccadeError: see `saccade.errors`.
    """
    run = RunFolder(out)
    remember_spec(run, spec)
    job = prepare(spec, run, progress or SilentProgress())
    run.write_json("environment.json", {**job.environment.to_dict(), "hash": job.environment.hash})
    return job, run


def baseline_only(spec: Spec, out: Path, progress: Progress | None = None) -> Baseline:
    """Measure the baseline and write ``baseline.json``."""
    job, run = start(spec, out, progress)
    return measure_baseline(job, run, progress or SilentProgress())


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
    plan = make_plan(plan_context(job, job.baseline, profile))
    RunFolder(out).write_json("plan.json", plan.document())
    return plan
