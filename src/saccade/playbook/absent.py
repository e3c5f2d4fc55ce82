"""`optimize` for a target that is not at hand: estimates, a kit, and accuracy judged here.

Speed goals stay inconclusive, unless the data sheet's bound alone rules them out. Sizes of files
are known. Accuracy is judged here, on the files that would go there.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from saccade.deploy.kit.read import Kit, read_kit
from saccade.deploy.kit.write import check_place
from saccade.errors import SaccadeError
from saccade.estimate.candidates import LABEL
from saccade.goals import METRICS, Goal
from saccade.optimize.change import Effect
from saccade.optimize.job import Job
from saccade.optimize.metrics import Estimate
from saccade.optimize.race import Runner
from saccade.optimize.referee import Judgement, Referee
from saccade.pipeline.config import PipelineConfig
from saccade.pipeline.pipeline import Pipeline
from saccade.playbook.elsewhere import prepare_elsewhere
from saccade.playbook.estimates import Estimates, estimate_job
from saccade.playbook.kit import make_kit
from saccade.playbook.prepare import guard_goal, no_gpu
from saccade.playbook.referees import search_referee
from saccade.playbook.result import trial_row
from saccade.progress import Progress, tell_trial
from saccade.spec import Spec
from saccade.study import Drop, RunFolder, Study, Trial, finite

KIT = "kit"


def optimize_absent(spec: Spec, run: RunFolder, say: Progress) -> Study:
    """Estimate and prepare what can only be measured elsewhere.

    Raises:
        InputError: the kit of an earlier run holds what a device measured.
        SaccadeError: the input is unusable, or the target cannot run the model at all.
    """
    began = time.monotonic()
    check_place(run.path / KIT)
    say.step("Goals, model and data")
    job = prepare_elsewhere(spec, run, say)
    run.write_json("environment.json", {**job.environment.to_dict(), "hash": job.environment.hash})
    say.step(f"Estimates for {spec.target}, nothing of it measured")
    estimates = estimate_job(job)
    run.write_json("estimates.json", estimates.document())
    say.step("Kit")
    kit, why_not = _kit(job, estimates, run, say)
    trials: list[Trial] = []
    try:
        if kit is not None:
            say.step("Accuracy of the files, judged on this machine")
            _judge(job, kit, run, say, began, trials)
    finally:  # Estimates and kit are of use, whatever ended the judging.
        found, wall_s = tuple(trials), time.monotonic() - began
        study = finish(run, document(job, estimates, kit, why_not, found, wall_s), found)
    return study


def finish(run: RunFolder, result: Mapping[str, Any], trials: tuple[Trial, ...]) -> Study:
    """Write ``result.json`` and the report."""
    from saccade.report.html import write_html

    run.write_json("result.json", result)
    write_html(run.path)
    return Study(run.path, finite({"schema_version": 1, **result}), trials)


def _kit(job: Job, estimates: Estimates, run: RunFolder, say: Progress) -> tuple[Kit | None, str]:
    """The kit; None with the reason where no file for the target can be made here."""
    folder = run.path / KIT
    try:
        make_kit(job, estimates, folder, say)
    except SaccadeError as error:
        say.note(str(error))
        return None, str(error)
    say.note(f"{folder}: copy it to the device and run measure.py there")
    return read_kit(folder), ""


def _judge(
    job: Job, kit: Kit, run: RunFolder, say: Progress, began: float, trials: list[Trial]
) -> None:
    """Add one trial for each file, as far as the budget goes."""
    guard = guard_goal(job)
    assert guard is not None
    baseline = Runner(job.baseline, job.source)
    try:
        referee = search_referee(job, guard, frame_hw(job), baseline)
    finally:
        baseline.close()
    for number, name in enumerate(kit.document["files"], start=1):
        say.trial_started(number, kit.document["files"][name]["label"], None)
        late = time.monotonic() - began > job.spec.budget
        trial = run.record_trial(_trial(number, name, job, kit, None if late else referee))
        trials.append(trial)
        tell_trial(say, trial)


def frame_hw(job: Job) -> tuple[int, int]:
    """Height and width of the source's frames."""
    with Pipeline(job.baseline) as pipeline:
        return next(iter(pipeline.frames(job.source))).hw


def _trial(number: int, name: str, job: Job, kit: Kit, referee: Referee | None) -> Trial:
    config, file = kit.config(name), kit.document["files"][name]
    judgement = Judgement(True, "accuracy not judged: the budget was used up")
    if referee is not None:
        # Another model, or a smaller input, may have lost what no rounding would.
        judgement = _judgement(config, job, referee, "lossy" if file["model"] else "near_lossless")
    unmeasured = f"speed on {job.spec.target} is not measured"
    metric = judgement.drop.metric if judgement.drop else ""
    return Trial(
        number=number,
        parent=0,
        change=file["label"],
        name=name,
        config=config.to_dict(),
        config_hash=config.hash,
        parent_hash=job.baseline.hash,
        verdict="inconclusive" if judgement.keep else "broke a goal",
        reason=f"{judgement.reason}; {unmeasured}" if judgement.keep else judgement.reason,
        metrics={metric: judgement.accuracy} if metric else {},
        drop=judgement.drop,
        environment_hash=job.environment.hash,
    )


def _judgement(config: PipelineConfig, job: Job, referee: Referee, effect: Effect) -> Judgement:
    try:
        runner = Runner(config, job.source)
    except SaccadeError as error:
        return Judgement(False, f"it does not run here: {error}")
    try:
        return referee.judge(runner, effect)
    except SaccadeError as error:
        return Judgement(False, f"its accuracy could not be judged: {error}")
    finally:
        runner.close()


def document(
    job: Job,
    estimates: Estimates,
    kit: Kit | None,
    why_not: str,
    trials: tuple[Trial, ...],
    wall_s: float,
) -> dict[str, Any]:
    """``result.json`` of a run that measured no speed."""
    goals = [unmeasured_goal(goal, estimates, kit, trials) for goal in job.goals]
    statuses = {goal["status"] for goal in goals}
    notes = [
        f"{job.spec.target} is not at hand: no speed was measured; {_bounds(estimates, job)}",
        why_not
        or f"to measure: copy {KIT}/ to the device, run measure.py, then `saccade optimize` "
        "with --measurements",
    ]
    notes += [f"{name} is left out: {reason}" for name, reason in estimates.left_out]
    return {
        "status": "not_met" if "not_met" in statuses else _decided(statuses),
        "goals": goals,
        "baseline": {"metrics": {}, "stages": [], "config": job.baseline.to_dict()},
        "best": None,
        "pareto": [],
        "rejected": [
            {"trial": t.number, "change": t.change, "reason": t.reason, "verdict": t.verdict}
            for t in trials
        ],
        "trials": [trial_row(t) for t in trials],
        "estimates": estimates.document(),
        "kit": str(kit.folder) if kit else None,
        "environment": job.environment.to_dict(),
        "budget_s": job.spec.budget,
        "wall_s": wall_s,
        "notes": [*job.notes, *notes],
        "spec": job.spec.published(),
        "bundle": None,
        "model": {"description": asdict(job.description), "license": job.description.license},
    }


def _bounds(estimates: Estimates, job: Job) -> str:
    """Where what is said about speed comes from."""
    if estimates.target is not None:
        return "bounds are estimates from data sheets, not verified on hardware"
    return f"{no_gpu(job.environment)}, and 'cuda' names none whose data sheet is known"


def _decided(statuses: set[str]) -> str:
    return "met" if statuses == {"met"} else "inconclusive"


def goal_row(goal: Goal, estimate: Estimate, note: str) -> dict[str, Any]:
    """A goal as ``result.json`` lists it."""
    bounded = estimate.low is not None and estimate.high is not None
    return {
        "name": goal.name,
        "metric": goal.metric,
        "op": goal.op,
        "bound": goal.bound,
        "value": estimate.value,
        "interval": [estimate.low, estimate.high] if bounded else None,
        "status": goal.status(estimate.value, estimate.low, estimate.high),
        "note": note,
    }


def unmeasured_goal(
    goal: Goal, estimates: Estimates, kit: Kit | None, trials: tuple[Trial, ...]
) -> dict[str, Any]:
    """A goal as ``result.json`` lists it, where no speed was measured.

    Args:
        goal: what is wanted.
        estimates: of the model and of all that may take its place.
        kit: None where none could be made.
        trials: accuracy of its files.
    """
    if goal.is_accuracy:
        return _accuracy_row(goal, trials)
    if goal.metric == "model_mb" and kit is not None:
        return _size_row(goal, kit, trials)
    row = goal_row(goal, Estimate(None), f"not measured on {_name(estimates)}")
    limit = _limit(goal, estimates)
    if limit is None:
        return row
    value, said = limit
    ruled_out = value > goal.bound if goal.op == "<=" else value < goal.bound
    if not ruled_out:
        return {**row, "note": f"{row['note']}; {said} ({LABEL})"}
    note = f"ruled out by an estimate: {said} ({LABEL})"
    return {**row, "status": "not_met", "note": note}


def _size_row(goal: Goal, kit: Kit, trials: tuple[Trial, ...]) -> dict[str, Any]:
    """By the smallest file that was judged and keeps its accuracy."""
    keeps = {t.name for t in trials if t.drop is not None and t.verdict != "broke a goal"}
    usable = keeps & {c["file"] for c in kit.document["candidates"]}
    if not usable:
        return goal_row(goal, Estimate(None), "no file of the kit is known to keep its accuracy")
    size = min(kit.document["files"][name]["size_mb"] for name in usable)
    note = "the smallest file of the kit that keeps its accuracy"
    return goal_row(goal, Estimate(size, size, size), note)


def _limit(goal: Goal, estimates: Estimates) -> tuple[float, str] | None:
    """The best value that any candidate could have, by its bound."""
    usable = [c for c in estimates.all_candidates() if c.usable]
    if not usable:  # a machine of which no data sheet is known, such as one with any GPU
        return None
    if goal.metric == "peak_rss_mb":
        least = min(c.memory.total_mb for c in usable)
        return least, f"weights and activations take {least:.1f} MB at least"
    bounds = [c.latency.bound_ms for c in usable if c.latency]
    if not bounds:
        return None
    best = min(bounds)
    if goal.metric.startswith("latency_ms") and not goal.is_drop:
        return best, f"inference takes {best:.2f} ms at least"
    if goal.metric == "throughput_fps":
        return 1e3 / best, f"inference reaches {1e3 / best:.0f} FPS at most"
    return None


def _name(estimates: Estimates) -> str:
    return estimates.target.name if estimates.target else "the target"


def _accuracy_row(goal: Goal, trials: tuple[Trial, ...]) -> dict[str, Any]:
    """Met only if a file other than the given one keeps it; which one is picked is not known."""
    judged = [t for t in trials if t.drop is not None and t.drop.metric == goal.base]
    changed = [t for t in judged if t.name != "onnx"]
    if not judged:
        return goal_row(goal, Estimate(None), f"{goal.base} was not judged")
    if not changed:
        return goal_row(goal, Estimate(None), "only the model as it was given was judged")
    if not goal.is_drop:
        return goal_row(goal, Estimate(None), f"only the drop of {goal.base} was judged")
    kept = [t for t in changed if t.drop and t.drop.upper <= goal.bound]
    note = f"{len(kept)} of {len(changed)} files keep it on the selection data"
    assert METRICS[goal.base].accuracy
    best = min((t.drop for t in changed if t.drop), key=_upper)
    row = goal_row(goal, Estimate(best.estimate, best.lower, best.upper), note)
    # On selection data and before anything was picked, nothing is settled.
    return {**row, "status": "inconclusive" if kept else row["status"]}


def _upper(drop: Drop) -> float:
    return drop.upper
