"""The whole playbook, in order, into one run folder; what `saccade optimize` runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from saccade.data.contract import DataProblem
from saccade.deploy.bundle import write_bundle
from saccade.environment import detect
from saccade.errors import InputError, first_line
from saccade.looks import shares
from saccade.optimize.job import Job
from saccade.optimize.plan import make_plan
from saccade.optimize.race import Runner
from saccade.optimize.referee import Referee
from saccade.optimize.search import Search
from saccade.optimize.tuning import tune
from saccade.optimize.workshop import close_workshops
from saccade.pipeline.config import PipelineConfig
from saccade.playbook.absent import KIT, optimize_absent
from saccade.playbook.candidates import with_candidates
from saccade.playbook.final import Final, validate, ways_back
from saccade.playbook.measured import optimize_measured
from saccade.playbook.prepare import at_hand, check_alone, guard_goal, prepare, runtimes
from saccade.playbook.referees import search_referee
from saccade.playbook.result import Story, result_document
from saccade.playbook.said import describe_baseline, doubt_about
from saccade.playbook.steps import (
    Baseline,
    measure_baseline,
    measure_roofline,
    profiler_of,
    write_profile,
)
from saccade.playbook.students import with_students
from saccade.profile.records import Profile
from saccade.progress import Progress, SilentProgress
from saccade.spec import Spec, read_spec
from saccade.stream_address import without_password
from saccade.study import RunFolder, Study, Trial, finite
from saccade.validate.referee import VIDEO_FRAMES, LabelReferee

# Of the time that is left after profiling, this share goes into changes and the rest into knobs.
SEARCH_SHARE = 0.72
# The final takes its races, both systems' accuracy, and starting the workers.
FINAL_RACE_S = 22.0
FINAL_FRAME_S = 1.5
REPORT_S = 3.0
# The race that confirms what tuning found.
CONFIRM_S = 14.0
STAYS = "the result and report of the earlier run, which was finished, stay as they are"
# What a run has found; until there is one of these, its settings may still be corrected.
FOUND = ("baseline.json", "profile.json", "trials.jsonl", "estimates.json", "result.json")


def optimize(
    spec: Spec,
    out: Path,
    progress: Progress | None = None,
    measurements: Path | None = None,
    kit: Path | None = None,
) -> Study:
    """Carry out the playbook; resumes where an earlier run with the same spec stopped.

    For a target that is not at hand it estimates and makes a kit (`saccade.playbook.absent`); with
    what a device measured it picks the best candidate (`saccade.playbook.measured`).

    Args:
        spec: what the user asks.
        out: the run folder.
        progress: who is told.
        measurements: the file that a kit's script wrote on the device.
        kit: the kit that was measured, by default the one in the run folder.

    Raises:
        SaccadeError: the input is unusable, or the disk refused; see `saccade.errors`.
        KeyboardInterrupt: after everything known was written to the run folder.
    """
    began = time.monotonic()
    say = progress or SilentProgress()
    run = RunFolder(out)
    remember_spec(run, spec)
    here = at_hand(spec.target, detect(), runtimes())
    if measurements is not None or not here:
        check_alone(spec)
    if measurements is not None:
        return optimize_measured(spec, run, say, measurements, kit or run.path / KIT)
    if not here:
        return optimize_absent(spec, run, say)
    try:
        if spec.also is not None:
            # Two systems are each this playbook first, so it cannot be imported from above.
            from saccade.playbook.system import optimize_system

            return optimize_system(spec, run, say, began)
        return improve(job_of(spec, run, say), run, say, began)
    finally:
        # A session of Python may live on for hours after its study.
        close_workshops()
        say.close()


def job_of(spec: Spec, run: RunFolder, say: Progress) -> Job:
    """Look at goals, model and data.

    Raises:
        SaccadeError: the input is unusable.
    """
    say.step("Goals, model and data")
    return with_students(with_candidates(prepare(spec, run, say), run, say), run, say)


def improve(job: Job, run: RunFolder, say: Progress, began: float) -> Study:
    """Everything after that, for one system.

    Args:
        job: what is improved.
        run: its run folder.
        say: who is told.
        began: on ``time.monotonic``'s clock; the budget is counted from there.

    Raises:
        KeyboardInterrupt: after everything known was written to the run folder.
        Exception: likewise.
    """
    run.write_json("environment.json", {**job.environment.to_dict(), "hash": job.environment.hash})
    playbook = Playbook(job, run, say, began)
    try:
        playbook.carry_out()
    except BaseException as end:
        playbook.write_what_is_known(end)
        raise
    return playbook.write(interrupted=False)


def remember_spec(run: RunFolder, spec: Spec) -> None:
    """Write ``spec.yaml``; refuse to mix another job into what a run has found.

    Raises:
        InputError: the folder holds a run of another job.
    """
    remember_document(run, spec.document())


def remember_document(run: RunFolder, document: Mapping[str, Any]) -> None:
    """`remember_spec` of what a spec says.

    Raises:
        InputError: the folder holds a run of another job.
    """
    path = run.path / "spec.yaml"
    if path.exists() and any((run.path / name).exists() for name in FOUND):
        before = read_spec(path)
        # More time or other goals continue a run; another model or other data do not.
        fixed = [k for k in {**before, **document} if k not in ("budget", "goals", "scenario")]
        changed = [k for k in fixed if before.get(k) != document.get(k)]
        if changed:
            raise InputError(
                f"'{run.path}' holds a run with another {changed[0]} "
                f"({without_password(str(before.get(changed[0])))}). "
                "Choose another --out, or give the same settings to resume it."
            )
    run.write_text("spec.yaml", yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True))


class Playbook:
    """One run in progress: what is known so far, and the next step."""

    def __init__(self, job: Job, run: RunFolder, say: Progress, began: float) -> None:
        self._job = job
        self._run = run
        self._say = say
        self._began = began
        self._guard = guard_goal(job)
        self._story: Story | None = None

    def carry_out(self) -> None:
        """Baseline to final, each step leaving its document in the run folder."""
        job, run, say = self._job, self._run, self._say
        say.step("Baseline")
        baseline = measure_baseline(job, run, say)
        self._story = Story(job, baseline, self._guard, problems=self._problems())
        say.note(describe_baseline(baseline))
        say.step("Profile and bottlenecks")
        roofline = measure_roofline(run, job.environment)
        profile_of = profiler_of(job, roofline)
        profile = profile_of(job.baseline)
        findings = write_profile(run, profile)
        self._know(profile=profile, findings=findings)
        for finding in findings[:4]:
            say.note(f"{finding.name}: {finding.title}")
        referee = self._referee(profile)
        search = self._search(referee, profile_of, baseline, profile)
        best = self._tuned(search)
        self._finish(search, best, baseline, profile, profile_of)

    def _know(self, **found: object) -> None:
        assert self._story is not None
        self._story = replace(self._story, **found)  # type: ignore[arg-type]

    def _referee(self, profile: Profile) -> Referee | None:
        """Run the baseline on the selection data; later candidates are compared with that."""
        job, guard = self._job, self._guard
        if guard is None:
            return None
        runner = Runner(job.baseline, job.source)
        try:
            referee = search_referee(job, guard, profile.frame_hw, runner)
        finally:
            runner.close()
        if isinstance(referee, LabelReferee):
            value = referee.baseline.values[guard.base]
            images = len(job.roles.selection or ()) if job.roles else 0
            self._say.note(f"baseline {guard.base} {value:.3f} on {images} images")
            doubt = doubt_about(guard.base, value)
            self._know(baseline_accuracy={guard.base: value}, notes=(doubt,) if doubt else ())
            if doubt:
                self._say.note(doubt)
        return referee

    def _search(
        self,
        referee: Referee | None,
        profile_of: Callable[[PipelineConfig], Profile],
        baseline: Baseline,
        profile: Profile,
    ) -> Search:
        search_s = max(0.0, self._left() - self._final_s(baseline)) * SEARCH_SHARE
        deadline = time.monotonic() + search_s
        search = Search(
            self._job,
            self._run,
            referee,
            lambda config: replace(profile_of(config), roofline=profile.roofline),
            self._say,
            baseline.resolution,
            deadline,
        )
        plan = make_plan(search.context(profile))
        self._run.write_json("plan.json", plan.document())
        self._say.step("Changes, most promising first")
        try:
            search.run(profile)
        finally:
            self._know(trials=tuple(search.trials), untried=search.untried)
        return search

    def _tuned(self, search: Search) -> PipelineConfig:
        """Tune the knobs of what the search found; a winner must win a race of its own."""
        baseline = self._story.baseline if self._story else None
        assert baseline is not None
        final_s = self._final_s(baseline)
        self._say.step("Numeric knobs")
        winner = tune(
            self._job,
            self._run,
            search.incumbent,
            self._say,
            lambda: self._left() - final_s - CONFIRM_S,
        )
        if winner is None or winner.hash == search.incumbent.hash:
            return search.incumbent
        number = search.next_number
        self._say.trial_started(number, "tuning", None)
        draft = Trial(
            number=number,
            parent=search.parent,
            change=f"tuning: {knob_difference(search.incumbent, winner)}",
            name="tuning",
            config=winner.to_dict(),
            config_hash=winner.hash,
            parent_hash=search.incumbent.hash,
            verdict="failed",
            reason="",
            prediction_basis="short races, not yet confirmed",
            environment_hash=self._job.environment.hash,
        )
        search.extend(lambda: self._left() - final_s)
        try:
            search.record(search.contest(winner, draft, None))
        finally:
            search.close()
            self._know(trials=tuple(search.trials))
        return search.incumbent

    def _finish(
        self,
        search: Search,
        best: PipelineConfig,
        baseline: Baseline,
        profile: Profile,
        profile_of: Callable[[PipelineConfig], Profile],
    ) -> None:
        self._say.step("Validation on unseen data")
        guard = self._guard
        assert guard is not None
        final = validate(
            self._job,
            guard,
            best,
            ways_back(self._job.baseline, best, search.trials),
            baseline.resolution,
            profile.frame_hw,
            self._say,
            lambda: self._left() - REPORT_S,
        )
        problems = tuple(dict.fromkeys((*self._problems(), *final.problems)))
        self._know(final=final, problems=problems)
        self._know(best_profile=profile_of(final.config))

    def _left(self) -> float:
        return self._job.spec.budget - (time.monotonic() - self._began)

    def _final_s(self, baseline: Baseline) -> float:
        """Seconds that the final steps will take, from what is known of the baseline."""
        roles = self._job.roles
        images = len(roles.report) if roles and roles.report else VIDEO_FRAMES
        frame_s = 1 / max(0.1, (baseline.metrics["throughput_fps"].value or 1.0))
        return FINAL_RACE_S + REPORT_S + images * frame_s * FINAL_FRAME_S

    def _problems(self) -> tuple[DataProblem, ...]:
        return self._job.roles.problems if self._job.roles else ()

    def write_what_is_known(self, end: BaseException) -> None:
        """`write` for a run that ended early; nothing where it ended before the baseline."""
        if self._story is None:
            return
        if isinstance(end, Exception):
            said = f"The run ended early: {first_line(end)}"
            self._know(notes=(*self._story.notes, said))
        self.write(interrupted=True)

    def write(self, interrupted: bool) -> Study:
        """Bundle, ``result.json`` and ``report.html``, from whatever is known."""
        from saccade.report.html import write_html

        story = self._story
        assert story is not None
        if interrupted and self._run.is_finished:
            self._say.note(STAYS)
            return Study.load(self._run.path)
        wall_s = time.monotonic() - self._began
        story = replace(story, wall_s=wall_s, interrupted=interrupted)
        if story.final is not None:
            write_bundle(story.final.config, provenance(story), self._run.path / "bundle")
        result = result_document(story)
        self._run.write_json("result.json", result)
        write_html(self._run.path)
        return Study(self._run.path, finite({"schema_version": 1, **result}), story.trials)


def provenance(story: Story) -> dict[str, object]:
    """Where a bundle came from, for its manifest."""
    job, final = story.job, story.final
    assert final is not None
    return {
        "original_model": {
            "name": Path(job.baseline.model.path).name,
            "sha256": job.baseline.model.sha256,
        },
        "changes": [t.change for t in story.trials if t.kept],
        "environment_hash": job.environment.hash,
        "cpu_model": job.environment.cpu_model,
        "baseline_hash": job.baseline.hash,
        "speedup": [final.speedup.low, final.speedup.value, final.speedup.high],
        "accuracy": dict(final.accuracy.metrics) if final.accuracy else {},
        "labels": job.spec.labels.given(),
        **_looks(final),
    }


def _looks(final: Final) -> dict[str, object]:
    """How often a dynamic resolution took which size; nothing where there is none."""
    found = shares(block.looks for block in final.best_blocks)
    return {"looks": found} if found else {}


def knob_difference(before: PipelineConfig, after: PipelineConfig) -> str:
    """The knobs that differ, for people."""
    a, b = before.to_dict(), after.to_dict()
    flat_a = {**a, **a["options"]}
    flat_b = {**b, **b["options"]}
    changed = [
        f"{name.replace('_', ' ')} {flat_b[name]}"
        for name in flat_b
        if name != "options" and flat_a[name] != flat_b[name]
    ]
    return ", ".join(changed)
