"""`result.json` and the page of a training, from a story that is made up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from training_stand_ins import BASELINE, Turn, block_of, context_of

from saccade.environment import detect
from saccade.goals import TRAINING_METRICS, Goal, parse_goal
from saccade.optimize.training.interactions import Interaction
from saccade.optimize.training.runner import TrainingRace
from saccade.optimize.training.search import Found, Kept
from saccade.optimize.training.sets import Option
from saccade.playbook.training.final import Judged, TakenBack
from saccade.playbook.training.prepare import TrainingTask
from saccade.playbook.training.result import TrainingStory, result_document
from saccade.playbook.training.steps import Curves
from saccade.report.training.page import render_training
from saccade.statistics import compare
from saccade.study import Ratio
from saccade.train.records import Evaluation, LossCurve
from saccade.train.spec import make_training_spec
from saccade.validate.loss_drift import drift

ABOUT = {"samples": 110, "parameters": 10**6}
GOALS = ("samples_per_s>=10", "loss_drift<=0.02", "epoch_s<=1")


def curves(rate: float, factor: float = 1.0) -> tuple[LossCurve, ...]:
    return tuple(
        LossCurve(
            seed,
            tuple(factor * (2.0 - 0.05 * i + 0.01 * seed) for i in range(10)),
            Evaluation(1.2 * factor, 0.6, 40),
            block_of(rate, 10),
        )
        for seed in range(3)
    )


def story(tmp_path: Path, goals: tuple[str, ...] = GOALS) -> TrainingStory:
    parsed: tuple[Goal, ...] = tuple(parse_goal(g, TRAINING_METRICS) for g in goals)
    spec = make_training_spec({"job": "job.py", "goals": list(goals)})
    task = TrainingTask(
        spec, BASELINE, 5, True, parsed, Goal("loss_drift", "<=", 0.02), detect(), tmp_path
    )
    change = Turn("bf16", "precision", "bf16")
    option = Option(change, change.predict(context_of()), 0)  # type: ignore[arg-type]
    best = BASELINE.with_compute(precision="bf16")
    kept = (Kept(option, Ratio(5.8, 5.5, 6.1), 1.9),)
    before, after = Curves(BASELINE, curves(2.0), ABOUT), Curves(best, curves(14.0, 1.001))
    rates = [14.0, 14.2, 13.9, 14.1], [2.0, 2.01, 1.99, 2.0]
    race = TrainingRace(
        tuple(block_of(r) for r in rates[1]),
        tuple(block_of(r) for r in rates[0]),
        compare(*rates, 0.02),
    )
    found = Found(best, kept, (Interaction("bf16", "channels_last", 1.9, 1.3, 7.8),))
    judged = Judged(
        best,
        kept,
        after,
        drift(before.curves, after.curves),
        (TakenBack("scaled_decode", "worse"),),
    )
    return TrainingStory(task, 0.02, None, (), before, (), found, judged, race, None, 100.0)


def test_goals_are_judged_by_their_intervals(tmp_path: Path) -> None:
    found = result_document(story(tmp_path))
    statuses = {goal["metric"]: goal["status"] for goal in found["goals"]}
    assert statuses == {"samples_per_s": "met", "loss_drift": "met", "epoch_s": "not_met"}
    assert found["status"] == "not_met"


def test_before_and_after_come_from_the_final_race(tmp_path: Path) -> None:
    found = result_document(story(tmp_path))
    assert found["baseline"]["metrics"]["samples_per_s"] == pytest.approx(2.0, rel=0.01)
    assert found["best"]["speedup"]["value"] == pytest.approx(7.0, rel=0.02)
    assert found["best"]["metrics"]["epoch_s"] == pytest.approx(110 / 14.05, rel=0.01)
    parts = {part["name"]: part["wall_ms"] for part in found["baseline"]["parts"]}
    assert sum(parts.values()) == pytest.approx(4000, rel=0.01)


def test_what_was_taken_back_is_said(tmp_path: Path) -> None:
    found = result_document(story(tmp_path))
    assert any("scaled_decode" in change for change in found["best"]["changes"])
    assert any(row["change"] == "scaled_decode" for row in found["rejected"])


def test_a_run_that_was_interrupted_has_a_result(tmp_path: Path) -> None:
    early = TrainingStory(story(tmp_path).task, interrupted=True)
    found = result_document(early)
    assert found["status"] == "inconclusive" and found["best"] is None
    assert "saccade" in render_training(found)


def test_the_page_shows_speed_curves_and_interactions(tmp_path: Path) -> None:
    page = render_training(result_document(story(tmp_path)))
    for text in ("14.1 samples/s", "Loss curves", "How changes interact", "bf16 + channels_last"):
        assert text in page
    assert "<script" not in page


def test_the_page_escapes_what_the_user_named(tmp_path: Path) -> None:
    base = story(tmp_path)
    spec = make_training_spec({"job": "<b>job</b>.py"})
    page = render_training(result_document(replace(base, task=replace(base.task, spec=spec))))
    assert "<b>job" not in page


def test_no_better_way_reads_as_such(tmp_path: Path) -> None:
    base = story(tmp_path)
    nothing = replace(base, judged=Judged(BASELINE, (), None, None), final=None)
    found: dict[str, Any] = result_document(nothing)
    assert "no faster way" in render_training(found)
    assert found["goals"][1]["status"] == "met"
