"""The repair ladder on a depthwise classifier that one-setting int8 breaks, for every runtime."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from benchmarks.depthwise import broken_by_int8, mobilenet_v2
from benchmarks.setting import Setting, note
from benchmarks.table import Row
from saccade import plugins
from saccade.optimize.changes.int8 import QuantizeInt8
from saccade.optimize.job import Job, plan_context
from saccade.optimize.race import Runner
from saccade.optimize.repair import Repair
from saccade.playbook.prepare import prepare
from saccade.playbook.steps import profiler_of
from saccade.profile.records import Profile
from saccade.progress import SilentProgress
from saccade.spec import make_spec
from saccade.study import RepairStep, RunFolder, Trial
from saccade.validate.bootstrap import resample_weights
from saccade.validate.referee import LabelReferee, judge_of, results_on

BAR = 0.8
METRIC, ALLOWED = "top1", 0.01


@dataclass(frozen=True)
class Climb:
    """What the ladder did with one quantizer.

    Attributes:
        steps: its log, on selection data.
        before: top-1 drop of the first setting, on report data.
        after: of what the ladder ended with.
    """

    steps: tuple[RepairStep, ...]
    before: float
    after: float

    @property
    def recovered(self) -> float:
        """Share of the drop that the ladder won back."""
        return (self.before - self.after) / self.before


def measure(setting: Setting) -> list[Row]:
    """Break, climb, and judge the first and the last setting on unseen images."""
    folder = setting.folder / "repair"
    folder.mkdir(parents=True, exist_ok=True)
    model = broken_by_int8(mobilenet_v2(folder / "mobilenet_v2.onnx"), folder / "wide.onnx")
    data = setting.inputs.data.parent.parent / "imagenet"
    spec = make_spec({"task": "classification", "model": model, "data": data})
    job = prepare(spec, RunFolder(folder / "run"), SilentProgress())
    profile = profiler_of(job, None)(job.baseline)
    return [_row(name, climb(job, profile, name)) for name in plugins.names("quantizers")]


def climb(job: Job, profile: Profile, quantizer: str) -> Climb:
    """The ladder as the search climbs it, without its races."""
    assert job.roles is not None and job.roles.selection is not None
    context = plan_context(job, job.baseline, profile)
    context = replace(context, folder=context.folder / quantizer)
    baseline = Runner(job.baseline, job.source)
    try:
        referee = LabelReferee(job.roles.selection, baseline, METRIC, ALLOWED, seed=0)
        top1 = _on_report(job)
        reference = top1(baseline)
    finally:
        baseline.close()
    repair = Repair()
    change = next(c for c in QuantizeInt8.variants(context) if c.quantizer == quantizer)
    drops: list[tuple[float, float]] = []
    while True:
        trial, unseen = _tried(job, context, change, referee, top1)
        trial = repair.record(change, trial, context)
        drops.append((trial.drop.estimate if trial.drop else 1.0, reference - unseen))
        note(f"{quantizer}: {trial.change}: {trial.verdict}, {trial.reason}")
        if trial.kept or not isinstance(repair.forced, QuantizeInt8):
            break
        change = repair.forced
    # What is kept is the accepted setting, else the best by the selection data.
    chosen = drops[-1] if trial.kept else min(drops)
    return Climb(trial.repair, drops[0][1], chosen[1])


def _tried(
    job: Job,
    context: object,
    change: QuantizeInt8,
    referee: LabelReferee,
    top1: Callable[[Runner], float],
) -> tuple[Trial, float]:
    began = time.monotonic()
    config = change.apply(context)  # type: ignore[arg-type]
    runner = Runner(config, job.source)
    try:
        judged = referee.judge(runner, change.effect)
        unseen = top1(runner)
    finally:
        runner.close()
    trial = Trial(
        number=1,
        parent=0,
        change=change.label,
        name=change.name,
        config=config.to_dict(),
        config_hash=config.hash,
        parent_hash=job.baseline.hash,
        verdict="better" if judged.keep else "broke a goal",
        reason=judged.reason,
        kept=judged.keep,
        drop=judged.drop,
        wall_s=time.monotonic() - began,
    )
    return trial, unseen


def _on_report(job: Job) -> Callable[[Runner], float]:
    assert job.roles is not None and job.roles.report is not None
    report = job.roles.report
    weights = resample_weights(len(report), seed=1)

    def top1(runner: Runner) -> float:
        scored = judge_of(runner).scored(report, results_on(runner, report), weights)
        return scored.values[METRIC]

    return top1


def _row(runtime: str, found: Climb) -> Row:
    log = "; ".join(
        f"{step.rung}: {step.outcome}"
        if step.drop_after is None
        else f"{step.rung} ({step.setting.partition(', ')[2]}): drop {step.drop_after:.3f}, "
        f"{step.wall_s:.0f} s"
        for step in found.steps
    )
    return Row(
        f"drop of broken int8 won back by the ladder, {runtime}",
        found.recovered,
        bar=BAR,
        detail=f"top-1 drop on unseen images {found.before:.3f} -> {found.after:.3f}; on selection "
        f"images: {log}",
    )
