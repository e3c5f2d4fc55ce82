"""The last word on a training: its loss curves against the baseline's, and what is taken back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from saccade.errors import DataError, SaccadeError
from saccade.optimize.training.search import Found, Kept, without
from saccade.playbook.training.prepare import TrainingTask
from saccade.playbook.training.steps import Curves, train_curves
from saccade.progress import Progress
from saccade.train.change import TrainingContext
from saccade.train.config import TrainingConfig
from saccade.validate.loss_drift import Drift, drift

# Which changes are taken back first where the training learns worse.
RISK = {"lossy": 0, "near_lossless": 1, "exact": 2}


@dataclass(frozen=True)
class TakenBack:
    """A change that was taken back because with it the training learnt worse."""

    label: str
    reason: str


@dataclass(frozen=True)
class Judged:
    """The configuration that stays.

    Attributes:
        curves: of it, None where it is the baseline.
        drift: against the baseline, None where it is the baseline.
    """

    config: TrainingConfig
    kept: tuple[Kept, ...]
    curves: Curves | None
    drift: Drift | None
    taken_back: tuple[TakenBack, ...] = ()


def judge_and_mend(
    task: TrainingTask,
    context: TrainingContext,
    found: Found,
    baseline: Curves,
    steps: int,
    folder: Path,
    say: Progress,
) -> Judged:
    """Train the best configuration from the baseline's seeds; take back what makes it learn worse.

    Changes are taken back one after the other, those that change the numbers most first, until
    the drift of the loss is within what the goal allows.
    """
    seeds = [curve.seed for curve in baseline.curves]
    kept, config = found.kept, found.config
    back: list[TakenBack] = []
    while kept:
        curves, change, reason = _curves(config, seeds, steps, folder, baseline)
        if change is not None:
            reason = _why_not(task, change)
            say.note(describe(change, steps))
        if not reason:
            return Judged(config, kept, curves, change, tuple(back))
        riskiest = min(kept, key=lambda k: (RISK[k.option.change.effect], -k.option.order))
        say.note(f"{riskiest.option.label} is taken back: {reason}")
        back.append(TakenBack(riskiest.option.label, reason))
        kept = tuple(k for k in kept if k is not riskiest)
        config = without(kept, context, set())
    return Judged(task.baseline, (), None, None, tuple(back))


def _curves(
    config: TrainingConfig, seeds: Sequence[int], steps: int, folder: Path, baseline: Curves
) -> tuple[Curves | None, Drift | None, str]:
    """Curves and their drift, or why there are none."""
    try:
        curves = train_curves(config, seeds, steps, folder)
        return curves, drift(baseline.curves, curves.curves), ""
    except DataError as error:
        return None, None, str(error)
    except SaccadeError as error:
        return None, None, f"training failed: {error}"


def _why_not(task: TrainingTask, found: Drift) -> str:
    """Why the drift is too large; empty where it is not, or where the seeds cannot tell."""
    allowed = task.guard.bound
    if found.loss.within(allowed) is False or found.loss.estimate > allowed:
        return (
            f"the loss is {found.loss.estimate:+.2%} off the baseline's "
            f"[{found.loss.lower:+.2%}, {found.loss.upper:+.2%}], allowed {allowed:.2%}"
        )
    goal = next((g for g in task.goals if g.metric == "metric_drop"), None)
    if goal is not None and found.metric is not None and found.metric.estimate > goal.bound:
        return f"the metric drops by {found.metric.estimate:.4f}, allowed {goal.bound:g}"
    return ""


def describe(found: Drift, steps: int) -> str:
    """One line for the console."""
    loss = found.loss
    text = (
        f"loss {loss.estimate:+.2%} [{loss.lower:+.2%}, {loss.upper:+.2%}] of the baseline's over "
        f"{loss.seeds} seeds of {steps} steps"
    )
    if found.metric is not None:
        m = found.metric
        text += f", metric drop {m.estimate:+.4f} [{m.lower:+.4f}, {m.upper:+.4f}]"
    return text
