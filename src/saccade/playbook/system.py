"""Two models on the same frames: each improved on its own, then what both can share.

Each system first has the whole playbook to itself, in a folder of its own within the run folder.
What comes out runs side by side; from there, the ways of sharing are tried one by one, each raced
and judged on both tasks. At the end the best is raced against both naive pipelines side by side
and judged on each task's report data.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from saccade.deploy.bundle import write_system_bundle
from saccade.errors import SaccadeError
from saccade.goals import Goal, parse_goal
from saccade.measurement import Block
from saccade.optimize.job import Job, plan_context
from saccade.optimize.metrics import Estimate, speed_metrics
from saccade.optimize.race import against_itself, compare_blocks, race
from saccade.optimize.referee import Referee
from saccade.optimize.sharing.contract import SharingContext
from saccade.optimize.sharing.cost import SystemCost
from saccade.optimize.sharing.search import SharingSearch
from saccade.optimize.sharing.subject import SystemRunner
from saccade.pipeline.config import PipelineConfig
from saccade.pipeline.system import SystemConfig
from saccade.playbook.final import FINAL_RACE
from saccade.playbook.final_judge import Accuracy, FinalJudge
from saccade.playbook.optimize import improve, job_of, remember_spec
from saccade.playbook.prepare import guard_goal
from saccade.playbook.referees import search_referee
from saccade.playbook.steps import AA_BLOCK_S, AA_MIN_PAIRS, AA_PAIRS, AA_SHARE, profiler_of
from saccade.playbook.system_choice import first_standing, without
from saccade.playbook.system_result import SystemStory, system_document
from saccade.progress import Progress
from saccade.spec import Spec
from saccade.study import Ratio, RunFolder, Study, finite

# Of the budget: improving each system on its own takes this share, and the rest goes into sharing.
OWN_SHARE = 0.25
# Of what is left then, the last race and judging both tasks on unseen data get this share.
FINAL_SHARE = 0.3
# Frames of the pass that says where the time goes.
STAGE_FRAMES = 30


@dataclass(frozen=True)
class Prepared:
    """One system before its own study.

    Attributes:
        job: what it is about.
        run: its run folder.
        finished: its study, where an earlier run has finished it.
    """

    job: Job
    run: RunFolder
    finished: Study | None


@dataclass(frozen=True)
class Improved:
    """One system after its own study.

    Attributes:
        job: what it was about.
        study: what came out.
        guard: the goal that bounds the loss of its accuracy.
        best: its best pipeline.
        attempts: how often its report data were judged.
    """

    job: Job
    study: Study
    guard: Goal
    best: PipelineConfig
    attempts: int


def optimize_system(spec: Spec, run: RunFolder, say: Progress, began: float) -> Study:
    """Carry out the playbook for both systems of a spec, and share what pays.

    Args:
        spec: with a second system under ``also``.
        run: the run folder.
        say: who is told.
        began: on ``time.monotonic``'s clock; the budget is counted from there.

    Raises:
        SaccadeError: the input is unusable, or the disk refused.
        KeyboardInterrupt: after everything known was written to the run folder.
    """
    spec.parsed_goals()
    # Both, before either is improved: what is wrong with the second should not cost the first.
    first = _prepared(_first_spec(spec), run, say)
    second = _prepared(_second_spec(spec, first.job.source), run, say)
    sharing = _Sharing(spec, (_improved(first, say), _improved(second, say)), run, say, began)
    try:
        sharing.carry_out()
    except (KeyboardInterrupt, SaccadeError):
        sharing.write(interrupted=True)
        raise
    return sharing.write(interrupted=False)


def _first_spec(spec: Spec) -> Spec:
    return spec.model_copy(update={"also": None, "budget": OWN_SHARE * spec.budget})


def _second_spec(spec: Spec, source: str) -> Spec:
    """The second system's own spec: its settings, on the frames of the first."""
    also = spec.also
    assert also is not None
    speeds = tuple(text for text in spec.goals if not parse_goal(text).is_accuracy)
    given: dict[str, Any] = {name: getattr(also, name) for name in type(also).model_fields}
    given |= {"video": source, "goals": (*also.goals, *speeds)}
    return _first_spec(spec).model_copy(update={**given, "candidates": (), "students": ()})


def _prepared(spec: Spec, run: RunFolder, say: Progress) -> Prepared:
    """One system, looked at; one that is finished is used again."""
    own = RunFolder(run.path / spec.task)
    finished = _finished(own, spec)
    remember_spec(own, spec)
    return Prepared(job_of(spec, own, say), own, finished)


def _improved(prepared: Prepared, say: Progress) -> Improved:
    """One system's own study."""
    job, study = prepared.job, prepared.finished
    say.step(f"{job.spec.task.replace('_', ' ').capitalize()} on its own")
    if study is None:
        study = improve(job, prepared.run, say, time.monotonic())
    else:
        say.note("was improved before and is used again")
    guard = guard_goal(job)
    assert guard is not None
    best = PipelineConfig.from_dict(study.result["best"]["config"])
    return Improved(job, study, guard, best, max(1, len(study.result["repair"])))


def _finished(run: RunFolder, spec: Spec) -> Study | None:
    """The study of the same spec that an earlier run has finished in this folder."""
    result = run.read_json("result.json")
    if result is None or result.get("interrupted") or result.get("bundle") is None:
        return None
    same = {**spec.published(), "budget": 0} == {**result.get("spec", {}), "budget": 0}
    return Study.load(run.path) if same else None


class _Sharing:
    """From two systems side by side to what they share."""

    def __init__(
        self,
        spec: Spec,
        systems: tuple[Improved, Improved],
        run: RunFolder,
        say: Progress,
        began: float,
    ) -> None:
        self._spec = spec
        self._systems = systems
        self._run, self._say, self._began = run, say, began
        first, second = systems
        self._naive = SystemConfig((first.job.baseline, second.job.baseline))
        self._own = SystemConfig((first.best, second.best))
        self._source = first.job.source
        self._story = SystemStory(
            spec,
            tuple(system.job for system in systems),
            tuple(system.guard for system in systems),
            tuple(system.study for system in systems),
            self._naive,
        )

    def _know(self, **found: Any) -> None:
        self._story = replace(self._story, **found)

    def _left(self) -> float:
        return self._spec.budget - (time.monotonic() - self._began)

    def carry_out(self) -> None:
        """Baseline, sharing, validation."""
        job = self._systems[0].job
        self._run.write_json(
            "environment.json", {**job.environment.to_dict(), "hash": job.environment.hash}
        )
        self._say.step("Both baselines, side by side")
        resolution, referees, frame_hw = self._measured_baseline()
        self._say.step("What both can share, most promising first")
        search = self._search(referees, resolution)
        try:
            best = search.run()
        finally:
            self._know(trials=tuple(search.trials), inapplicable=tuple(search.inapplicable.items()))
        for label, reason in search.inapplicable.items():
            self._say.note(f"not tried: {label}: {reason}")
        self._say.step("Validation of both tasks on unseen data")
        self._validate(best, search, frame_hw)

    def _measured_baseline(self) -> tuple[float, list[Referee], tuple[int, int]]:
        """Noise, referees of both tasks, and the size of a frame."""
        objective = self._systems[0].job.objective
        first = SystemRunner(self._naive, self._source)
        try:
            twin = SystemRunner(self._naive, self._source)
            try:
                blocks, resolution = against_itself(
                    first,
                    twin,
                    objective,
                    first.frames_for(AA_BLOCK_S),
                    self._more_pairs(time.monotonic()),
                )
            finally:
                twin.close()
            self._know(baseline_blocks=blocks, resolution=resolution)
            frame_hw = self._profiled()[0].frame_hw
            referees: list[Referee] = [
                search_referee(system.job, system.guard, frame_hw, first.part(index))
                for index, system in enumerate(self._systems)
            ]
        finally:
            first.close()
        fps = speed_metrics(blocks, 0.0)["throughput_fps"].value
        self._say.note(
            f"{fps:.1f} FPS for both; differences of {resolution:.1%} can be resolved now"
        )
        return resolution, referees, frame_hw

    def _more_pairs(self, began: float) -> Callable[[int], bool]:
        """Whether A against A goes on; on a slow machine fewer pairs have to do."""

        def go_on(pairs: int) -> bool:
            late = time.monotonic() - began > AA_SHARE * self._spec.budget
            return pairs < AA_PAIRS and not (late and pairs >= AA_MIN_PAIRS)

        return go_on

    def _profiled(self) -> list[Any]:
        """Profiles of both pipelines as they are now, each on its own."""
        if not self._story.profiles:
            found = tuple(profiler_of(system.job, None)(system.best) for system in self._systems)
            self._know(profiles=found)
        return list(self._story.profiles)

    def _search(self, referees: Sequence[Referee], resolution: float) -> SharingSearch:
        first, second = (
            plan_context(system.job, system.best, profile)
            for system, profile in zip(self._systems, self._profiled(), strict=True)
        )
        context = SharingContext(
            self._own,
            (first, replace(second, folder=first.folder)),
            self._naive.parts,
            SystemCost((first.cost, second.cost)),
        )
        return SharingSearch(
            context,
            self._naive,
            referees,
            self._systems[0].job.goals,
            self._run,
            self._say,
            resolution,
            time.monotonic() + max(0.0, self._left()) * (1 - FINAL_SHARE),
            self._systems[0].job.environment.hash,
        )

    def _validate(
        self, best: SystemConfig, search: SharingSearch, frame_hw: tuple[int, int]
    ) -> None:
        """Judge the winner on unseen data and race it; fall back if need be."""
        naive = SystemRunner(self._naive, self._source)
        try:
            judges = [
                FinalJudge(system.job, system.guard, naive.part(index), frame_hw)
                for index, system in enumerate(self._systems)
            ]
            config = self._chosen(best, search, naive, judges)
        finally:
            naive.close()
        self._know(stages=tuple(self._stages(config) for config in (self._naive, config)))

    def _chosen(
        self,
        best: SystemConfig,
        search: SharingSearch,
        naive: SystemRunner,
        judges: Sequence[FinalJudge],
    ) -> SystemConfig:
        """The first that runs of the winner and what was kept before it; it is on record then.

        A winner that trades accuracy away stands where its drops are bounded. A system that
        shares without says what its parts were judged by in their own studies, so it stands
        anyway, and is judged at the level that they were; any other is a further attempt on the
        same data.
        """
        exact = [config.hash for config in search.exact]

        def attempt(config: SystemConfig) -> SystemConfig | None:
            runner = SystemRunner(config, self._source)
            try:
                accuracies = self._judged(runner, judges, int(config.hash not in exact))
                bounded = all(found.bound is None or found.bound.holds for found in accuracies)
                if not bounded and config.hash not in exact:
                    self._know(reverted="what trades accuracy for sharing")
                    return None
                self._race(naive, runner)
                known = tuple(accuracies)
                self._know(best=config, accuracies=known, problems=runner.problems)
            finally:
                runner.close()
            return config

        steps = [*([best] if best.hash not in exact else []), *reversed(search.exact)]
        found, left_out = first_standing(steps, attempt, lambda: naive.worker.alive)
        self._know(trials=without(self._story.trials, left_out))
        for left in left_out:
            self._say.note(f"left out, it does not run: {left.reason}")
        return found

    def _judged(
        self, runner: SystemRunner, judges: Sequence[FinalJudge], further: int
    ) -> list[Accuracy]:
        """Both tasks of a system on unseen data; ``further`` attempts after those on their own."""
        accuracies = [
            judge.judge(runner.part(part), system.attempts + further)
            for part, (judge, system) in enumerate(zip(judges, self._systems, strict=True))
        ]
        self._note(accuracies)
        return accuracies

    def _note(self, accuracies: Sequence[Accuracy]) -> None:
        for system, found in zip(self._systems, accuracies, strict=True):
            if found.bound is not None:
                self._say.note(
                    f"unseen data: {system.job.spec.task} {system.guard.base} {found.bound.reason}"
                )

    def _race(self, naive: SystemRunner, runner: SystemRunner) -> None:
        objective = self._systems[0].job.objective
        raced = race(naive, runner, objective, self._story.resolution, FINAL_RACE, self._left)
        ratio = compare_blocks(list(raced.candidate), list(raced.reference), objective, 0.0).ratio
        before: dict[str, Estimate] = speed_metrics(raced.reference, self._naive.model_mb)
        after: dict[str, Estimate] = speed_metrics(raced.candidate, runner.config.model_mb)
        self._know(
            before=before,
            after=after,
            speedup=Ratio(ratio.value, ratio.interval.low, ratio.interval.high),
        )

    def _stages(self, config: SystemConfig) -> Block:
        """A pass with the stages one after the other, which says where the time goes."""
        first, second = (replace(part, execution="sequential") for part in config.parts)
        runner = SystemRunner(replace(config, parts=(first, second)), self._source)
        try:
            return runner.block(STAGE_FRAMES).block
        finally:
            runner.close()

    def write(self, interrupted: bool) -> Study:
        """Bundle, ``result.json`` and ``report.html``, from whatever is known."""
        from saccade.report.html import write_html

        self._know(wall_s=time.monotonic() - self._began, interrupted=interrupted)
        story = self._story
        bundle = self._run.path / "bundle"
        if story.best is not None:
            write_system_bundle(story.best, _provenance(story), bundle)
        result = system_document(story, self._run.path)
        self._run.write_json("result.json", result)
        write_html(self._run.path)
        return Study(self._run.path, finite({"schema_version": 1, **result}), story.trials)


def _provenance(story: SystemStory) -> dict[str, object]:
    """Where a bundle came from, for its manifest."""
    return {
        "original_models": {
            job.spec.task: {
                "name": job.spec.model.replace("\\", "/").rpartition("/")[2],
                "sha256": job.baseline.model.sha256,
            }
            for job in story.jobs
        },
        "changes": [trial.change for trial in story.trials if trial.kept],
        "environment_hash": story.jobs[0].environment.hash,
        "cpu_model": story.jobs[0].environment.cpu_model,
        "baseline_hash": story.naive.hash,
        "speedup": [story.speedup.low, story.speedup.value, story.speedup.high]
        if story.speedup
        else None,
    }
