"""The ladder's log and the layers' sensitivity, as the report and the console show them."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from rich.console import Console

from saccade.report.console import summary
from saccade.report.html import render_html
from saccade.report.repair import MAX_LAYERS, Ladder, ladders, sensitivity_chart


def step(rung: str, setting: str, before: float | None, after: float | None) -> dict[str, Any]:
    return {
        "rung": rung,
        "setting": setting,
        "drop_before": before,
        "drop_after": after,
        "wall_s": 12.0,
        "outcome": "broke a goal" if setting else "needs a torch model",
    }


LAYERS = [{"node": f"<layer {index}>", "kind": "Conv", "error": 10.0**-index} for index in range(4)]
STEPS = [
    step("first setting", "int8: openvino, plain", None, 0.8),
    step("most sensitive layers float", "int8: openvino, float most sensitive layers", 0.8, 0.05),
    step("quantization-aware training", "", None, None),
]


def result() -> dict[str, Any]:
    details = {"sensitivity": LAYERS, "float_layers": ["<layer 0>"], "doubts": ["only 3 images"]}
    trials = [
        {"trial": 1, "parent": 0, "change": "int8: openvino, plain", "repair": STEPS[:1]},
        {"trial": 2, "parent": 0, "change": "int8: x", "repair": STEPS, "details": details},
        {"trial": 3, "parent": 0, "change": "bf16", "repair": []},
    ]
    return {"status": "not_met", "goals": [], "baseline": {}, "trials": trials}


def test_a_ladder_is_shown_once_with_its_whole_log() -> None:
    (found,) = ladders(result())
    assert found.name == "int8: openvino, plain"
    assert [s.rung for s in found.steps] == [s["rung"] for s in STEPS]
    assert found.steps[1].before == "0.8000"
    assert found.steps[1].after == "0.0500"
    assert found.steps[2].outcome == "needs a torch model"
    assert found.kept_float == ("<layer 0>",)


def test_two_ladders_stay_two() -> None:
    document = result()
    other = {**STEPS[0], "setting": "int8: onnxruntime, plain"}
    document["trials"].append({"trial": 4, "parent": 0, "repair": [other]})
    assert [ladder.name for ladder in ladders(document)] == [
        "int8: openvino, plain",
        "int8: onnxruntime, plain",
    ]


def test_int8_that_was_kept_at_once_shows_its_layers() -> None:
    kept = {"trial": 5, "parent": 0, "change": "int8: onnxruntime, plain", "kept": True}
    details = {"sensitivity": LAYERS, "doubts": ["only 3 images"]}
    document = {**result(), "trials": [{**kept, "details": details}]}
    (found,) = ladders(document)
    assert (found.name, found.steps, len(found.layers)) == (kept["change"], (), len(LAYERS))
    page = render_html(document)
    assert "Sensitivity per layer of int8: onnxruntime, plain" in page
    assert "Repair of" not in page
    assert "only 3 images" in page
    assert ladders({"trials": [{**kept, "kept": False, "details": details}]}) == []


def test_the_chart_has_a_bar_per_layer_and_marks_what_stayed_float() -> None:
    chart = sensitivity_chart(LAYERS, ["<layer 0>"], 900)
    assert chart.count("<rect") == len(LAYERS)
    assert chart.count('class="at-peak"') == 1
    assert "&lt;layer 3&gt;" in chart  # names come out of model files
    many = [{**LAYERS[0], "node": str(i)} for i in range(3 * MAX_LAYERS)]
    assert sensitivity_chart(many, [], 372).count("<rect") == MAX_LAYERS
    assert sensitivity_chart([], [], 900) == ""
    assert sensitivity_chart([{"node": "a", "error": "?"}], [], 900) == ""


def test_a_bar_says_what_int8_saves_where_that_was_measured() -> None:
    document = result()
    timed = [
        {"node": "<layer 0>", "float_ms": 0.5, "int8_ms": 0.625, "rounded": True},
        {"node": "<layer 1>", "float_ms": 0.5, "int8_ms": "?"},
        {"node": "elsewhere", "float_ms": 1.0, "int8_ms": 0.5},
    ]
    document["trials"][1]["details"]["layer_times"] = timed
    (found,) = ladders(document)
    chart = str(sensitivity_chart(found.layers, found.kept_float, 900))
    assert chart.count("int8 saves") == 1
    assert "int8 saves -0.125 ms, left float" in chart


def test_the_page_and_the_console_tell_the_ladder() -> None:
    page = render_html(result())
    assert "Repair of int8: openvino, plain" in page
    assert "Sensitivity per layer" in page
    assert "only 3 images" in page
    assert "<layer 0>" not in page
    console = Console(file=io.StringIO(), width=200)
    summary(result(), console)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "Repair of int8: openvino, plain" in said
    assert "0.0500" in said
    assert "needs a torch model" in said


def test_a_run_without_a_ladder_shows_none() -> None:
    document = {**result(), "trials": []}
    assert ladders(document) == []
    assert "Repair of" not in render_html(document)


def test_short_names_lie_beside_their_bars() -> None:
    short = [{"node": "conv", "kind": "Conv", "error": 0.1}]
    long = [{"node": "/a/very/long/name" * 6, "kind": "Conv", "error": 0.1}]
    starts = [
        float(re.findall(r'<rect x="([\d.]+)"', sensitivity_chart(layers, [], 900))[0])
        for layers in (short, long)
    ]
    assert starts[0] < 60
    assert starts[1] == pytest.approx(900 * 0.42)


def test_what_is_not_drawn_is_said() -> None:
    few, many = (
        Ladder("int8", (), tuple({"node": str(i), "error": 0.1} for i in range(count)), (), ())
        for count in (MAX_LAYERS, MAX_LAYERS + 13)
    )
    assert few.shown == ""
    assert many.shown == f"Drawn are the {MAX_LAYERS} most sensitive of {MAX_LAYERS + 13} layers."
