"""The whole playbook of a training, in order; what `saccade train optimize` runs."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from saccade.diagnose.records import Finding
from saccade.errors import SaccadeError
from saccade.optimize.training.memory_goals import memory_goals
from saccade.optimize.training.memory_search import MemorySearch
from saccade.optimize.training.ring import Ring
from saccade.optimize.training.search import Found, TrainingSearch
from saccade.optimize.training.sets import Option, TrainingPlan, plan_training
from saccade.optimize.training.trial_log import TrialLog
from saccade.optimize.training_profile import profile_training
from saccade.playbook.optimize import STAYS, remember_document
from saccade.playbook.training.final import judge_and_mend
from saccade.playbook.training.fitting import fitting_task
from saccade.playbook.training.prepare import TrainingTask, prepare
from saccade.playbook.training.profile import profiled
from saccade.playbook.training.result import (
    TrainingStory,
    baseline_document,
    result_document,
)
from saccade.playbook.training.steps import (
    Curves,
    baseline_curves,
    curve_plan,
    final_race,
    judged_on,
    ratio_text,
    resolution_of,
    training_metrics,
)
from saccade.profile.training_machine import training_machine
from saccade.progress import Progress, SilentProgress
from saccade.study import RunFolder, Study, finite
from saccade.train.change import TrainingContext
from saccade.train.config import TrainingConfig
from saccade.train.memory_failure import is_out_of_memory
from saccade.train.profile import TrainingProfile
from saccade.train.run_file import write_run_file
from saccade.train.spec import TrainingSpec

# Shares of the budget: the baseline's profile, its loss curves, a profile of what a search kept
# and of what is best, and the final; the search has what is left.
PROFILE_SHARE, CURVE_SHARE, AGAIN_SHARE, FINAL_SHARE = 0.08, 0.16, 0.03, 0.24
# What the search for speed leaves, of its time, for a search for less memory, which may take so
# many seconds even where the budget is used up: a goal for which nothing was tried is no goal.
MEMORY_SHARE, LEAST_MEMORY_S = 0.4, 30.0
REPORT_S = 2.0
# What promises less is not missed where there was no time for it.
PROMISING = 1.03


def optimize_training(spec: TrainingSpec, out: Path, progress: Progress | None = None) -> Study:
    """Carry out the playbook; trials of an interrupted run with the same spec are used again.

    Raises:
        SaccadeError: the job is unusable, or the disk refused; see `saccade.errors`. Where the
            baseline was measured, it and any other exception come after everything known was
            written to the run folder.
        KeyboardInterrupt: after everything known was written to the run folder.
    """
    began = time.monotonic()
    say = progress or SilentProgress()
    run = RunFolder(out)
    remember_document(run, spec.document())
    say.step("Goals and job")
    task = prepare(spec, run.path)
    run.write_json(
        "environment.json", {**task.environment.to_dict(), "hash": task.environment.hash}
    )
    playbook = TrainingPlaybook(task, run, say, began)
    ended: BaseException | None = None
    try:
        playbook.carry_out()
    except KeyboardInterrupt as signal:
        ended = signal
    except Exception as error:
        if not playbook.measured:
            raise
        ended = error
    finally:
        say.close()
    study = playbook.write(ended)
    if ended is not None:
        raise ended
    return study


class TrainingPlaybook:
    """One run in progress: what is known so far, and the next step."""

    def __init__(self, task: TrainingTask, run: RunFolder, say: Progress, began: float) -> None:
        self._task, self._run, self._say, self._began = task, run, say, began
        self._log = TrialLog(run, say, task.environment.hash)
        self._story = TrainingStory(task)

    def carry_out(self) -> None:
        """Baseline to final, each step leaving its document in the run folder."""
        say = self._say
        say.step("Profile and bottlenecks")
        if self._log.known_count:
            say.note(
                f"{self._log.known_count} trials of an earlier run are taken over where they are "
                "met again; the profile and the baseline's curves are measured anew"
            )
        profile, findings = self._profile_baseline()
        task = self._task
        self._know(profile=profile, findings=findings)
        for finding in findings[:4]:
            say.note(f"{finding.name}: {finding.title}")
        say.step("Baseline: loss curves")
        steps, judging_s = curve_plan(
            profile.block.step_ms / 1e3,
            task.spec.seeds,
            CURVE_SHARE * task.spec.budget,
            task.spec.steps,
        )
        seeds = tuple(range(task.spec.seed, task.spec.seed + task.spec.seeds))
        baseline = baseline_curves(task.baseline, seeds, steps, self._run.path, judging_s)
        resolution = resolution_of(baseline)
        self._know(baseline=baseline, resolution=resolution)
        metrics = training_metrics(baseline.blocks, self._story.samples, task.epochs)
        self._run.write_json("baseline.json", baseline_document(baseline, metrics, resolution))
        rate = metrics["samples_per_s"]
        if baseline.about["remark"]:
            say.note(f"it learns {baseline.about['remark']}")
        say.note(
            f"{rate.value:.3g} samples/s over {len(seeds)} seeds of {steps} steps, judged on "
            f"{judged_on(baseline)} held-out samples; this machine can resolve differences of "
            f"{resolution:.1%} now"
        )
        say.step("Changes: together, one left out, alone and in pairs")
        context = self._context(profile)
        found = self._search(context, resolution)
        say.step("Validation: does it learn the same?")
        self._finish(context, found, baseline, steps)

    def _profile_baseline(self) -> tuple[TrainingProfile, tuple[Finding, ...]]:
        """Of the job as it stands, or as it fits into memory where it does not as it stands."""
        seconds = PROFILE_SHARE * self._task.spec.budget
        try:
            return profiled(self._task, self._run, seconds)
        except SaccadeError as error:
            if not is_out_of_memory(error):
                raise
            machine = training_machine(self._run.path, self._task.baseline)
            self._task = fitting_task(self._task, machine, self._say, error)
        self._know(task=self._task)
        return profiled(self._task, self._run, seconds)

    def _context(self, profile: TrainingProfile) -> TrainingContext:
        return TrainingContext(
            self._task.baseline,
            profile,
            training_machine(self._run.path, self._task.baseline),
            self._run.path.absolute() / "training",  # it stands in configurations
            self._task.epochs,
            frozenset(self._task.spec.allow),
            self._task.spec.lr_scaling,
            memory_goals(self._task.goals),
        )

    def _search(self, context: TrainingContext, resolution: float) -> Found:
        plan = plan_training(context)
        self._run.write_json("plan.json", plan.document())
        budget = self._task.spec.budget
        seconds = max(0.0, self._left() - FINAL_SHARE * budget)
        deadline = time.monotonic() + seconds
        leave_s = MEMORY_SHARE * seconds if context.memory_goals else 0.0
        search = TrainingSearch(
            replace(context, memory_goals=()),
            self._ring(resolution, deadline - leave_s),
            lambda config, known: profile_training(config, AGAIN_SHARE * budget, known=known),
            self._say,
        )
        try:
            found = search.run()
            self._know(found=found)
            if context.memory_goals:
                found = self._search_memory(context, found, resolution, deadline)
        finally:
            self._know(trials=tuple(self._log.trials))
        self._know(found=found, untried=self._untried(plan) if deadline < time.monotonic() else ())
        return found

    def _untried(self, plan: TrainingPlan) -> tuple[Option, ...]:
        """Changes that promise something and are in no trial, alone or with others."""
        seen = {name for trial in self._log.trials for name in trial.details["names"]}
        return tuple(
            option
            for option in plan.options
            if option.change.name not in seen and option.prediction.gain >= PROMISING
        )

    def _search_memory(
        self, context: TrainingContext, found: Found, resolution: float, deadline: float
    ) -> Found:
        self._say.step("Memory: what the goal asks for")
        until = max(deadline, time.monotonic() + LEAST_MEMORY_S)
        return MemorySearch(
            context,
            found,
            self._task.goals,
            lambda blocks: training_metrics(blocks, self._story.samples, self._task.epochs),
            self._ring(resolution, until),
            self._say,
        ).run()

    def _ring(self, resolution: float, until: float) -> Ring:
        """Where configurations race, up to a time on ``time.monotonic``'s clock."""
        return Ring(self._log, self._run.path, resolution, lambda: until - time.monotonic())

    def _left(self) -> float:
        return self._task.spec.budget - (time.monotonic() - self._began) - REPORT_S

    def _finish(self, context: TrainingContext, found: Found, baseline: Curves, steps: int) -> None:
        judged = judge_and_mend(
            self._task, context, found, baseline, steps, self._run.path, self._say, self._left
        )
        self._know(judged=judged)
        if judged.config.hash == self._task.baseline.hash:
            return
        result = final_race(
            self._task.baseline, judged.config, self._story.resolution, self._run.path, self._left
        )
        self._know(final=result)
        self._say.note(f"{ratio_text(result.comparison.ratio)} samples per second of the baseline")
        self._know(best_profile=self._profiled(judged.config, found.profile))

    def _profiled(
        self, config: TrainingConfig, last: TrainingProfile | None
    ) -> TrainingProfile | None:
        """Anew as far as the time goes, for after a change the search mostly measures alone."""
        if self._left() <= 0 and last is not None and last.config_hash == config.hash:
            return last
        try:
            return profile_training(config, AGAIN_SHARE * self._task.spec.budget)
        except SaccadeError as error:
            self._say.note(f"the best configuration could not be profiled: {error}")
            return None

    def _know(self, **found: object) -> None:
        self._story = replace(self._story, **found)  # type: ignore[arg-type]

    @property
    def measured(self) -> bool:
        """Whether there is something to write."""
        return self._story.baseline is not None

    def write(self, ended: BaseException | None = None) -> Study:
        """``training.json``, ``result.json`` and ``report.html``, from whatever is known.

        Args:
            ended: what ended the run early.
        """
        from saccade.report.html import write_html

        if ended is not None and self._run.is_finished:
            self._say.note(STAYS)
            return Study.load(self._run.path)
        story = replace(
            self._story,
            wall_s=time.monotonic() - self._began,
            interrupted=isinstance(ended, KeyboardInterrupt),
            failure=str(ended) if isinstance(ended, Exception) else "",
        )
        judged = story.judged
        if judged is not None:
            write_run_file(self._run.path, judged.config, self._task.epochs)
        result = result_document(story)
        self._run.write_json("result.json", result)
        write_html(self._run.path)
        return Study(self._run.path, finite({"schema_version": 1, **result}), story.trials)
