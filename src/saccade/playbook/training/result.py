"""``result.json`` of a training: what scripts and the report read. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from saccade.diagnose.records import Finding
from saccade.diagnose.training import diagnose_training
from saccade.goals import TRAINING_METRICS, Goal
from saccade.optimize.metrics import Estimate, values
from saccade.optimize.training.durations import racing_s
from saccade.optimize.training.memory_search import FEWER, MORE
from saccade.optimize.training.runner import TrainingRace
from saccade.optimize.training.search import Found, Kept
from saccade.optimize.training.sets import Option
from saccade.playbook.result import loss, trial_row
from saccade.playbook.training.final import Judged
from saccade.playbook.training.pareto import training_pareto
from saccade.playbook.training.prepare import TrainingTask
from saccade.playbook.training.steps import Curves, training_metrics
from saccade.playbook.training.times import TIMES, learning_times
from saccade.study import Trial
from saccade.train.profile import TrainingProfile
from saccade.train.records import PARTS, TrainingBlock
from saccade.validate.loss_drift import Bounded

TOP_OPERATORS = 12


@dataclass(frozen=True)
class TrainingStory:
    """Everything that one run found out; parts are None where it did not get that far."""

    task: TrainingTask
    resolution: float = 0.0
    profile: TrainingProfile | None = None
    findings: tuple[Finding, ...] = ()
    baseline: Curves | None = None
    trials: tuple[Trial, ...] = ()
    found: Found | None = None
    judged: Judged | None = None
    final: TrainingRace | None = None
    best_profile: TrainingProfile | None = None
    wall_s: float = 0.0
    interrupted: bool = False
    failure: str = ""
    untried: tuple[Option, ...] = ()

    @property
    def samples(self) -> int:
        """In the training split; 0 before the baseline was measured."""
        return int(self.baseline.about["samples"]) if self.baseline else 0

    @property
    def parameters(self) -> int:
        """Of the job's model; 0 before the baseline was measured."""
        return int(self.baseline.about["parameters"]) if self.baseline else 0


def baseline_document(
    baseline: Curves, metrics: Mapping[str, Estimate], resolution: float
) -> dict[str, Any]:
    """Content of ``baseline.json``; raw samples included."""
    return {
        "metrics": values(metrics),
        "config": baseline.config.to_dict(),
        "config_hash": baseline.config.hash,
        "resolution": resolution,
        "curves": [asdict(curve) for curve in baseline.curves],
    }


def result_document(story: TrainingStory) -> dict[str, Any]:
    """The whole document."""
    goals = goal_rows(story)
    task, found = story.task, story.found
    return {
        "kind": "training",
        "status": overall(goals, story),
        "goals": goals,
        "baseline": _side(story, story.baseline, story.profile, _reference(story)),
        "best": _best(story),
        "pareto": training_pareto(
            story,
            values(metrics_of(story, _reference(story))),
            values(metrics_of(story, _measured(story))),
        ),
        "rejected": _rejected(story),
        "untried": [_untried_row(option, story) for option in story.untried],
        "kept": [_kept_row(kept) for kept in _kept(story)],
        "trials": [_trial_row(trial) for trial in story.trials],
        "interactions": [
            {**asdict(i), "factor": i.factor} for i in (found.interactions if found else ())
        ],
        "findings": [finding.document() for finding in story.findings],
        "drift": _drift(story),
        "environment": task.environment.to_dict(),
        "noise": {"percent": 100 * story.resolution},
        "objective": "samples_per_s",
        "budget_s": task.spec.budget,
        "wall_s": story.wall_s,
        "spec": task.spec.document(),
        "job": {"samples": story.samples, "parameters": story.parameters, "epochs": task.epochs},
        "guard": _guard(story),
        "interrupted": story.interrupted,
        "failure": story.failure or None,
    }


def _guard(story: TrainingStory) -> dict[str, Any]:
    """What is asked of how it learns, and whether that could be shown."""
    judged = story.judged
    return {
        "metric": "loss_drift",
        "allowed": story.task.guard.bound,
        "checks": [check.document() for check in judged.checks] if judged else [],
        "unproven": judged.unproven if judged else "",
    }


def _untried_row(option: Option, story: TrainingStory) -> dict[str, Any]:
    """A change that there was no time for."""
    step_s = story.profile.block.step_ms / 1e3 if story.profile is not None else 0.0
    return {
        "change": option.label,
        "predicted_gain": option.prediction.gain,
        "cost_s": racing_s(option.prediction.cost_s, step_s, step_s),
    }


def _trial_row(trial: Trial) -> dict[str, Any]:
    return {**trial_row(trial), "samples_per_s": trial.metrics.get("samples_per_s")}


def _kept(story: TrainingStory) -> tuple[Kept, ...]:
    return story.judged.kept if story.judged else story.found.kept if story.found else ()


def metrics_of(story: TrainingStory, blocks: Sequence[TrainingBlock]) -> dict[str, Estimate]:
    """Metrics of one side."""
    return training_metrics(blocks, story.samples, story.task.epochs) if blocks else {}


def _reference(story: TrainingStory) -> tuple[TrainingBlock, ...]:
    if story.final is not None:
        return story.final.reference
    return story.baseline.blocks if story.baseline else ()


def _measured(story: TrainingStory) -> tuple[TrainingBlock, ...]:
    """Blocks of what is best; none where the run ended before it was measured."""
    if story.final is not None:
        return story.final.candidate
    judged = story.judged
    same = judged is not None and judged.config.hash == story.task.baseline.hash
    return _reference(story) if same else ()


def _side(
    story: TrainingStory,
    curves: Curves | None,
    profile: TrainingProfile | None,
    blocks: Sequence[TrainingBlock],
) -> dict[str, Any]:
    found: dict[str, float | None] = dict(values(metrics_of(story, blocks)))
    if curves is not None:
        found |= _learnt(story, curves)
    return {
        "metrics": found,
        "parts": _parts(blocks),
        "curves": _curves(curves),
        "operators": _operators(profile),
        "memory_mb": dict(profile.memory_mb) if profile else {},
        "resources": _resources(blocks),
        "busy": [asdict(moment) for moment in profile.busy] if profile else [],
        "config": (curves.config if curves else story.task.baseline).to_dict(),
    }


def _learnt(story: TrainingStory, curves: Curves) -> dict[str, float | None]:
    """What the curves say: held-out loss and metric, and the times to the baseline's last."""
    judged = [c.evaluation for c in curves.curves if c.evaluation is not None]
    found: dict[str, float | None] = {}
    if judged:
        found["held_out_loss"] = sum(e.loss for e in judged) / len(judged)
        scores = [e.metric for e in judged if e.metric is not None]
        if scores:
            found["metric"] = sum(scores) / len(scores)
    return found | values(learning_times(curves, story.baseline, story.task.guard.bound))


def _best(story: TrainingStory) -> dict[str, Any] | None:
    judged, final = story.judged, story.final
    if judged is None:
        return None
    side = _side(story, judged.curves, story.best_profile, _measured(story))
    speedup = None
    if final is not None:
        ratio = final.comparison.ratio
        speedup = {"value": ratio.value, "interval": [ratio.interval.low, ratio.interval.high]}
    return {
        **side,
        "findings": _findings(story.best_profile),
        "trial": story.trials[-1].number if story.trials else 0,
        "changes": [k.option.label for k in judged.kept]
        + [f"reverted: {t.label} ({t.reason})" for t in judged.taken_back],
        "config": judged.config.to_dict(),
        "config_hash": judged.config.hash,
        "speedup": speedup,
    }


def _findings(profile: TrainingProfile | None) -> list[dict[str, Any]]:
    """What holds the best configuration back; uneven ranks show nowhere else."""
    return [] if profile is None else [f.document() for f in diagnose_training(profile)]


def _kept_row(kept: Kept) -> dict[str, Any]:
    change, marginal = kept.option.change, kept.marginal
    expected = kept.expected or kept.option.prediction
    return {
        "change": kept.option.label,
        "optimization": change.name,
        "part": change.part,
        "effect": change.effect,
        "predicted_alone": kept.option.prediction.gain,
        "alone": kept.alone,
        "predicted_gain": expected.gain,
        "predicted_bound": expected.bound,
        "prediction_basis": expected.basis,
        "achieved_gain": marginal.value if marginal else None,
        "achieved_interval": [marginal.low, marginal.high] if marginal else None,
        "memory": asdict(kept.saved) if kept.saved else None,
    }


def _rejected(story: TrainingStory) -> list[dict[str, Any]]:
    """Every change that is not part of the best system, with its best evidence."""
    kept = {k.option.label for k in _kept(story)}
    rows: dict[str, dict[str, Any]] = {}
    for trial in story.trials:
        named = trial.details.get("set", [])
        if len(named) != 1 or named[0] in kept:
            continue
        how = trial.details.get("how", "")
        if how == FEWER and not trial.kept:
            continue  # what became of the change itself is told by another trial
        verdict = "not distinguishable" if trial.verdict == "better" else trial.verdict
        rows[named[0]] = {
            "trial": trial.number,
            "change": named[0],
            "verdict": "broke a goal" if how == FEWER else verdict,
            "reason": f"{_HOW.get(how, how)}: {trial.reason}",
        }
    for taken in story.judged.taken_back if story.judged else ():
        worse = taken.verdict == "broke a goal"
        rows[taken.label] = {
            "trial": None,
            "change": taken.label,
            "verdict": taken.verdict,
            "reason": f"{'it learns worse: ' if worse else ''}{taken.reason}",
        }
    return list(rows.values())


_HOW = {
    "alone": "alone, and not needed beside the others",
    "without": "the system is as fast without it",
    MORE: "for less memory",
    FEWER: "given up for less memory",
}


def _drift(story: TrainingStory) -> dict[str, Any] | None:
    found = story.judged.drift if story.judged else None
    if found is None:
        return None
    return {
        "loss": asdict(found.loss),
        "metric": asdict(found.metric) if found.metric else None,
        "held_out_loss": asdict(found.held_out_loss) if found.held_out_loss else None,
    }


def _parts(blocks: Sequence[TrainingBlock]) -> list[dict[str, Any]]:
    """Mean milliseconds of each part of a step."""
    steps = sum(len(block.step_s) for block in blocks)
    if not steps:
        return []
    means = {part: 1e3 * sum(sum(b.part_s.get(part, ())) for b in blocks) / steps for part in PARTS}
    return [{"name": part, "wall_ms": mean} for part, mean in means.items() if mean > 0]


def _curves(curves: Curves | None) -> list[dict[str, Any]]:
    if curves is None:
        return []
    return [{"seed": c.seed, "losses": list(c.losses)} for c in curves.curves]


def _operators(profile: TrainingProfile | None) -> list[dict[str, Any]]:
    if profile is None:
        return []
    return [
        {"name": op.name, "kind": op.kind, "wall_ms": op.wall_ms}
        for op in profile.operators[:TOP_OPERATORS]
    ]


def _resources(blocks: Sequence[TrainingBlock]) -> dict[str, Any]:
    return {
        "busy_share": [b.busy_share for b in blocks],
        "device_busy_share": [b.device_busy_share for b in blocks],
    }


def goal_rows(story: TrainingStory) -> list[dict[str, Any]]:
    """Every goal with its value, interval and status."""
    rows = []
    for goal in story.task.goals:
        estimate, note = _goal_value(goal, story)
        bounded = estimate.low is not None and estimate.high is not None
        rows.append(
            {
                "name": goal.name,
                "metric": goal.metric,
                "op": goal.op,
                "bound": goal.bound,
                "value": estimate.value,
                "interval": [estimate.low, estimate.high] if bounded else None,
                "status": goal.status(estimate.value, estimate.low, estimate.high),
                "note": note,
            }
        )
    return rows


def _goal_value(goal: Goal, story: TrainingStory) -> tuple[Estimate, str]:
    judged = story.judged
    if judged is None:
        return Estimate(None), "the run ended before the final measurement"
    if goal.base in ("loss_drift", "metric"):
        return _learning_value(goal, story, judged)
    allowed = story.task.guard.bound
    times = learning_times(judged.curves or story.baseline, story.baseline, allowed)
    before = learning_times(story.baseline, story.baseline, allowed)
    best = metrics_of(story, _measured(story)) | times
    base = metrics_of(story, _reference(story)) | before
    if any(_unknown(side, goal.base) for side in ((best, base) if goal.is_drop else (best,))):
        return Estimate(None), _WHY_UNKNOWN.get(goal.base, "it was not measured")
    if not goal.is_drop:
        return best[goal.base], ""
    higher = TRAINING_METRICS[goal.base].better == "higher"
    a, b = (base, best) if higher else (best, base)
    return loss(a[goal.base], b[goal.base]), "the intervals of both, at their worst"


def _unknown(side: Mapping[str, Estimate], metric: str) -> bool:
    return metric not in side or side[metric].value is None


# Why a metric may have no value.
_WHY_UNKNOWN = {
    **dict.fromkeys(TIMES, "the curves do not get there, or nothing held out was judged"),
    **dict.fromkeys(("device_busy_share", "peak_device_mb"), "it does not train on a GPU"),
}


def _learning_value(goal: Goal, story: TrainingStory, judged: Judged) -> tuple[Estimate, str]:
    if judged.unproven:
        return Estimate(None), judged.unproven
    if judged.drift is None:
        if goal.metric == "metric":
            return Estimate(None), "only the drop of the metric is measured, not the trained value"
        return Estimate(0.0, 0.0, 0.0), "it is the baseline"
    found = judged.drift.loss if goal.base == "loss_drift" else judged.drift.metric
    if found is None or goal.metric == "metric":
        return Estimate(None), "short trainings bound the drop of the metric, not its final value"
    return _estimate(found), f"{found.level:.0%} one-sided bounds over {found.seeds} seeds"


def _estimate(found: Bounded) -> Estimate:
    return Estimate(found.estimate, found.lower, found.upper)


def overall(goals: Sequence[Mapping[str, Any]], story: TrainingStory) -> str:
    """Met if all goals are; not met if any is not; else inconclusive.

    That it learns the same is asked with every goal, and without any: where the bounds that decide
    cannot be shown, no training is called met.
    """
    statuses = {goal["status"] for goal in goals}
    judged = story.judged
    if judged is None:
        return "inconclusive"
    if "not_met" in statuses:
        return "not_met"
    if judged.unproven or any(c.decides and c.status != "met" for c in judged.checks):
        return "inconclusive"
    return "inconclusive" if "inconclusive" in statuses else "met"
