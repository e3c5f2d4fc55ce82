"""The search: try the most promising change, keep what pays, profile again, go on.

Every change is raced against the configuration it changes, in one run, interleaved. One that is
faster is then judged for accuracy, against the baseline, because losses add up. Whatever
happens to a trial, it ends with a verdict and a reason on record.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from saccade import plugins
from saccade.errors import ChangeRefused, SaccadeError, StorageError
from saccade.optimize.change import Optimization, PlanContext
from saccade.optimize.combined import combine
from saccade.optimize.float_versions import float_document, last_float
from saccade.optimize.job import Job, plan_context
from saccade.optimize.metrics import speed_metrics, values
from saccade.optimize.plan import OTHER_MODEL, Candidate, Plan, make_plan
from saccade.optimize.race import RacePlan, RaceResult, Runner, race
from saccade.optimize.referee import Judgement, Referee
from saccade.optimize.repair import Repair
from saccade.optimize.size_goals import why_too_large, why_worth_its_size
from saccade.pipeline.config import PipelineConfig
from saccade.profile.records import Profile
from saccade.progress import Progress
from saccade.study import Ratio, RunFolder, Trial, Verdict

ProfileOf = Callable[[PipelineConfig], Profile]
# A change that could not be told apart is tried again once its predicted gain has grown so much.
RETRY_GROWTH = 1.6
RETRY_ROOM = 1.05
MIN_SMALL_GAIN = 0.08


class Search:
    """Greedy search over changes, resumable from the run folder.

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
        self._run = run
        self._referee = referee
        self._profile_of = profile_of
        self._progress = progress
        self._resolution = resolution
        self._deadline = deadline
        self._race_plan = RacePlan()
        # Gains below about twice the noise take many pairs to see; such changes go together.
        self._small = 1 + max(MIN_SMALL_GAIN, 2 * resolution)
        self._known = [t for t in run.trials() if t.environment_hash == job.environment.hash]
        self._promised: dict[str, float] = {}
        self.trials: list[Trial] = []
        self.incumbent: PipelineConfig = job.baseline
        self.parent = 0
        self.last_plan: Plan | None = None
        self._runner: Runner | None = None
        self._repair = Repair()

    def run(self, profile: Profile) -> PipelineConfig:
        """Search until nothing promising is left or time is up; the best configuration so far."""
        if self._replay():
            profile = self._profile_of(self.incumbent)
        context = self.context(profile)
        try:
            while self.time_left() > 0:
                candidate = self._next(context, self._repair.forced)
                if candidate is None:
                    break
                trial = self._try(context, candidate)
                if trial.kept:
                    context = self.context(self._profile_of(self.incumbent))
        finally:
            self.close()
        return self.incumbent

    def _replay(self) -> bool:
        """Go again through what an interrupted run decided; whether it got beyond the baseline.

        Nothing is measured for it, so it happens however little time is left. A change that a
        stricter goal would not allow now is left out, and with it all that was built on it.
        """
        for trial in self._known:
            if trial.parent_hash != self.incumbent.hash or trial.verdict == "inconclusive":
                continue
            if trial.kept and not self._still_allowed(trial):
                continue
            if trial.predicted_gain is not None:
                self._promised[trial.change] = trial.predicted_gain
            number = len(self.trials) + 1
            self.record(replace(trial, number=number, parent=self.parent), known=True)
        return self.incumbent.hash != self._job.baseline.hash

    def _still_allowed(self, trial: Trial) -> bool:
        if self._referee is None or trial.drop is None:
            return True
        same = trial.drop.metric == self._referee.metric
        return same and trial.drop.estimate <= self._referee.allowed

    def time_left(self) -> float:
        """Seconds until the deadline."""
        return self._deadline - time.monotonic()

    def extend(self, time_left: Callable[[], float]) -> None:
        """Move the deadline: the race that confirms tuned knobs runs after the search."""
        self._deadline = time.monotonic() + max(0.0, time_left())

    def context(self, profile: Profile) -> PlanContext:
        """What planning knows about the configuration in use."""
        before = last_float(self._job.baseline, self.trials)
        return plan_context(self._job, self.incumbent, profile, before, self._peak_rss_mb())

    def _peak_rss_mb(self) -> float | None:
        """Measured peak memory of the configuration in use, where a goal asks for it."""
        asked = any(goal.metric == "peak_rss_mb" for goal in self._job.goals)
        return self._reference().first.block.peak_rss_mb if asked else None

    def _next(self, context: PlanContext, forced: Optimization | None) -> Candidate | None:
        """The next change: a repair that was asked for, or the best of the plan."""
        if forced is not None and forced.applies(context) is None:
            return Candidate(forced, forced.predict(context))
        self.last_plan = make_plan(context)
        best = next((c for c in self.last_plan.candidates if self._is_open(c)), None)
        if best is not None and best.needed:
            return best
        if best is None or best.worth < self._small or best.change.effect == "lossy":
            together = combine(context, self._small, frozenset())
            if together is not None and self._is_new(together):
                return together
        return best

    def _is_open(self, candidate: Candidate) -> bool:
        """Whether a change deserves a trial and can be made in the time that is left."""
        return candidate.prediction.cost_s <= self.time_left() and self._is_new(candidate)

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
        number = len(self.trials) + 1
        for part in (change, *getattr(change, "parts", ())):
            self._promised[part.label] = prediction.gain
        self._progress.trial_started(number, change.label, prediction.gain)
        began = time.monotonic()
        draft = Trial(
            number=number,
            parent=self.parent,
            change=change.label,
            name=change.name,
            config={},
            config_hash="",
            parent_hash=self.incumbent.hash,
            verdict="failed",
            reason="",
            predicted_gain=prediction.gain,
            predicted_bound=prediction.bound,
            prediction_basis=prediction.basis,
            environment_hash=self._job.environment.hash,
        )
        known = self._recorded(change.label)
        trial = known or self._measured(context, change, draft)
        trial = replace(trial, number=number, parent=self.parent, wall_s=time.monotonic() - began)
        trial = self._repair.record(change, trial, context)
        self.record(trial, known is not None)
        return trial

    def record(self, trial: Trial, known: bool = False) -> None:
        """Put a finished trial on record and, if it was kept, go on from it."""
        self.trials.append(trial)
        if not known:
            self._run.append_trial(trial)
        elif trial.kept:
            self.close()
        if trial.kept:
            self.incumbent = PipelineConfig.from_dict(trial.config)
            self.parent = trial.number
        if trial.kept and trial.name in OTHER_MODEL:
            self._forget()
        gain = trial.gain
        self._progress.trial_finished(
            trial.number,
            trial.change,
            trial.verdict,
            gain.value if gain else None,
            (gain.low, gain.high) if gain else None,
            trial.reason,
        )

    def _forget(self) -> None:
        """What changes brought to one model says nothing of another; other models stay tried."""
        self._promised = {
            label: gain for label, gain in self._promised.items() if label.startswith(OTHER_MODEL)
        }

    def _recorded(self, label: str) -> Trial | None:
        """The same change of the same configuration, measured by a run that was interrupted."""
        parent = self.incumbent.hash
        for trial in self._known:
            if (
                trial.change == label
                and trial.parent_hash == parent
                and trial.verdict != "inconclusive"
            ):
                return trial
        return None

    def _measured(self, context: PlanContext, change: Optimization, draft: Trial) -> Trial:
        """Apply, race, judge. Failures of the candidate are verdicts, not errors."""
        try:
            config = change.apply(context)
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
            details=change.details(context) if hasattr(change, "details") else {},
            float_config=float_document(change, config, context),
        )
        trial = self.contest(config, draft, change, repairing=change == self._repair.forced)
        remark = change.remark(context) if hasattr(change, "remark") else ""
        return replace(trial, reason="; ".join(filter(None, (trial.reason, remark))))

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
        reference = self._reference()
        try:
            runner = Runner(config, self._job.source)
        except SaccadeError as error:
            return replace(draft, verdict="failed", reason=str(error))
        try:
            judged = self._judged_alone(runner, change) if repairing else None
            if judged is not None and not judged.keep:
                runner.close()
                return _with_drop(replace(draft, verdict="broke a goal"), judged)
            result = race(
                reference,
                runner,
                self._job.objective,
                self._resolution,
                self._race_plan,
                self.time_left,
            )
            trial = self._verdict(runner, result, draft, change, judged)
        except SaccadeError as error:
            runner.close()
            if reference.worker.alive:
                return replace(draft, verdict="failed", reason=str(error))
            raise
        except BaseException:
            runner.close()
            raise
        if trial.kept:
            self.close()
            self._runner = runner
        else:
            runner.close()
        return trial

    def _reference(self) -> Runner:
        if self._runner is None or not self._runner.worker.alive:
            self._runner = Runner(self.incumbent, self._job.source)
        return self._runner

    def _judged_alone(self, runner: Runner, change: Optimization | None) -> Judgement | None:
        if self._referee is None or change is None:
            return None
        return self._referee.judge(runner, change.effect)

    def _verdict(
        self,
        runner: Runner,
        result: RaceResult,
        draft: Trial,
        change: Optimization | None,
        judged: Judgement | None = None,
    ) -> Trial:
        comparison = result.comparison
        ratio = comparison.ratio
        metrics = values(speed_metrics(result.candidate, runner.config.model.size_mb))
        trial = replace(
            draft,
            gain=Ratio(ratio.value, ratio.interval.low, ratio.interval.high),
            metrics=metrics,
            blocks=result.candidate,
            parent_blocks=result.reference,
            reason=comparison.reason,
        )
        if judged is not None:
            trial = _with_drop(trial, judged, comparison.reason)
        needed = why_worth_its_size(self._job.goals, result, self.incumbent, runner.config)
        large = why_too_large(self._job.goals, result, self.incumbent, runner.config)
        if large:
            return replace(trial, verdict="worse", reason=f"{comparison.reason}; {large}")
        faster = comparison.verdict == "faster" or bool(needed)
        reason = f"{comparison.reason}; {needed}" if needed else comparison.reason
        if not faster and comparison.verdict == "not distinguishable" and saves_cpu(result):
            faster, cpu = True, result.cpu.ratio
            reason += (
                f"; but CPU per frame is {cpu.value:.3f} times less "
                f"[{cpu.interval.low:.3f}, {cpu.interval.high:.3f}]"
            )
        if not faster and not getattr(change, "always_judged", False):
            return replace(trial, verdict=_NOT_FASTER[comparison.verdict])
        judged = judged or self._judge(runner, result, change)
        if not faster:
            trial = _with_drop(trial, judged, comparison.reason)
            return replace(trial, verdict=_NOT_FASTER[comparison.verdict])
        verdict: Verdict = "better" if judged.keep else "broke a goal"
        return _with_drop(replace(trial, verdict=verdict, kept=judged.keep), judged, reason)

    def _judge(self, runner: Runner, result: RaceResult, change: Optimization | None) -> Judgement:
        if self._referee is None:
            return Judgement(True, "accuracy was not judged: there is no data to judge it on")
        effect = change.effect if change is not None else "exact"
        if effect == "exact" and same_results(runner.config.task, result):
            return Judgement(True, "the same results on the same frames")
        return self._referee.judge(runner, "near_lossless" if effect == "exact" else effect)

    def close(self) -> None:
        """End the incumbent's worker."""
        if self._runner is not None:
            self._runner.close()
            self._runner = None


def _with_drop(trial: Trial, judged: Judgement, reason: str = "") -> Trial:
    """The trial with what the referee found."""
    said = "; ".join(filter(None, (reason, judged.reason)))
    if judged.drop is None:
        return replace(trial, reason=said)
    metrics = {**trial.metrics, judged.drop.metric: judged.accuracy}
    return replace(trial, drop=judged.drop, by_size=judged.by_size, metrics=metrics, reason=said)


# Where wall time cannot tell, CPU time may: it is what the other cores' work is made of. The wall
# time must then not look worse than this.
MIN_CPU_GAIN, MIN_WALL_RATIO = 1.01, 0.98
# How a race that a change did not win is called.
_NOT_FASTER: dict[str, Verdict] = {
    "slower": "worse",
    "not distinguishable": "not distinguishable",
}


def saves_cpu(result: RaceResult) -> bool:
    """Whether the candidate clearly spends less CPU per frame and looks no slower."""
    return (
        result.cpu.verdict == "faster"
        and result.cpu.ratio.value >= MIN_CPU_GAIN
        and result.comparison.ratio.value >= MIN_WALL_RATIO
    )


def same_results(task: str, result: RaceResult) -> bool:
    """Whether both sides said the same of the same frames, but for rounding."""
    same = plugins.load("tasks", task).same
    pairs = zip(result.reference_results, result.candidate_results, strict=True)
    return all(same(a, b) for a, b in pairs)
