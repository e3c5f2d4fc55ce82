"""``result.json``: what scripts and the report read. Pure: values in, document out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from saccade.data.contract import DataProblem
from saccade.diagnose.records import Finding
from saccade.goals import METRICS, Goal
from saccade.looks import shares
from saccade.optimize.job import Job
from saccade.optimize.metrics import Estimate, values
from saccade.optimize.plan import TRIAL_S, Candidate
from saccade.playbook.final import Final
from saccade.playbook.final_judge import Accuracy
from saccade.playbook.pareto import pareto
from saccade.playbook.steps import Baseline
from saccade.profile.operators import attained
from saccade.profile.records import Profile
from saccade.study import Trial

TOP_OPERATORS = 12


@dataclass(frozen=True)
class Story:
    """Everything that one run found out; parts are None where it did not get that far."""

    job: Job
    baseline: Baseline
    guard: Goal | None
    profile: Profile | None = None
    findings: tuple[Finding, ...] = ()
    trials: tuple[Trial, ...] = ()
    final: Final | None = None
    best_profile: Profile | None = None
    wall_s: float = 0.0
    notes: tuple[str, ...] = ()
    problems: tuple[DataProblem, ...] = ()
    interrupted: bool = False
    baseline_accuracy: Mapping[str, float] = field(default_factory=dict)
    untried: tuple[Candidate, ...] = ()


def result_document(story: Story) -> dict[str, Any]:
    """The whole document."""
    goals = goal_rows(story)
    job, final = story.job, story.final
    return {
        "status": overall(goals, story),
        "goals": goals,
        "baseline": _baseline(story),
        "best": _best(story) if final is not None else _best_so_far(story),
        "pareto": pareto(story),
        "rejected": [
            {"trial": t.number, "change": t.change, "reason": t.reason, "verdict": t.verdict}
            for t in story.trials
            if not t.kept
        ],
        "untried": [untried_row(candidate) for candidate in story.untried],
        "trials": [trial_row(t) for t in story.trials],
        "findings": [finding.document() for finding in story.findings],
        "data_problems": count_problems(story.problems),
        "repair": list(final.ladder) if final else [],
        "operators": {
            "baseline": _operators(story.profile),
            "best": _operators(story.best_profile),
        },
        "roofline": asdict(story.profile.roofline)
        if story.profile is not None and story.profile.roofline is not None
        else None,
        "environment": job.environment.to_dict(),
        "noise": {"percent": 100 * story.baseline.resolution},
        "budget_s": job.spec.budget,
        "wall_s": story.wall_s,
        "objective": "throughput_fps" if job.objective == "throughput" else "latency_ms.p50",
        "notes": [*job.notes, *story.notes],
        "spec": job.spec.published(),
        "bundle": str(job.folder / "bundle") if final else None,
        "model": {
            "description": asdict(job.description),
            "license": job.description.license,
        },
        "guard": _guard(story),
        "interrupted": story.interrupted,
    }


def goal_rows(story: Story) -> list[dict[str, Any]]:
    """Every goal with its value, interval and status."""
    rows = []
    for goal in (*story.job.goals, *_broken_default(story)):
        estimate, note = _goal_value(goal, story)
        default = goal not in story.job.goals
        if default:
            note = f"what may be lost where no goal says it; {note}"
        status = goal.status(estimate.value, estimate.low, estimate.high)
        bounded = estimate.low is not None and estimate.high is not None
        rows.append(
            {
                "name": goal.name,
                "metric": goal.metric,
                "op": goal.op,
                "bound": goal.bound,
                "value": estimate.value,
                "interval": [estimate.low, estimate.high] if bounded else None,
                "status": status,
                "note": note,
                "default": default,
            }
        )
    return rows


def _broken_default(story: Story) -> tuple[Goal, ...]:
    """The guard that nobody asked for, where its bound does not hold: then nothing is met."""
    accuracy = story.final.accuracy if story.final is not None else None
    bound = accuracy.bound if accuracy is not None else None
    if story.guard is None or story.guard in story.job.goals or bound is None or bound.holds:
        return ()
    return (story.guard,)


def _goal_value(goal: Goal, story: Story) -> tuple[Estimate, str]:
    final = story.final
    if final is None:
        return Estimate(None), "the run ended before the final measurement"
    if goal.is_accuracy:
        return _accuracy_value(goal, final.accuracy)
    best, base = final.best.get(goal.metric.removesuffix("_drop")), final.baseline.get(goal.base)
    if best is None or best.value is None:
        return Estimate(None), "too few frames to support this percentile"
    if not goal.is_drop:
        return best, ""
    if base is None or base.value is None:
        return Estimate(None), "the baseline has too few frames to compare with"
    lost = loss(base, best) if METRICS[goal.base].better == "higher" else loss(best, base)
    return lost, "the intervals of both, at their worst"


def loss(before: Estimate, after: Estimate) -> Estimate:
    """How much lower ``after`` is, with an interval that allows for both ends of both."""
    assert before.value is not None and after.value is not None
    if before.low is None or before.high is None or after.low is None or after.high is None:
        return Estimate(before.value - after.value)
    return Estimate(before.value - after.value, before.low - after.high, before.high - after.low)


def _accuracy_value(goal: Goal, accuracy: Accuracy | None) -> tuple[Estimate, str]:
    drop = accuracy.drops.get(goal.base) if accuracy else None
    if accuracy is None or drop is None:
        return Estimate(None), "accuracy was not judged"
    note = f"bounds at {drop.level:.2%}, one-sided, on {drop.images} unseen images"
    if goal.is_drop:
        return Estimate(drop.estimate, drop.lower, drop.upper), note
    # Of the figure itself: the baseline's was measured on the same few images, and is no more
    # certain than this one.
    return Estimate(accuracy.metrics[goal.base], *accuracy.bounds[goal.base]), note


def overall(goals: Sequence[Mapping[str, Any]], story: Story) -> str:
    """Met if all goals are; not met if any is not; else inconclusive."""
    statuses = {goal["status"] for goal in goals}
    if story.final is None:
        return "inconclusive"
    if "not_met" in statuses:
        return "not_met"
    return "inconclusive" if "inconclusive" in statuses else "met"


def _baseline(story: Story) -> dict[str, Any]:
    estimates = story.final.baseline if story.final else story.baseline.metrics
    metrics: dict[str, float | None] = {**values(story.baseline.metrics), **values(estimates)}
    if story.final is not None and story.final.accuracy is not None:
        metrics.update(story.final.accuracy.baseline)
    else:
        metrics.update(story.baseline_accuracy)
    return {
        "metrics": metrics,
        "stages": _stages(story.profile),
        "config": story.job.baseline.to_dict(),
    }


def _best(story: Story) -> dict[str, Any]:
    final = story.final
    assert final is not None
    kept = [t for t in story.trials if t.kept]
    unchanged = final.config.hash == story.job.baseline.hash
    metrics: dict[str, float | None] = dict(values(final.best))
    accuracy = final.accuracy
    guard = story.guard.base if story.guard else ""
    if accuracy is not None:
        metrics.update(accuracy.metrics)
        metrics.update({f"{name}_drop": drop.estimate for name, drop in accuracy.drops.items()})
    drop = accuracy.drops.get(guard) if accuracy else None
    return {
        "trial": kept[-1].number if kept and not unchanged else 0,
        "changes": [t.change for t in kept] + [f"reverted: {r}" for r in final.reverted],
        "config": final.config.to_dict(),
        "config_hash": final.config.hash,
        "metrics": metrics,
        "stages": _stages(story.best_profile),
        "speedup": {
            "value": final.speedup.value,
            "interval": [final.speedup.low, final.speedup.high],
        },
        "drop": {**asdict(drop), "data": "report"} if drop else None,
        "per_class": _classes(accuracy),
        "by_size": accuracy.by_size if accuracy else {},
        "looks": shares(block.looks for block in final.best_blocks),
    }


def _best_so_far(story: Story) -> dict[str, Any] | None:
    """After an interruption: the last kept trial, with its own measurements."""
    kept = [t for t in story.trials if t.kept]
    if not kept:
        return None
    last = kept[-1]
    return {
        "trial": last.number,
        "changes": [t.change for t in kept],
        "config": last.config,
        "config_hash": last.config_hash,
        "metrics": last.metrics,
        "stages": [],
        "speedup": None,
        "drop": None,
        "per_class": [],
        "by_size": last.by_size,
        "looks": shares(block.looks for block in last.blocks),
    }


def _classes(accuracy: Accuracy | None) -> list[dict[str, Any]]:
    if accuracy is None:
        return []
    return [
        {
            "class": c.name,
            "baseline": c.base,
            "best": c.candidate,
            "drop_low": c.interval.low,
            "drop_high": c.interval.high,
            "instances": c.images,
            "flag": c.message if c.broken else "",
        }
        for c in accuracy.classes
    ]


def trial_row(trial: Trial) -> dict[str, Any]:
    """A trial as ``result.json`` lists it."""
    drop = trial.drop
    return {
        "trial": trial.number,
        "parent": trial.parent,
        "change": trial.change,
        "verdict": trial.verdict,
        "reason": trial.reason,
        "kept": trial.kept,
        "predicted_gain": trial.predicted_gain,
        "predicted_bound": trial.predicted_bound,
        "prediction_basis": trial.prediction_basis,
        "achieved_gain": trial.gain.value if trial.gain else None,
        "achieved_interval": [trial.gain.low, trial.gain.high] if trial.gain else None,
        "throughput_fps": trial.metrics.get("throughput_fps"),
        "latency_ms": trial.metrics.get("latency_ms.p50"),
        "accuracy": trial.metrics.get(drop.metric) if drop else None,
        "accuracy_drop": asdict(drop) if drop else None,
        "by_size": trial.by_size,
        "looks": shares(block.looks for block in trial.blocks),
        "wall_s": trial.wall_s,
        "repair": [asdict(step) for step in trial.repair],
        "details": trial.details,
    }


def untried_row(candidate: Candidate) -> dict[str, Any]:
    """A change that there was no time for, as ``result.json`` lists it."""
    prediction = candidate.prediction
    return {
        "change": candidate.change.label,
        "predicted_gain": prediction.gain,
        "cost_s": prediction.cost_s + TRIAL_S,
    }


def _stages(profile: Profile | None) -> list[dict[str, Any]]:
    if profile is None:
        return []
    return [{"name": s.name, "wall_ms": s.wall_ms, "cpu_ms": s.cpu_ms} for s in profile.stages]


def _operators(profile: Profile | None) -> list[dict[str, Any]]:
    if profile is None:
        return []
    rows = []
    for op in profile.operators[:TOP_OPERATORS]:
        row: dict[str, Any] = {"name": op.name, "kind": op.kind, "wall_ms": op.wall_ms}
        if profile.roofline is not None:
            reached = attained(op, profile.roofline)
            row |= {
                "gflops": reached.gflops,
                "share_of_peak": reached.share_of_peak,
                "bound": {"none": "overhead"}.get(reached.binding, reached.binding),
            }
        rows.append(row)
    return rows


def count_problems(problems: Iterable[DataProblem]) -> list[dict[str, Any]]:
    """Problems by kind and action, with a few examples."""
    problems = tuple(problems)
    counts = Counter((p.kind, p.action) for p in problems)
    return [
        {
            "kind": kind,
            "action": action,
            "count": count,
            "examples": [
                f"{p.path}: {p.detail}" for p in problems if (p.kind, p.action) == (kind, action)
            ][:3],
        }
        for (kind, action), count in counts.most_common()
    ]


def _guard(story: Story) -> dict[str, Any] | None:
    if story.guard is None:
        return None
    roles = story.job.roles
    named = {
        "calibration": roles.calibration if roles else None,
        "selection": roles.selection if roles else None,
        "report": roles.report if roles else None,
    }
    return {
        "metric": story.guard.base,
        "allowed": story.guard.bound,
        "data": {name: len(data) for name, data in named.items() if data is not None},
        "default": story.guard not in story.job.goals,
    }
