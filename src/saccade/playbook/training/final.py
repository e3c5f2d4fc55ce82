"""The last word on a training: its loss curves against the baseline's, and what is taken back."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from saccade.errors import DataError, SaccadeError
from saccade.optimize.training.search import Found, Kept, Rebuilt, rebuilt
from saccade.optimize.training.sets import Option
from saccade.playbook.training.learning import Check, checks_of
from saccade.playbook.training.prepare import TrainingTask
from saccade.playbook.training.steps import Curves, equal_steps, step_samples, train_curves
from saccade.progress import Progress
from saccade.study import Verdict
from saccade.train.change import TrainingContext
from saccade.train.config import TrainingConfig
from saccade.validate.loss_drift import Drift, drift

# Which changes are taken back first where the training learns worse.
RISK = {"lossy": 0, "near_lossless": 1, "exact": 2}
# Curves of fewer steps say nothing of how a training learns.
FEWEST_STEPS = 3


@dataclass(frozen=True)
class TakenBack:
    """A change that was taken back.

    Attributes:
        reason: why, one clause.
        verdict: ``"broke a goal"`` where the training learnt worse with it, ``"failed"`` where it
            did not train, ``"inconclusive"`` where it could not stay for another reason.
    """

    label: str
    reason: str
    verdict: Verdict = "broke a goal"


@dataclass(frozen=True)
class Judged:
    """The configuration that stays.

    Attributes:
        curves: of it, None where it is the baseline or is unproven.
        drift: against the baseline, None likewise.
        checks: what was asked of how it learns, and what was found.
        unproven: why it was not trained from the seeds; empty where it was.
    """

    config: TrainingConfig
    kept: tuple[Kept, ...]
    curves: Curves | None
    drift: Drift | None
    taken_back: tuple[TakenBack, ...] = ()
    checks: tuple[Check, ...] = ()
    unproven: str = ""


@dataclass(frozen=True)
class Trained:
    """A configuration that was trained from the seeds, and why it cannot stay.

    Attributes:
        reason: empty where it can.
        verdict: see `TakenBack`.
    """

    curves: Curves | None = None
    drift: Drift | None = None
    checks: tuple[Check, ...] = ()
    reason: str = ""
    verdict: Verdict = "broke a goal"

    @property
    def tried(self) -> bool:
        """Whether it was trained at all, or its steps are too large for that."""
        return self.verdict != "inconclusive"


def judge_and_mend(
    task: TrainingTask,
    context: TrainingContext,
    found: Found,
    baseline: Curves,
    steps: int,
    folder: Path,
    say: Progress,
    time_left: Callable[[], float],
) -> Judged:
    """Train the best configuration from the baseline's seeds; take back what makes it learn worse.

    Changes are taken back one after the other, those that change the numbers most first, until
    the training learns as `saccade.playbook.training.learning` asks. Each time it is trained from
    all seeds again, as long as the time allows; it is trained once in any case.

    Args:
        task: with the goals.
        context: of the baseline.
        found: what the search came to.
        baseline: the curves to compare with.
        steps: of each of them.
        folder: the run folder.
        say: told what is taken back.
        time_left: seconds of the budget.
    """
    rest, back = Rebuilt(found.config, found.kept), list[TakenBack]()
    while rest.kept:
        began = time.monotonic()
        trained = _trained(task, rest.config, baseline, steps, folder)
        if trained.drift is not None:
            say.note(describe(trained.drift, len(baseline.curves[0].losses)))
        if not trained.reason:
            return Judged(
                rest.config, rest.kept, trained.curves, trained.drift, tuple(back), trained.checks
            )
        riskiest = _riskiest(rest, context, trained)
        back.append(TakenBack(riskiest.option.label, trained.reason, trained.verdict))
        say.note(f"{riskiest.option.label} is taken back: {trained.reason}")
        milder = _milder(riskiest, context)
        now = [k for k in (milder if k is riskiest else k for k in rest.kept) if k is not None]
        if now and trained.tried and time_left() < time.monotonic() - began:
            say.note("no time is left to train without it")
            others = [k for k in rest.kept if k is not riskiest]
            return _untrained(task, context, riskiest, others, back, trained)
        if milder is not None:
            say.note(f"{milder.option.label} is tried instead")
        rest = rebuilt(now, context)
        back += _fallen(rest, riskiest)
    return Judged(task.baseline, (), None, None, tuple(back))


def _riskiest(rest: Rebuilt, context: TrainingContext, trained: Trained) -> Kept:
    """The change to take back next: what alters most, of what can be to blame."""
    suspects: Sequence[Kept] = rest.kept
    if not trained.tried:
        suspects = [k for k in suspects if _enlarges(k, rest, context)] or suspects
    return min(suspects, key=lambda k: (RISK[k.option.change.effect], -k.option.order))


def _enlarges(kept: Kept, rest: Rebuilt, context: TrainingContext) -> bool:
    """Whether a step has fewer samples without a change."""
    smaller = rebuilt([k for k in rest.kept if k is not kept], context).config
    return step_samples(smaller) < step_samples(rest.config)


def _fallen(rest: Rebuilt, gone: Kept) -> list[TakenBack]:
    """Changes that cannot be without one that was taken back."""
    why = f"it does not go without {gone.option.label}, which was taken back"
    return [
        TakenBack(kept.option.label, f"{why}: {reason}", "inconclusive")
        for kept, reason in rest.fallen
    ]


def _untrained(
    task: TrainingTask,
    context: TrainingContext,
    gone: Kept,
    others: Sequence[Kept],
    back: Sequence[TakenBack],
    trained: Trained,
) -> Judged:
    """What stays where time is up: at most the changes that do not alter the numbers.

    Not even those stay where one of them was to blame, or where training failed.

    Args:
        task: with the baseline.
        context: of the baseline.
        gone: the change that was taken back last.
        others: the rest of those that were trained together.
        back: what was taken back so far.
        trained: what came of training all of them.
    """
    exact = trained.drift is not None and gone.option.change.effect != "exact"
    stay = [k for k in others if exact and k.option.change.effect == "exact"]
    why = f"no time was left to train without {gone.option.label}, and so it is not shown to learn"
    taken = [TakenBack(k.option.label, why, "inconclusive") for k in others if k not in stay]
    rest = rebuilt(stay, context)
    all_back = [*back, *taken, *_fallen(rest, gone)]
    if not rest.kept:
        return Judged(task.baseline, (), None, None, tuple(all_back))
    return Judged(
        rest.config,
        rest.kept,
        None,
        None,
        tuple(all_back),
        unproven="no time was left to train it from the seeds; its changes do not alter numbers",
    )


def _milder(kept: Kept, context: TrainingContext) -> Kept | None:
    """The same change in the next smaller degree, where it has degrees and that one applies."""
    next_degree = getattr(kept.option.change, "milder", None)
    change = next_degree(context) if next_degree is not None else None
    if change is None or change.applies(context) is not None:
        return None
    return Kept(Option(change, change.predict(context), kept.option.order), None, None)


def _trained(
    task: TrainingTask, config: TrainingConfig, baseline: Curves, steps: int, folder: Path
) -> Trained:
    """Train from the baseline's seeds, on as many samples, and judge how it learnt."""
    seeds = [curve.seed for curve in baseline.curves]
    own = equal_steps(baseline.config, config, steps)
    if own < FEWEST_STEPS:
        return Trained(
            reason=f"its steps are so large that it takes {own} on the samples that the baseline "
            f"saw in {steps}, too few to judge how it learns; ask for longer curves with --steps",
            verdict="inconclusive",
        )
    try:
        curves = train_curves(config, seeds, own, folder, baseline.held_out)
    except SaccadeError as error:
        return Trained(reason=f"training failed: {error}", verdict="failed")
    try:
        change = drift(baseline.curves, curves.curves)
    except DataError as error:
        return Trained(curves, reason=str(error))
    checks = checks_of(task, config, baseline.curves, change)
    broken = next((check.text for check in checks if check.broken), "")
    return Trained(curves, change, checks, broken)


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
