from __future__ import annotations

import io
from typing import Any

from rich.console import Console
from sample_result import sample_result

from saccade.report import sections
from saccade.report.console import summary
from saccade.report.html import render_html
from saccade.report.untried import untried_text


def hurried(trials: bool) -> dict[str, Any]:
    """A run whose budget of a minute was over before three of its changes, or before any."""
    rows = [
        {"change": f"change {n}", "predicted_gain": 2.5 - n / 2, "cost_s": 12.0} for n in range(5)
    ]
    result = sample_result() | {"untried": rows, "budget_s": 60.0, "wall_s": 62.0}
    if trials:
        return result
    best = result["best"] | {"trial": 0, "speedup": {"value": 1.0, "interval": [1.0, 1.0]}}
    return result | {"trials": [], "rejected": [], "best": best}


def test_what_was_not_tried_is_named_with_a_budget_that_reaches_it() -> None:
    said = untried_text(hurried(trials=True))
    assert "The budget of 1 min 0 s was over before change 0 (promises 2.50×), change 1" in said
    assert "and 2 more" in said and "change 3" not in said
    assert "--budget 3m" in said  # 62 s, and three changes of 12 s in 60% of the time


def test_console_and_page_say_it(tmp_path: Any) -> None:
    result = hurried(trials=True)
    stream = io.StringIO()
    summary(result, Console(file=stream, width=300))
    assert untried_text(result) in stream.getvalue()
    assert untried_text(result) in render_html(result)
    assert "Not tried" not in render_html(sample_result())


def test_the_headline_says_why_nothing_is_better() -> None:
    said = sections.headline(hurried(trials=False))
    assert "nothing was tried, for the budget of 1 min 0 s was over" in said
    assert "20.7 FPS" in said and "reached" not in said
    assert "reached" in sections.headline(hurried(trials=True))


def test_the_baseline_that_stands_was_not_reached() -> None:
    result = hurried(trials=False) | {"untried": []}
    assert sections.headline(result).endswith("no change was kept; the baseline runs at 20.7 FPS.")


def test_nothing_left_or_an_interrupted_run_says_nothing_of_it() -> None:
    assert untried_text(sample_result()) == ""
    assert untried_text(hurried(trials=True) | {"interrupted": True}) == ""
