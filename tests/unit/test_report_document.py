from __future__ import annotations

import json
from pathlib import Path

import pytest
from sample_result import sample_result

from saccade.errors import InputError
from saccade.report import provenance, sections
from saccade.report.document import (
    Point,
    front_points,
    kept_changes,
    load_run,
    pareto_front,
    rejected_changes,
)


def test_load_run_reads_what_was_written(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(json.dumps(sample_result()), encoding="utf-8")
    assert load_run(tmp_path) == {**sample_result(), "folder": str(tmp_path)}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no readable result.json"),
        ("{", "not valid JSON"),
        ("[]", "not the result of a run"),
        ('{"other": 1}', "not the result of a run"),
        ('{"status": "met", "schema_version": 99}', "schema_version 99"),
        ('{"status": "met", "schema_version": "x"}', "schema_version 'x'"),
    ],
)
def test_load_run_says_what_is_wrong(tmp_path: Path, content: str | None, says: str) -> None:
    if content is not None:
        (tmp_path / "result.json").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=says):
        load_run(tmp_path)


def test_kept_changes_are_the_chain_to_the_best_trial() -> None:
    assert [c.trial for c in kept_changes(sample_result())] == [1, 2, 3, 5, 6, 11, 12]


def test_kept_changes_leave_out_what_is_not_an_ancestor_of_the_best() -> None:
    result = sample_result()
    result["best"]["trial"] = 3
    assert [c.trial for c in kept_changes(result)] == [1, 2, 3]


def test_kept_changes_without_a_best_or_with_a_broken_chain() -> None:
    result = sample_result()
    result["best"] = None
    assert [c.trial for c in kept_changes(result)] == [1, 2, 3, 5, 6, 11, 12]
    result = sample_result()
    result["trials"] = [t for t in result["trials"] if t["trial"] != 2]
    assert [c.trial for c in kept_changes(result)] == [1, 3, 5, 6, 11, 12]
    result["best"]["trial"] = 0
    assert kept_changes(result) == []


def test_a_cycle_of_parents_ends() -> None:
    result = sample_result()
    result["trials"][0]["parent"] = 12
    assert len(kept_changes(result)) == 7


def test_rejected_changes_know_what_their_trial_measured() -> None:
    int8 = next(c for c in rejected_changes(sample_result()) if c.trial == 9)
    assert (int8.predicted, int8.achieved, int8.verdict) == (1.28, 1.21, "broke a goal")


def test_rejected_changes_come_from_the_trials_where_they_are_not_listed() -> None:
    result = sample_result()
    listed = {c.trial for c in rejected_changes(result)}
    del result["rejected"]
    assert {c.trial for c in rejected_changes(result)} == listed == {4, 7, 8, 9, 10, 13, 14}


def test_front_points_name_baseline_and_best_once() -> None:
    points = front_points(sample_result())
    assert [p.trial for p in points if p.role == "baseline"] == [0]
    assert [p.trial for p in points if p.role == "best"] == [12]
    assert len({p.trial for p in points}) == len(points)


def test_front_points_fall_back_on_the_metrics() -> None:
    result = sample_result()
    result["pareto"] = result["trials"] = None
    speeds = {p.role: (p.speed, p.accuracy) for p in front_points(result)}
    assert speeds == {"baseline": (20.7, 0.4121), "best": (91.2, 0.4111)}


def _point(speed: float, accuracy: float) -> Point:
    return Point(None, "", speed, accuracy, None, None, "front")


def test_pareto_front_in_both_directions() -> None:
    points = [_point(10, 0.5), _point(20, 0.4), _point(15, 0.3), _point(20, 0.35)]
    assert [p.speed for p in pareto_front(points, faster_is_more=True)] == [10, 20]
    assert [p.speed for p in pareto_front(points, faster_is_more=False)] == [10]


def test_headline_states_request_result_interval_and_bound() -> None:
    assert sections.headline(sample_result()) == (
        "Asked for throughput ≥ 60 FPS and mAP50-95 drop ≤ 0.01: reached 91.2 FPS, 4.40× the "
        "baseline's 20.7 FPS (interval 4.20–4.60), with the loss of mAP50-95 bounded by 0.006 "
        "(95.0 % one-sided)."
    )


def test_headline_of_a_latency_run() -> None:
    result = sample_result()
    result["objective"] = "latency_ms.p50"
    result["best"]["drop"] = None
    headline = sections.headline(result)
    assert "reached 30.2 ms, 4.40× faster than the baseline's 47.6 ms" in headline
    assert headline.endswith("with its accuracy not judged.")


def test_headline_without_a_best_system_claims_nothing() -> None:
    result = sample_result()
    result["best"] = None
    assert "no faster system has passed validation" in sections.headline(result)
    assert "reached" not in sections.headline(result)


def test_commands_survive_a_shell() -> None:
    result = sample_result()
    result["folder"] = "my runs/$(rm -rf x)"
    assert provenance.commands(result)[0].startswith(
        "saccade optimize 'my runs/$(rm -rf x)/spec.yaml'"
    )
    result |= {"kit": "my kit", "measurements": "my kit/measurements.json"}
    assert provenance.commands(result)[0].endswith(
        " --kit 'my kit' --measurements 'my kit/measurements.json'"
    )


def test_the_objective_shows_the_interleaved_ratio_not_the_quotient() -> None:
    rows = {row.label: row for row in sections.metric_rows(sample_result())}
    assert rows["Throughput"].change == "4.40× (4.20–4.60)"
    assert rows["Latency p99"].after == "—"
    assert rows["Peak memory"].change == "−37 %"
