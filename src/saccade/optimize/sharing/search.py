"""Try the ways of sharing, keep those that pay, each raced and judged on both tasks.

The same rules as in `saccade.optimize.search`: a change is raced against the system it changes, in
one run, interleaved; one that is faster is judged for accuracy against both baselines, each on its
own data with its own bound.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

from saccade import plugins
from saccade.errors import SaccadeError, StorageError
from saccade.goals import Goal
from saccade.optimize.change import Effect, Prediction
from saccade.optimize.contest import Contest
from saccade.optimize.plan import MIN_GAIN
from saccade.optimize.race import same_answers
from saccade.optimize.referee import Judgement, Referee
from saccade.optimize.sharing.contract import SharingChange, SharingContext
from saccade.optimize.sharing.subject import SystemRunner
from saccade.optimize.trial_book import TrialBook, terms_of
from saccade.optimize.verdicts import NOT_FASTER, decided
from saccade.pipeline.system import SystemConfig
from saccade.progress import Progress
from saccade.study import Drop, RunFolder, Trial


@dataclass(frozen=True)
class SharingCandidate:
    """A way of sharing that applies, with what it promises."""

    change: SharingChange
    prediction: Prediction

    @property
    def order(self) -> tuple[bool, int, float]:
        """What costs no accuracy first, then what others build on, then by expected gain."""
        expected = (self.prediction.gain - 1) * self.prediction.odds
        place = plugins.names("sharings").index(self.change.name)
        return self.change.effect == "lossy", place, -expected


def plan_sharing(
    context: SharingContext,
) -> tuple[list[SharingCandidate], list[tuple[str, str]]]:
    """Every way of sharing that applies, best first, and the others with the reason."""
    candidates, inapplicable = [], []
    for name in plugins.names("sharings"):
        for change in plugins.load("sharings", name).variants(context):
            prediction = _predicted(change, context)
            if isinstance(prediction, str):
                inapplicable.append((change.label, prediction))
                continue
            if prediction.bound < MIN_GAIN or prediction.gain < 1:
                said = f"predicted {prediction.gain:.3f}x, at most {prediction.bound:.3f}x"
                inapplicable.append((change.label, f"{said} ({prediction.basis})"))
                continue
            candidates.append(SharingCandidate(change, prediction))
    return sorted(candidates, key=lambda candidate: candidate.order), inapplicable


def _predicted(change: SharingChange, context: SharingContext) -> Prediction | str:
    """What a way of sharing promises, or why it cannot be tried.

    Looking at it may mean reading and merging both models, which may fail: then that is why.
    """
    try:
        reason = change.applies(context)
        return change.predict(context) if reason is None else reason
    except StorageError:
        raise
    except SaccadeError as error:
        return str(error)


class SharingSearch:
    """Greedy search over ways of sharing, resumable from the run folder.

    Args:
        context: the system before anything is shared.
        start: the system that the first trial is raced against.
        referees: of each task; None where nothing can be judged.
        goals: of the whole system.
        resolution: relative difference that this machine can resolve now.
        deadline: on ``time.monotonic``'s clock; no trial starts after it.
        environment_hash: of this machine.

    Attributes:
        trials: everything tried, in order.
        inapplicable: labels of what could not be tried, with the reason.
        incumbent: the best system so far.
        exact: systems that trade no accuracy away, in the order in which they were kept; the one
            that the search began with is the first.
    """

    def __init__(
        self,
        context: SharingContext,
        start: SystemConfig,
        referees: Sequence[Referee | None],
        goals: tuple[Goal, ...],
        run: RunFolder,
        progress: Progress,
        resolution: float,
        deadline: float,
        environment_hash: str,
    ) -> None:
        self._context = context
        self._referees = referees
        self._goals = goals
        self._progress = progress
        self._deadline = deadline
        plan = context.plans[0]
        terms = terms_of(plan.objective, referees, goals)
        self._book = TrialBook(run, progress, terms, environment_hash)
        self._races: Contest[SystemRunner] = Contest(
            lambda config: SystemRunner(config, plan.source),
            self._book,
            plan.objective,
            resolution,
            self._time_left,
        )
        self.inapplicable: dict[str, str] = {}
        self.incumbent = self._start = start
        self.exact = [start]
        self._traded = False

    @property
    def trials(self) -> list[Trial]:
        """Everything tried, in order."""
        return self._book.trials

    def run(self) -> SystemConfig:
        """Each system as it was improved on its own, then the ways of sharing; the best."""
        try:
            self._take_own_improvements()
            while self._time_left() > 0:
                candidate = self._next()
                if candidate is None:
                    break
                self._try(candidate)
        finally:
            self.close()
        if not any(trial.kept for trial in self.trials):
            self.incumbent = self._start
        return self.incumbent

    def _time_left(self) -> float:
        return self._deadline - time.monotonic()

    def _take_own_improvements(self) -> None:
        """The first trial: what both playbooks found, side by side, against both baselines."""
        improved = self._context.config
        if improved.hash == self.incumbent.hash:
            return
        before = [config.task for config in improved.parts]
        draft = self._draft(f"{' and '.join(before)} improved on their own", "own", None)
        if not self._replayed(draft, "near_lossless"):
            self._contest(improved, draft, "near_lossless", time.monotonic())
        if self.trials[-1].kept:
            return
        if self.trials[-1].verdict in NOT_FASTER.values():
            # Sharing is still tried from there: what two together lose, one decode may win back.
            self.incumbent, self._book.parent = improved, 1
            return
        # Each was fine alone, and both together are not: only the naive pipelines are left.
        first, second = (
            replace(plan, config=part)
            for plan, part in zip(self._context.plans, self._start.parts, strict=True)
        )
        self._context = replace(self._context, config=self._start, plans=(first, second))

    def _next(self) -> SharingCandidate | None:
        candidates, inapplicable = plan_sharing(self._context)
        self.inapplicable.update(inapplicable)
        tried = {trial.change for trial in self.trials}
        open_ = [
            candidate
            for candidate in candidates
            if candidate.change.label not in tried
            and candidate.prediction.cost_s <= self._time_left()
        ]
        return open_[0] if open_ else None

    def _try(self, candidate: SharingCandidate) -> None:
        change = candidate.change
        draft = self._draft(change.label, change.name, candidate.prediction)
        if not self._replayed(draft, change.effect):
            began = time.monotonic()
            self._progress.trial_started(draft.number, change.label, candidate.prediction.gain)
            self._apply(change, draft, began)
        if self.trials[-1].kept:
            cost = change.cost(self._context)
            self._context = replace(self._context, config=self.incumbent, cost=cost)

    def _apply(self, change: SharingChange, draft: Trial, began: float) -> None:
        try:
            config = change.apply(self._context)
        except StorageError:
            raise
        except SaccadeError as error:
            self._book.add(replace(draft, reason=str(error), wall_s=time.monotonic() - began))
            return
        self._contest(config, draft, change.effect, began)

    def _draft(self, label: str, name: str, prediction: Prediction | None) -> Trial:
        return self._book.draft(label, name, self.incumbent.hash, prediction)

    def _replayed(self, draft: Trial, effect: Effect) -> bool:
        """Whether an earlier run has tried the same change of the same system; it is taken over."""
        known = self._book.again(draft)
        if known is None:
            return False
        if known.kept:
            self._keep(SystemConfig.from_dict(known.config), effect)
        self._book.add(known, known=True)
        return True

    def _contest(self, config: SystemConfig, draft: Trial, effect: Effect, began: float) -> None:
        """Race, judge, record; the winner becomes the incumbent."""
        draft = replace(draft, config=config.to_dict(), config_hash=config.hash)

        def decide(reference: SystemRunner, runner: SystemRunner) -> Trial:
            result = self._races.race(reference, runner, draft)
            judge = partial(self._judge, reference, runner, effect)
            sizes_mb = (reference.config.model_mb, config.model_mb)
            return decided(draft, result, self._goals, sizes_mb, judge)

        trial = self._races.hold(self.incumbent, config, draft, decide)
        if trial.kept:
            self._keep(config, effect)
        self._book.add(replace(trial, wall_s=time.monotonic() - began))

    def _judge(
        self, reference: SystemRunner, runner: SystemRunner, effect: Effect, trial: Trial
    ) -> Trial:
        if effect == "exact" and same_answers(reference, runner):
            reason = f"{trial.reason}; the same results of both tasks on the same frames"
            return replace(trial, verdict="better", kept=True, reason=reason)
        judged = self._judged(runner, "near_lossless" if effect == "exact" else effect)
        return with_judgements(trial, runner.config.tasks, judged)

    def _judged(self, runner: SystemRunner, effect: Effect) -> list[Judgement | None]:
        """What each task's referee says; None for one that has none."""
        return [
            referee.judge(runner.part(part), effect) if referee is not None else None
            for part, referee in enumerate(self._referees)
        ]

    def _keep(self, config: SystemConfig, effect: Effect) -> None:
        self.incumbent = config
        # What is kept on top of a trade of accuracy has that trade in it.
        self._traded = self._traded or effect == "lossy"
        if not self._traded:
            self.exact.append(config)

    def close(self) -> None:
        """End the incumbent's worker."""
        self._races.close()


def with_judgements(
    trial: Trial, tasks: Sequence[str], judged: Sequence[Judgement | None]
) -> Trial:
    """The trial with what the referees of both tasks found; it is kept where both agree."""
    reasons, drops = [trial.reason], {}
    found: list[tuple[str, float | None]] = []
    for task, judgement in zip(tasks, judged, strict=True):
        if judgement is None:
            reasons.append(f"{task}: not judged, there is no data to judge it on")
            continue
        reasons.append(f"{task}: {judgement.reason}")
        if judgement.drop is not None:
            drops[task] = judgement.drop
            found.append((judgement.drop.metric, judgement.accuracy))
    keep = all(judgement is None or judgement.keep for judgement in judged)
    return replace(
        trial,
        verdict="better" if keep else "broke a goal",
        kept=keep,
        reason="; ".join(reasons),
        drop=shown_drop(tasks, drops),
        metrics={**trial.metrics, **dict(reversed(found))},
        details={**trial.details, "drops": {task: asdict(drop) for task, drop in drops.items()}},
    )


def shown_drop(tasks: Sequence[str], drops: dict[str, Drop]) -> Drop | None:
    """The drop that stands for both where there is room for one: the first task's."""
    return next((drops[task] for task in tasks if task in drops), None)
