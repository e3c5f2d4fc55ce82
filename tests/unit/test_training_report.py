"""`result.json` and the page of a training, from a story that is made up."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from training_stand_ins import BASELINE, Turn, block_of, context_of

from saccade.environment import detect
from saccade.errors import RuntimeFailure
from saccade.goals import TRAINING_METRICS, Goal, parse_goal
from saccade.optimize.training.interactions import Interaction
from saccade.optimize.training.runner import TrainingRace
from saccade.optimize.training.search import Found, Kept
from saccade.optimize.training.sets import Option
from saccade.playbook.training import optimize
from saccade.playbook.training.final import Judged, TakenBack
from saccade.playbook.training.prepare import TrainingTask
from saccade.playbook.training.result import TrainingStory, result_document
from saccade.playbook.training.steps import Curves
from saccade.progress import SilentProgress
from saccade.report.training.page import render_training, training_headline
from saccade.statistics import compare
from saccade.study import Ratio, RunFolder, Study, Trial
from saccade.train.profile import BusyMoment
from saccade.train.records import Evaluation, JudgedStep, LossCurve
from saccade.train.spec import make_training_spec
from saccade.validate.loss_drift import drift
from saccade.validate.time_to_accuracy import held_out_loss_times_s, metric_times_s

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


def test_where_nothing_was_tried_the_budget_is_named(tmp_path: Path) -> None:
    task = story(tmp_path)
    change = Turn("bf16", "precision", "bf16")
    option = Option(change, change.predict(context_of()), 0)  # type: ignore[arg-type]
    found = Found(BASELINE, (), ())
    judged = Judged(BASELINE, (), None, None)
    left = replace(task, trials=(), found=found, judged=judged, final=None, untried=(option,))
    result = result_document(left)
    said = training_headline(result)
    assert "nothing was tried, for the budget" in said and "learns the same" not in said
    assert "bf16 (promises" in render_training(result)
    assert "learns the same was found" in training_headline(
        result_document(replace(left, untried=()))
    )


def test_a_finished_result_survives_an_interruption_of_the_next_run(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    assert not run.is_finished
    finished = result_document(story(tmp_path / "first"))
    run.write_json("result.json", finished)
    assert run.is_finished
    playbook = optimize.TrainingPlaybook(
        story(tmp_path / "second").task, run, SilentProgress(), time.monotonic()
    )
    assert playbook.write(KeyboardInterrupt()).result["status"] == finished["status"]
    assert run.is_finished
    run.write_json("result.json", {**finished, "interrupted": True})
    assert not run.is_finished


def test_the_page_shows_speed_curves_and_interactions(tmp_path: Path) -> None:
    page = render_training(result_document(story(tmp_path)))
    for text in ("14.1 samples/s", "Loss curves", "How changes interact", "bf16 + channels_last"):
        assert text in page
    assert "<script" not in page


def busy(*shares: float, gpu: float | None = None) -> tuple[BusyMoment, ...]:
    return tuple(BusyMoment(0.5 * n, share, gpu) for n, share in enumerate(shares))


def test_the_page_shows_how_busy_the_machine_was_over_time(tmp_path: Path) -> None:
    profile = context_of().profile
    watched = replace(
        story(tmp_path),
        profile=replace(profile, busy=busy(0.2, 0.4, 0.3)),
        best_profile=replace(profile, busy=busy(0.9, 1.0, gpu=0.95)),
    )
    found = result_document(watched)
    assert found["baseline"]["busy"][1] == {"t_s": 0.5, "cpu": 0.4, "gpu": None}
    page = render_training(found)
    for text in ("How busy the machine was", "Baseline, CPU: 30 %", "Best, GPU: 95 %"):
        assert text in page
    assert "Baseline, GPU" not in page
    assert "How busy" not in render_training(result_document(story(tmp_path)))


def test_uneven_ranks_of_the_best_are_a_finding(tmp_path: Path) -> None:
    profile = replace(context_of().profile, ranks_ms=(100.0, 4000.0))
    found = result_document(replace(story(tmp_path), best_profile=profile))
    assert "unbalanced_ranks" in [finding["name"] for finding in found["best"]["findings"]]


def along(curve: LossCurve, *losses: float) -> LossCurve:
    """Judged after two, four, ... steps."""
    judged = [JudgedStep(2 * n, Evaluation(v, 1 - v, 40)) for n, v in enumerate(losses, 1)]
    return replace(curve, along=tuple(judged))


def test_the_time_to_what_the_baseline_reaches_is_known(tmp_path: Path) -> None:
    """The baseline ends at a held-out loss of 1.2 and a metric of 0.6, after 10 steps of 4 s."""
    goals = (
        "time_to_held_out_loss_s<=5", "time_to_metric_s<=10", "time_to_loss_s<=20",
        "device_busy_share>=0.5", "peak_device_mb<=100",
    )  # fmt: skip
    base = story(tmp_path, goals)
    assert base.judged is not None and base.judged.curves is not None
    curves_ = tuple(along(c, 1.5, 1.3, 1.1, 0.3) for c in base.judged.curves.curves)
    judged = replace(base.judged, curves=replace(base.judged.curves, curves=curves_))
    found = result_document(replace(base, judged=judged))
    step_s = 8 / 14
    values = {goal["metric"]: goal["value"] for goal in found["goals"]}
    assert values["time_to_held_out_loss_s"] == pytest.approx(6 * step_s)
    assert values["time_to_metric_s"] == pytest.approx(8 * step_s)
    assert 8 * step_s < values["time_to_loss_s"] <= 10 * step_s
    statuses = {goal["metric"]: goal["status"] for goal in found["goals"]}
    assert statuses["time_to_held_out_loss_s"] == "met"
    assert statuses["device_busy_share"] == statuses["peak_device_mb"] == "inconclusive"
    assert "GPU" in found["goals"][3]["note"]
    assert found["baseline"]["metrics"]["time_to_metric_s"] == pytest.approx(10 * 4)


def test_what_is_never_reached_has_no_time() -> None:
    worse = [replace(c, evaluation=Evaluation(1.3, 0.5, 40)) for c in curves(14.0)]
    assert held_out_loss_times_s(worse, curves(2.0)) is None
    assert metric_times_s(worse, curves(2.0)) is None
    assert held_out_loss_times_s(worse, curves(2.0), 0.1) == pytest.approx([80 / 14] * 3)
    assert metric_times_s(worse, curves(2.0), 0.1) is None
    unjudged = [replace(c, evaluation=None) for c in curves(2.0)]
    assert held_out_loss_times_s(curves(2.0), unjudged) is None


def test_curves_that_were_not_judged_along_the_way_do_not_count_beside_those_that_were() -> None:
    first, *others = curves(2.0)
    mixed = [first, *(along(curve, 1.1) for curve in others)]
    assert held_out_loss_times_s(mixed, curves(2.0)) == pytest.approx([2 * 4, 2 * 4])


def tried(number: int, rate: float, memory: float | None, **details: Any) -> Trial:
    """A trial of a configuration of its own, timed with its loading unless said otherwise."""
    about = {"timed": "block", "set": [f"change {number}"], "how": "alone", **details}
    metrics = {"samples_per_s": rate, "peak_rss_mb": memory}
    return Trial(
        number, 0, f"change {number}", "change", {}, f"hash {number}", "", "better", "said",
        metrics=metrics, details=about,
    )  # fmt: skip


def points(told: TrainingStory) -> dict[str, dict[str, Any]]:
    return {point["label"]: point for point in result_document(told)["pareto"]}


def test_every_system_that_was_measured_is_a_point_by_speed_and_memory(tmp_path: Path) -> None:
    trials = (
        tried(1, 9.0, 300.0),  # slower than the best, in less memory
        tried(2, 9.5, 900.0),  # slower than the best, in more
        tried(3, 99.0, 10.0, timed="synthetic"),
        tried(4, 30.0, None),  # of a run before memory was recorded
        tried(5, 40.0, 100.0, set=["scaled_decode"]),  # was taken back
    )
    found = points(replace(story(tmp_path), trials=trials))
    assert list(found) == ["baseline", "bf16", "change 1", "change 2", "change 5"]
    fronts = {label: point["front"] for label, point in found.items()}
    assert fronts == {
        "baseline": False, "bf16": True, "change 1": True, "change 2": False, "change 5": False,
    }  # fmt: skip
    assert found["baseline"]["samples_per_s"] == pytest.approx(2.0, rel=0.01)
    assert (found["bf16"]["peak_rss_mb"], found["bf16"]["best"]) == (500.0, True)
    assert found["bf16"]["loss_drift"] == pytest.approx(0.001, abs=1e-4)
    assert found["change 1"]["loss_drift"] is None
    assert found["baseline"]["peak_device_mb"] is None


def test_what_was_not_judged_beats_nothing_that_was(tmp_path: Path) -> None:
    told = replace(story(tmp_path), trials=(tried(1, 50.0, 100.0), tried(2, 49.0, 100.0)))
    found = points(told)
    assert found["bf16"]["front"] and found["change 1"]["front"]
    assert not found["change 2"]["front"]


def test_a_gpus_memory_is_a_price_too(tmp_path: Path) -> None:
    base = story(tmp_path)
    assert base.final is not None
    sides = {
        name: tuple(replace(b, peak_device_mb=mb) for b in getattr(base.final, name))
        for name, mb in (("reference", 100.0), ("candidate", 700.0))
    }
    told = replace(base, final=replace(base.final, **sides))
    assert all(point["front"] for point in points(told).values())
    assert "Peak GPU memory" in render_training(result_document(told))


def test_the_front_of_a_study_is_what_is_marked(tmp_path: Path) -> None:
    study = Study(tmp_path, result_document(story(tmp_path)), ())
    assert [point["label"] for point in study.pareto] == ["bf16"]


def test_one_system_is_one_point_whichever_trial_measured_it(tmp_path: Path) -> None:
    base = story(tmp_path)
    assert base.judged is not None
    same = replace(tried(1, 8.0, 400.0), config_hash=base.judged.config.hash)
    twice = (tried(2, 3.0, 400.0), replace(tried(3, 3.1, 410.0), config_hash="hash 2"))
    found = points(replace(base, trials=(same, *twice)))
    assert list(found) == ["baseline", "bf16", "change 3"]


def test_the_page_shows_speed_against_memory_where_there_are_two_systems(tmp_path: Path) -> None:
    page = render_training(
        result_document(replace(story(tmp_path), trials=(tried(7, 9.0, 300.0),)))
    )
    for text in ("Speed against memory", "best: bf16", "300 MB", "the reference", "not judged"):
        assert text in page
    assert "Peak GPU memory" not in page
    alone = replace(story(tmp_path), judged=Judged(BASELINE, (), None, None), final=None)
    assert [p["label"] for p in result_document(alone)["pareto"]] == ["baseline"]
    assert "Speed against memory" not in render_training(result_document(alone))
    early = replace(alone, baseline=None, judged=None)
    assert result_document(early)["pareto"] == []


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


def test_a_run_that_fails_after_it_measured_leaves_what_it_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = story(tmp_path / "run")

    def carry_out(playbook: optimize.TrainingPlaybook) -> None:
        playbook._know(baseline=known.baseline, found=known.found, judged=known.judged)
        raise RuntimeFailure("the final race broke")

    monkeypatch.setattr(optimize, "prepare", lambda spec, folder: known.task)
    monkeypatch.setattr(optimize.TrainingPlaybook, "carry_out", carry_out)
    with pytest.raises(RuntimeFailure, match="the final race broke"):
        optimize.optimize_training(known.task.spec, tmp_path / "run")
    written = Study.load(tmp_path / "run").result
    assert (written["failure"], written["interrupted"]) == ("the final race broke", False)
    assert written["best"]["config_hash"] == known.judged.config.hash
    assert (tmp_path / "run" / "training.json").is_file()
    assert "ended early: the final race broke" in render_training(written)


def test_the_first_step_of_a_curve_is_no_figure_of_the_baseline() -> None:
    steady = block_of(2.0, 5)
    slow = replace(
        steady,
        step_s=(60.0, *steady.step_s[1:]),
        part_s={**steady.part_s, "data": (60.0, *steady.part_s["data"][1:])},
    )
    found = Curves(BASELINE, (LossCurve(0, slow.losses, None, slow),)).blocks[0]
    assert found.samples_per_s == pytest.approx(steady.samples_per_s)
    assert found.share("data") == pytest.approx(steady.share("data"))
