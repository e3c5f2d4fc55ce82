from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest
from sample_result import sample_result

from saccade.report.charts import gain_chart, operator_chart, stage_chart
from saccade.report.document import Change, Point, changes, front_points
from saccade.report.front_chart import FrontAxes, front_chart
from saccade.report.svg import Box, fit, nice_ticks, text_width, tick_text

WIDTHS = (904.0, 372.0)
AXES = FrontAxes("throughput_fps", "map50_95", 60.0, 0.402)


def _texts(svg: ET.Element) -> list[str]:
    return ["".join(element.itertext()) for element in svg.iter("text")]


def _boxes(svg: ET.Element, css: str) -> list[Box]:
    """Estimated boxes of the texts of a class that are anchored at their start."""
    found = []
    for element in svg.iter("text"):
        if css in element.get("class", "").split() and element.get("text-anchor") is None:
            bold = "b" in element.get("class", "").split()
            x, y = float(element.get("x", 0)), float(element.get("y", 0))
            wide = text_width("".join(element.itertext()), 12 if bold else 11, bold)
            found.append(Box(x, y - 10, x + wide, y + 2))
    return found


@pytest.mark.parametrize("width", WIDTHS)
def test_stage_bars_are_proportional_to_their_times(width: float) -> None:
    before = [{"name": "decode", "wall_ms": 10.0}, {"name": "infer", "wall_ms": 30.0}]
    after = [{"name": "decode", "wall_ms": 10.0}, {"name": "infer", "wall_ms": 10.0}]
    svg = ET.fromstring(stage_chart(before, after, width))
    bars = [r for r in svg.iter("rect") if r.find("title") is not None]
    widths = [float(bar.get("width", 0)) for bar in bars]
    assert widths[1] == pytest.approx(3 * widths[0], rel=0.01)
    assert widths[2:] == pytest.approx([widths[0], widths[0]], rel=0.01)
    assert "40.0 ms" in _texts(svg)
    assert "20.0 ms" in _texts(svg)


def test_stage_chart_draws_the_baseline_alone_and_nothing_from_nothing() -> None:
    stages = sample_result()["baseline"]["stages"]
    svg = ET.fromstring(stage_chart(stages, [], 904))
    assert "Baseline" in _texts(svg)
    assert "Best" not in _texts(svg)
    assert stage_chart([], [], 904) == ""
    ET.fromstring(stage_chart([{"name": "decode"}], [], 904))


@pytest.mark.parametrize("width", WIDTHS)
def test_gain_chart_shows_prediction_and_measurement(width: float) -> None:
    svg = ET.fromstring(gain_chart(changes(sample_result()), width))
    circles = [c.get("class") for c in svg.iter("circle") if c.find("title") is not None]
    assert circles.count("predicted") == 13  # trial 12 was tuned, not predicted
    assert circles.count("gain good") == 7
    assert circles.count("gain neutral") == 6
    assert "1×" in _texts(svg)
    assert "failed" in _texts(svg)


def test_gain_chart_puts_larger_gains_further_right() -> None:
    svg = ET.fromstring(gain_chart([Change(1, "a", predicted=1.1, achieved=2.0)], 904))
    predicted, achieved = (c for c in svg.iter("circle") if c.find("title") is not None)
    assert float(predicted.get("cx", 0)) < float(achieved.get("cx", 0))


@pytest.mark.parametrize("value", [0.0, -1.0, 1e-9, 1e9, None])
def test_gain_chart_survives_absurd_gains(value: float | None) -> None:
    change = Change(1, "x", predicted=value, achieved=value, interval=(-1.0, 1e9))
    drawn = gain_chart([change, Change(2, "y", achieved=1.1)], 904)
    for element in ET.fromstring(drawn).iter():
        for name in ("x", "cx", "x1", "x2"):
            assert -1 <= float(element.get(name, 0)) <= 905


@pytest.mark.parametrize("width", WIDTHS)
def test_front_labels_do_not_collide(width: float) -> None:
    svg = ET.fromstring(front_chart(front_points(sample_result()), AXES, width))
    boxes = _boxes(svg, "halo")
    assert len(boxes) >= 6
    for index, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[index + 1 :])
        assert box.x0 >= 0
        assert box.x1 <= width


@pytest.mark.parametrize("width", WIDTHS)
def test_front_labels_do_not_collide_in_a_crowd(width: float) -> None:
    crowd = [
        Point(n, f"candidate number {n}", 90 + 0.3 * n, 0.41 - 0.0004 * n, None, None, "front")
        for n in range(1, 30)
    ]
    boxes = _boxes(ET.fromstring(front_chart(crowd, AXES, width)), "halo")
    assert all(not a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])


def test_front_draws_goals_roles_and_line() -> None:
    svg = ET.fromstring(front_chart(front_points(sample_result()), AXES, 904))
    classes = [element.get("class") or "" for element in svg.iter()]
    assert classes.count("goal") == 2
    assert classes.count("front-line") == 1
    assert "point best" in classes
    assert "point baseline" in classes
    assert {"goal ≥ 60", "goal ≥ 0.402", "Best", "Baseline"} <= set(_texts(svg))


def test_latency_front_steps_the_other_way() -> None:
    points = [
        Point(1, "fast", 10.0, 0.3, None, None, "front"),
        Point(2, "good", 20.0, 0.4, None, None, "front"),
    ]
    for speed, pattern in (("latency_ms", r"^M\S+ \S+?H\S+?V\S+$"), ("throughput_fps", None)):
        svg = ET.fromstring(front_chart(points, FrontAxes(speed, "map50_95"), 904))
        path = svg.find("path")
        if pattern is None:
            assert path is None  # at more FPS and more accuracy, one point is the whole front
        else:
            assert path is not None
            assert re.match(pattern, path.get("d", ""))


def test_front_needs_two_points_and_survives_equal_ones() -> None:
    point = Point(1, "a", 10.0, 0.4, None, None, "front")
    assert front_chart([point], AXES, 904) == ""
    ET.fromstring(front_chart([point, point], FrontAxes("throughput_fps", "map50_95"), 904))


def test_operator_bars_share_one_scale_and_are_sorted() -> None:
    operators = [
        {"name": "a", "kind": "Conv", "wall_ms": 1.0, "share_of_peak": 0.25, "bound": "compute"},
        {"name": "b", "kind": "Conv", "wall_ms": 2.0, "share_of_peak": None},
        {"name": "c", "kind": "Add", "wall_ms": None},
    ]
    svg = ET.fromstring(operator_chart(operators, 904, 4.0))
    bars = {c: [] for c in ("operator", "at-peak")}
    for rect in svg.iter("rect"):
        bars[rect.get("class", "")].append(float(rect.get("width", 0)))
    assert bars["operator"][0] == pytest.approx(2 * bars["operator"][1], rel=0.01)
    assert bars["at-peak"] == pytest.approx([bars["operator"][1] / 4], rel=0.01)
    assert "1.00 ms · 25 % · compute" in _texts(svg)
    assert operator_chart([], 904, 0.0) == ""


def test_markup_in_labels_is_escaped() -> None:
    drawn = gain_chart([Change(1, "<b>&\"'", achieved=1.2)], 904)
    assert "<b>" not in drawn
    assert "<b>&\"'" in _texts(ET.fromstring(drawn))


def test_fit_and_ticks() -> None:
    assert fit("short", 100) == "short"
    assert fit("a label that is far too long", 60).endswith("…")
    assert text_width(fit("a label that is far too long", 60)) <= 60
    assert fit("anything", 0) == ""
    assert text_width("漢字") > text_width("ab")
    ticks = nice_ticks(0.36, 0.43, 6)
    assert [tick_text(t, ticks) for t in ticks] == ["0.36", "0.38", "0.40", "0.42"]
    assert nice_ticks(1, 1, 5) == [1]
