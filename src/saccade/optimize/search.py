"""The search: try the most promising change, keep what pays, profile again, go on.

Every change is raced against the configuration it changes, in one run, interleaved. One that is
faster is then judged for accuracy, against the baseline, because losses add up. Whatever
happens to a trial, it ends with a verdict and a reason on record.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from saccade.errors import ChangeRefused, SaccadeError, StorageError
from saccade.optimize.change import Optimization, PlanContext
from saccade.optimize.combined import combine
from saccade.optimize.contest import Contest
from saccade.optimize.float_versions import float_document, last_exact
from saccade.optimize.guarded import considered, unforeseen
from saccade.optimize.job import Job, plan_context
from saccade.optimize.plan import OTHER_MODEL, Candidate, in_a_hurry, make_plan
from saccade.optimize.race import RaceResult, Runner, same_answers
from saccade.optimize.referee import Judgement, Referee
from saccade.optimize.repair import Repair
from saccade.optimize.trial_book import TrialBook, terms_of
from saccade.optimize.verdicts import decided, with_judgement
from saccade.pipeline.config import PipelineConfig
from saccade.profile.records import Profile
from saccade.progress import Progress
from saccade.study import RunFolder, Trial

ProfileOf = Callable[[PipelineConfig], Profile]
# A change that could not be told apart is tried again once its predicted gain has grown so much.
RETRY_GROWTH = 1.6
RETRY_ROOM = 1.05
MIN_SMALL_GAIN = 0.08


class Search:
    """Greedy search over changes, resumable from the run folder.

    Attributes:
        incumbent: the best configuration so far.
        untried: changes that there was no time for, best first; set by `run`.

    Args:
        resolution: relative difference that this machine can resolve now.
        deadline: on ``time.monotonic``'s clock; no trial starts after it.
        profile_of: profiles a configuration in a worker.
    """

    def __init__(
        self,
        job: Job,
        run: RunFolder,
        referee: Referee | None,
        profile_of: ProfileOf,
        progress: Progress,
        resolution: float,
        deadline: float,
    ) -> None:
        self._job = job
        self._referee = referee
        self._profile_of = profile_of
        self._progress = progress
        self._deadline = deadline
        terms = terms_of(job.objective, [referee], job.goals)
        self._book = TrialBook(run, progress, terms, job.environment.hash)
        self._contest: Contest[Runner] = Contest(
            lambda config: Runner(config, job.source),
            self._book,
            job.objective,
            resolution,
            self.time_left,
        )
        # Gains below about twice the noise take many pairs to see; such changes go together.
        self._small = 1 + max(MIN_SMALL_GAIN, 2 * resolution)
        self._promised: dict[str, float] = {}
        self.incumbent: PipelineConfig = job.baseline
        self._repair = Repair()
        self.untried: tuple[Candidate, ...] = ()

    @property
    def trials(self) -> list[Trial]:
        """Everything tried, in order."""
        return self._book.trials

    @property
    def parent(self) -> int:
        """Number of the trial that the best configuration comes from."""
        return self._book.parent

    @property
    def next_number(self) -> int:
        """Number of the next trial."""
        return self._book.next_number

    def run(self, profile: Profile) -> PipelineConfig:
        """Search until nothing promising is left or time is up; the best configuration so far."""
        if self._replay():
            profile = self._profile_of(self.incumbent)
        context = self.context(profile)
        try:
            while self.time_left() > 0:
                candidate = self._next(context)
                if candidate is None:
                    break
                trial = self._try(context, candidate)
                if trial.kept:
                    context = self.context(self._profile_of(self.incumbent))
            self._give_up("there was no time left for it")
            self.untried = self._left_over(context)
        finally:
            self.close()
        return self.incumbent

    def _left_over(self, context: PlanContext) -> tuple[Candidate, ...]:
        """What the search would have gone on with."""
        return tuple(c for c in make_plan(context).candidates if self._is_new(c))

    def _replay(self) -> bool:
        """Go again through what an earlier run decided; whether it got beyond the baseline.

        Nothing is measured for it, so it happens however little time is left. What other goals
        may decide otherwise is left out, and with it all that was built on it.
        """
        for trial in self._book.settled():
            if trial.parent_hash != self.incumbent.hash:
                continue
            if trial.predicted_gain is not None:
                self._promise((trial.change, *trial.parts), trial.predicted_gain)
            self.record(trial, known=True)
        self._open_ladders()
        return self.incumbent.hash != self._job.baseline.hash

    def _open_ladders(self) -> None:
        """Let ladders of the configuration in use be climbed again, to where they ended.

        Their rungs are on record, so that costs nothing; what lies above may now be within reach.
        """
        for trial in self.trials:
            if trial.repair and not trial.kept and trial.parent_hash == self.incumbent.hash:
                self._promised.pop(trial.change, None)

    def _promise(self, labels: Iterable[str], gain: float) -> None:
        """Remember that changes were tried, and with which promise."""
        self._promised.update(dict.fromkeys(labels, gain))

    def time_left(self) -> float:
        """Seconds until the deadline."""
        return self._deadline - time.monotonic()

    def extend(self, time_left: Callable[[], float]) -> None:
        """Move the deadline: the race that confirms tuned knobs runs after the search."""
        self._deadline = time.monotonic() + max(0.0, time_left())

    def context(self, profile: Profile) -> PlanContext:
        """What planning knows about the configuration in use."""
        before = last_exact(self._job.baseline, self.trials)
        return plan_context(self._job, self.incumbent, profile, before, self._peak_rss_mb())

    def _peak_rss_mb(self) -> float | None:
        """Measured peak memory of the configuration in use, where a goal asks for it."""
        asked = any(goal.metric == "peak_rss_mb" for goal in self._job.goals)
        return self._contest.reference(self.incumbent).first.block.peak_rss_mb if asked else None

    def _next(self, context: PlanContext) -> Candidate | None:
        """The next change: a repair that was asked for, or the best of the plan."""
        forced = self._repair.forced
        if forced is not None:
            found = considered(forced, context)
            if isinstance(found, str):
                self._give_up(found)
            elif not self._can_be_made(repair := Candidate(forced, found)):
                self._give_up(f"takes about {found.cost_s:.0f} s, and there is no time left for it")
            else:
                return repair
        plan = make_plan(context, self.time_left())
        best = next((c for c in plan.candidates if self._is_open(c)), None)
        if best is not None and best.needed:
            return best
        lossy = best is not None and best.change.effect == "lossy"
        put_off = lossy and not in_a_hurry(self.time_left())
        if best is None or best.worth < self._small or put_off:
            together = combine(context, self._small)
            if together is not None and self._is_new(together):
                return together
        return best

    def _give_up(self, reason: str) -> None:
        """Leave a ladder that would go on, with the reason in its log."""
        log = self._repair.give_up(reason)
        if log is not None:
            self._book.extend_ladder(*log)

    def _is_open(self, candidate: Candidate) -> bool:
        """Whether a change deserves a trial and can be made in the time that is left."""
        return self._can_be_made(candidate) and self._is_new(candidate)

    def _can_be_made(self, candidate: Candidate) -> bool:
        return candidate.prediction.cost_s <= self.time_left()

    def _is_new(self, candidate: Candidate) -> bool:
        """Whether a change was not tried, or promises clearly more than when it was."""
        label, gain = candidate.change.label, candidate.prediction.gain
        promised = self._promised.get(label)
        if promised is None or gain - 1 > RETRY_GROWTH * max(promised - 1, 0.01):
            return True
        # A race that left room for a gain deserves one more on another configuration.
        before = [t for t in self.trials if t.change == label]
        return (
            len(before) == 1
            and before[0].verdict == "not distinguishable"
            and before[0].parent != self.parent
            and before[0].gain is not None
            and before[0].gain.high >= RETRY_ROOM
        )

    def _try(self, context: PlanContext, candidate: Candidate) -> Trial:
        change, prediction = candidate.change, candidate.prediction
        parts = [part.label for part in change.parts]
        self._promise((change.label, *parts), prediction.gain)
        draft = self._book.draft(change.label, change.name, self.incumbent.hash, prediction, parts)
        known = self._book.again(draft)
        if known is not None and self._book.holds(known):
            return self._repair.record(change, known, context)
        self._progress.trial_started(draft.number, change.label, prediction.gain)
        began = time.monotonic()
        trial = known or self._measured(context, change, draft)
        trial = replace(trial, wall_s=time.monotonic() - began)
        trial = self._repair.record(change, trial, context)
        self.record(trial, known is not None)
        return trial

    def record(self, trial: Trial, known: bool = False) -> None:
        """Put a finished trial on record and, if it was kept, go on from it."""
        self._book.add(trial, known)
        if trial.kept:
            self.incumbent = PipelineConfig.from_dict(trial.config)
        if trial.kept and trial.name in OTHER_MODEL:
            self._forget()

    def _forget(self) -> None:
        """What changes brought to one model says nothing of another; other models stay tried."""
        self._promised = {
            label: gain for label, gain in self._promised.items() if label.startswith(OTHER_MODEL)
        }

    def _measured(self, context: PlanContext, change: Optimization, draft: Trial) -> Trial:
        """Apply, race, judge. Failures of the candidate are verdicts, not errors."""
        try:
            with unforeseen():
                config = change.apply(context)
                details = change.details(context)
                unrounded = float_document(change, config, context)
        except StorageError:
            raise
        except ChangeRefused as refusal:
            return replace(draft, verdict="worse", reason=str(refusal))
        except SaccadeError as error:
            return replace(draft, reason=f"could not be applied: {error}")
        draft = replace(
            draft,
            config=config.to_dict(),
            config_hash=config.hash,
            details=details,
            float_config=unrounded,
        )
        trial = self.contest(config, draft, change, repairing=change == self._repair.forced)
        reasons = filter(None, (trial.reason, change.remark(context)))
        return replace(trial, reason="; ".join(reasons))

    def contest(
        self,
        config: PipelineConfig,
        draft: Trial,
        change: Optimization | None,
        repairing: bool = False,
    ) -> Trial:
        """Race a configuration against the incumbent and judge it; keep its worker if it won.

        A repair is judged before it is raced: its accuracy is what is in doubt.
        """

        def decide(reference: Runner, runner: Runner) -> Trial:
            judged = self._judged_alone(runner, change) if repairing else None
            if judged is not None and not judged.keep:
                return with_judgement(draft, judged)
            result = self._contest.race(reference, runner, draft)
            return self._verdict(reference, runner, result, draft, change, judged)

        return self._contest.hold(self.incumbent, config, draft, decide)

    def _judged_alone(self, runner: Runner, change: Optimization | None) -> Judgement | None:
        if self._referee is None or change is None:
            return None
        return self._referee.judge(runner, change.effect)

    def _verdict(
        self,
        reference: Runner,
        runner: Runner,
        result: RaceResult,
        draft: Trial,
        change: Optimization | None,
        judged: Judgement | None = None,
    ) -> Trial:
        def judge(trial: Trial) -> Trial:
            return with_judgement(trial, judged or self._judge(reference, runner, change))

        sizes_mb = (self.incumbent.model_mb, runner.config.model_mb)
        return decided(
            draft,
            result,
            self._job.goals,
            sizes_mb,
            judge,
            anyway=judged is not None or (change is not None and change.always_judged),
        )

    def _judge(self, reference: Runner, runner: Runner, change: Optimization | None) -> Judgement:
        if self._referee is None:
            return Judgement(True, "accuracy was not judged: there is no data to judge it on")
        effect = change.effect if change is not None else "exact"
        if effect == "exact" and same_answers(reference, runner):
            return Judgement(True, "the same results on the same frames")
        return self._referee.judge(runner, "near_lossless" if effect == "exact" else effect)

    def close(self) -> None:
        """End the incumbent's worker."""
        self._contest.close()
