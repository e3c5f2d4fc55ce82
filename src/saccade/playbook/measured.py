"""`optimize --measurements`: pick the best candidate that a device measured and accuracy allows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from saccade.deploy.kit.device import not_the_target
from saccade.deploy.kit.judge import Row, resolution_of, rows
from saccade.deploy.kit.read import (
    Kit,
    Measurements,
    check_match,
    read_kit,
    read_measurements,
)
from saccade.errors import InputError, SaccadeError, StorageError, first_line
from saccade.goals import Goal
from saccade.optimize.job import Job
from saccade.optimize.metrics import Estimate, values
from saccade.optimize.race import Runner
from saccade.pipeline.config import PipelineConfig
from saccade.playbook.absent import finish, frame_hw, goal_row
from saccade.playbook.elsewhere import not_in_the_kit, with_notes
from saccade.playbook.final import MAX_ATTEMPTS
from saccade.playbook.final_judge import Accuracy, FinalJudge
from saccade.playbook.kit import as_onnx
from saccade.playbook.measured_bundle import bundle_of, ratio_of, runnable
from saccade.playbook.prepare import guard_goal, prepare
from saccade.playbook.result import trial_row
from saccade.playbook.students import untaught
from saccade.progress import Progress
from saccade.spec import Spec
from saccade.study import RunFolder, Study, Trial

# What the kit's script times; said with every number.
SCOPE = "inference alone on preprocessed frames; decoding, pre- and postprocessing are not in it"
RANK = {"faster": 0, "reference": 1, "not distinguishable": 2, "slower": 3}


def optimize_measured(
    spec: Spec, run: RunFolder, say: Progress, measurements: Path, kit_folder: Path
) -> Study:
    """Judge what the device measured and write the result.

    Raises:
        InputError: the file is damaged or of another kit, or the kit is of another model or target.
        SaccadeError: see `saccade.errors`.
    """
    began = time.monotonic()
    kit, measured = read_kit(kit_folder), read_measurements(measurements)
    check_match(kit, measured)
    say.step("Goals, model and data")
    job = as_onnx(prepare(spec, run, say))
    _check_same(kit, job)
    without = not_in_the_kit(spec, kit.document.get("models", {}))
    students = tuple(f"{name} is left out: {reason}" for name, reason in untaught(spec))
    job = with_notes(job, (*without, *students), say)
    say.step(f"Measured on {measured.device}")
    elsewhere = not_the_target(job.spec.target, measured.environment)
    if elsewhere:
        say.note(f"{elsewhere}: nothing is concluded about its speed")
    if not measured.complete:
        say.note("the measurement was interrupted; its rounds so far are used")
    found = rows(kit, measured, job.objective)
    for row in found:
        say.note(f"{row.id}: {row.status}, {row.reason}")
    say.step("Accuracy of the fastest on unseen data, judged on this machine")
    picker = _Picker(job, kit, measured.reference, found, say)
    chosen = None
    try:
        chosen = picker.pick()
    finally:  # What the device measured is told, whatever ended the judging.
        study = _written(run, job, kit, measured, picker, chosen, began)
    return study


def _written(
    run: RunFolder,
    job: Job,
    kit: Kit,
    measured: Measurements,
    picker: _Picker,
    chosen: tuple[Row, Accuracy] | None,
    began: float,
) -> Study:
    """Bundle, ``result.json`` and the report."""
    picker.trials = [run.record_trial(trial) for trial in picker.trials]
    result = _document(job, kit, measured, picker.found, picker, chosen)
    result["wall_s"] = time.monotonic() - began
    if chosen is not None:
        bundled = bundle_of(job, kit, measured, chosen[0], run.path / "bundle")
        result["bundle"] = bundled.path
        if bundled.path is None:
            result["notes"].append(
                f"there is no bundle of {chosen[0].id}: {bundled.why_not}; its file and commands "
                f"are in {kit.folder}"
            )
    return finish(run, result, tuple(picker.trials))


def _check_same(kit: Kit, job: Job) -> None:
    if kit.document["model_sha256"] != job.baseline.model.sha256:
        raise InputError(
            f"The kit '{kit.folder}' was made from another model than "
            f"'{Path(job.spec.model).name}'. Export a kit of this model and measure it."
        )
    if kit.document["target"] != job.spec.target:
        raise InputError(
            f"The kit '{kit.folder}' is for '{kit.document['target']}', and the target is "
            f"'{job.spec.target}'. Give --target {kit.document['target']}."
        )


class _Picker:
    """Goes from the fastest candidate down until one keeps the accuracy bound."""

    def __init__(
        self, job: Job, kit: Kit, reference: str, found: Sequence[Row], say: Progress
    ) -> None:
        self.job, self.kit, self.say, self.reference = job, kit, say, reference
        guard = guard_goal(job)
        assert guard is not None
        self.guard: Goal = guard
        self.found = found
        self.trials: list[Trial] = []

    def pick(self) -> tuple[Row, Accuracy] | None:
        """The winner with its accuracy; None where none may be used."""
        order = self._order()
        baseline = Runner(self.job.baseline, self.job.source)
        try:
            judge = FinalJudge(self.job, self.guard, baseline, frame_hw(self.job))
            return self._first_that_holds(judge, order, baseline)
        finally:
            baseline.close()
            self._record_the_rest(order)

    def _order(self) -> list[Row]:
        """Those that count: within the goals of size first, then by measured speed."""
        sizes = [g for g in self.job.goals if g.metric in ("model_mb", "peak_rss_mb")]

        def misses(row: Row) -> int:
            metrics = row.metrics or {}
            unmet = (
                goal.status(*_three(metrics[goal.metric])) != "met"
                for goal in sizes
                if goal.metric in metrics
            )
            return sum(unmet)

        def rank(row: Row) -> int:
            """What is not faster than the reference is no reason to leave it."""
            if row.id == self.reference:
                return RANK["reference"]
            return RANK[row.comparison.verdict] if row.comparison else RANK["slower"]

        # Sorting keeps the order of speed among equals.
        return sorted(
            (row for row in self.found if row.counts), key=lambda row: (misses(row), rank(row))
        )

    def _first_that_holds(
        self, judge: FinalJudge, order: Sequence[Row], baseline: Runner
    ) -> tuple[Row, Accuracy] | None:
        reference = self.reference
        judged: dict[str, Accuracy | SaccadeError] = {}
        for row in order:
            config = self._config_here(row.id)
            # The model as it was given loses nothing, so it may always be fallen back to.
            if config.hash not in judged and (len(judged) < MAX_ATTEMPTS or row.id == reference):
                judged[config.hash] = self._tried(judge, config, len(judged) + 1, baseline)
            accuracy = judged.get(config.hash)
            if accuracy is None:
                continue
            if isinstance(accuracy, SaccadeError):
                reason = f"its accuracy could not be judged: {first_line(accuracy)}"
                self.say.note(f"{row.id}: {reason}")
                measured = values(row.metrics or {})
                self.trials.append(self._trial(row, "failed", reason, False, measured))
                continue
            given = row.id == reference and self.kit.candidates[row.id]["file"] == "onnx"
            holds = accuracy.bound is None or accuracy.bound.holds or given
            reason = accuracy.bound.reason if accuracy.bound else "accuracy has no bound to keep"
            self.say.note(f"{row.id}: {reason}")
            self._record(row, accuracy, holds, reason)
            if holds:
                return row, accuracy
        return None

    def _config_here(self, name: str) -> PipelineConfig:
        """What stands for a candidate on this machine: itself, or a file in its precision."""
        entry = self.kit.candidates[name]
        itself = runnable(self.kit.config(entry["file"]), entry["runtime"], entry["precision"])
        here = self.job.runtimes.get(entry["runtime"])
        fast = here.precisions if here is not None and here.ok else ()
        if itself.config is not None and itself.config.options.precision in fast:
            return itself.config
        return self.kit.config(entry["judged_as"])

    def _tried(
        self, judge: FinalJudge, config: PipelineConfig, attempt: int, baseline: Runner
    ) -> Accuracy | SaccadeError:
        """What stands for a candidate may not run here; that says nothing of the others."""
        try:
            return self._accuracy(judge, config, attempt, baseline)
        except StorageError:
            raise
        except SaccadeError as error:
            return error

    def _accuracy(
        self, judge: FinalJudge, config: PipelineConfig, attempt: int, baseline: Runner
    ) -> Accuracy:
        if config.model.sha256 == self.job.baseline.model.sha256 and (
            config.runtime == self.job.baseline.runtime
        ):
            return judge.judge(baseline, attempt)
        runner = Runner(config, self.job.source)
        try:
            return judge.judge(runner, attempt)
        finally:
            runner.close()

    def _record(self, row: Row, accuracy: Accuracy, holds: bool, reason: str) -> None:
        assert row.comparison is not None
        verdict = {"faster": "better", "slower": "worse"}.get(
            row.comparison.verdict, "not distinguishable"
        )
        if not holds:
            verdict = "broke a goal"
        metrics = {**values(row.metrics or {}), **accuracy.metrics}
        drop = accuracy.drops.get(self.guard.base)
        self.trials.append(
            self._trial(row, verdict, f"{row.reason}; {reason}", holds, metrics, drop)
        )

    def _record_the_rest(self, order: Sequence[Row]) -> None:
        done = {trial.change for trial in self.trials}
        taken = any(trial.kept for trial in self.trials)
        for row in [*order, *(r for r in self.found if r not in order)]:
            if row.id in done:
                continue
            instead = "another was taken" if taken else "its accuracy was not judged"
            verdict, reason = "inconclusive", f"{row.reason}; {instead}"
            if not row.counts:
                verdict, reason = "failed", f"{row.status}: {row.reason}"
            self.trials.append(self._trial(row, verdict, reason, False, values(row.metrics or {})))

    def _trial(
        self,
        row: Row,
        verdict: Any,
        reason: str,
        kept: bool,
        metrics: dict[str, float | None],
        drop: Any = None,
    ) -> Trial:
        config = self.kit.config(self.kit.candidates[row.id]["file"])
        return Trial(
            number=len(self.trials) + 1,
            parent=0,
            change=row.id,
            name=self.kit.candidates[row.id]["file"],
            config=config.to_dict(),
            config_hash=config.hash,
            parent_hash=self.job.baseline.hash,
            verdict=verdict,
            reason=reason,
            kept=kept,
            gain=ratio_of(row),
            metrics=metrics,
            drop=drop,
        )


def _three(estimate: Estimate) -> tuple[float | None, float | None, float | None]:
    return estimate.value, estimate.low, estimate.high


def _document(
    job: Job,
    kit: Kit,
    measured: Measurements,
    found: Sequence[Row],
    picker: _Picker,
    chosen: tuple[Row, Accuracy] | None,
) -> dict[str, Any]:
    reference = next((row for row in found if row.id == measured.reference), None)
    elsewhere = not_the_target(job.spec.target, measured.environment)
    goals = [_goal(goal, chosen, elsewhere, measured) for goal in job.goals]
    statuses = {goal["status"] for goal in goals}
    order = ("not_met", "inconclusive")
    status = next((s for s in order if s in statuses), "met") if chosen else "inconclusive"
    before = values(reference.metrics) if reference and reference.metrics else {}
    notes = [f"speed was measured on {measured.device}: {SCOPE}", "accuracy was judged here"]
    if elsewhere:
        notes.append(f"{elsewhere}: nothing is concluded about its speed")
    if not measured.complete:
        notes.append("the measurement was interrupted; only its rounds so far count")
    return {
        "status": status,
        "goals": goals,
        "baseline": {
            "metrics": {**before, **(chosen[1].baseline if chosen else {})},
            "stages": [],
            "config": job.baseline.to_dict(),
        },
        "best": _best(kit, picker, chosen) if chosen else None,
        "pareto": [],
        "rejected": [
            {"trial": t.number, "change": t.change, "reason": t.reason, "verdict": t.verdict}
            for t in picker.trials
            if not t.kept
        ],
        "trials": [trial_row(t) for t in picker.trials],
        "measured": [row.document() for row in found],
        "device": {"name": measured.device, **measured.environment},
        "estimates": kit.document["estimates"],
        "kit": str(kit.folder),
        "measurements": str(measured.path),
        "noise": {"percent": 100 * resolution_of(measured, job.objective)},
        "environment": job.environment.to_dict(),
        "objective": "throughput_fps" if job.objective == "throughput" else "latency_ms.p50",
        "budget_s": job.spec.budget,
        "notes": [*job.notes, *notes],
        "spec": job.spec.published(),
        "bundle": None,
        "model": {"description": asdict(job.description), "license": job.description.license},
    }


def _best(kit: Kit, picker: _Picker, chosen: tuple[Row, Accuracy]) -> dict[str, Any]:
    row, accuracy = chosen
    config = kit.config(kit.candidates[row.id]["file"])
    ratio, drop = ratio_of(row), accuracy.drops.get(picker.guard.base)
    drops = {f"{name}_drop": value.estimate for name, value in accuracy.drops.items()}
    return {
        "trial": next(t.number for t in picker.trials if t.kept),
        "changes": [row.id],
        "config": config.to_dict(),
        "config_hash": config.hash,
        "metrics": {**values(row.metrics or {}), **accuracy.metrics, **drops},
        "stages": [],
        "speedup": {"value": ratio.value, "interval": [ratio.low, ratio.high]} if ratio else None,
        "drop": {**asdict(drop), "data": "report"} if drop else None,
        "per_class": [],
    }


def _goal(
    goal: Goal,
    chosen: tuple[Row, Accuracy] | None,
    elsewhere: str,
    measured: Measurements,
) -> dict[str, Any]:
    if chosen is None:
        return goal_row(goal, Estimate(None), "no candidate was measured that keeps its accuracy")
    row, accuracy = chosen
    if goal.is_accuracy:
        drop = accuracy.drops.get(goal.base)
        if drop is None:
            return goal_row(goal, Estimate(None), "accuracy was not judged")
        note = f"bounds at {drop.level:.2%}, one-sided, on {drop.images} unseen images"
        if goal.is_drop:
            return goal_row(goal, Estimate(drop.estimate, drop.lower, drop.upper), note)
        value, base = accuracy.metrics[goal.base], accuracy.baseline[goal.base]
        return goal_row(goal, Estimate(value, base - drop.upper, base - drop.lower), note)
    if goal.metric == "model_mb":
        return goal_row(goal, (row.metrics or {})["model_mb"], "size of the file")
    found = (row.metrics or {}).get(goal.metric)
    if found is None:
        return goal_row(goal, Estimate(None), f"the kit does not measure {goal.metric}")
    if found.value is None:
        return goal_row(goal, Estimate(None), f"too few frames were measured for {goal.metric}")
    if elsewhere:
        said = goal_row(goal, found, f"{elsewhere}; {SCOPE}")
        return {**said, "status": "inconclusive"}
    return goal_row(goal, found, f"measured on {measured.device}: {SCOPE}")
