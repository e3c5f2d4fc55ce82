from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console
from sample_result import sample_result

from saccade.progress import Progress, SilentProgress
from saccade.report.console import ConsoleProgress, summary


def _console(width: int = 100, terminal: bool = False) -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    return Console(file=stream, width=width, force_terminal=terminal, highlight=False), stream


def _summary(result: dict[str, Any], width: int = 100, report: str = "") -> str:
    console, stream = _console(width)
    summary(result, console, report)
    return stream.getvalue()


def _drive(progress: Progress) -> None:
    progress.step("Optimize")
    progress.note("the baseline runs at 20.7 FPS")
    progress.trial_started(1, "runtime: openvino", 1.45)
    progress.trial_finished(1, "runtime: openvino", "better", 1.38, (1.35, 1.41), "it is faster")
    progress.trial_started(2, "int8", None)
    progress.trial_finished(2, "int8", "failed", None, None, "the worker ran out of memory")
    progress.close()
    progress.close()


def test_summary_says_everything_that_matters() -> None:
    output = _summary(sample_result(), 140, "runs/street/report.html")
    assert "Goals met" in output
    assert "4.40× the baseline's 20.7 FPS" in output
    assert "✓ met" in output
    assert "1.58× (1.55–1.61)" in output
    assert "report  runs/street/report.html" in output
    assert "bundle  runs/street/bundle" in output
    flat = " ".join(output.split())
    for rejected in sample_result()["rejected"]:
        assert rejected["reason"] in flat
        assert rejected["verdict"] in flat


@pytest.mark.parametrize("width", [40, 80])
def test_summary_fits_its_console(width: int) -> None:
    assert max(len(line) for line in _summary(sample_result(), width).splitlines()) <= width


@pytest.mark.parametrize("key", sorted(sample_result()))
@pytest.mark.parametrize("instead", [None, [], {}, "text", 3, [None, 1, "x", {}]])
def test_summary_survives_missing_and_odd_parts(key: str, instead: Any) -> None:
    assert _summary(sample_result() | {key: instead})


def test_summary_of_an_empty_document() -> None:
    assert "No verdict" in _summary({})


def test_summary_prints_no_markup_and_no_control_characters() -> None:
    result = sample_result()
    result["rejected"][0]["reason"] = "[bold]x[/bold] \x1b[31mred\x1b]0;title\x07 [/]"
    output = _summary(result)
    assert "[bold]x[/bold]" in output
    assert "\x1b" not in output
    assert "\x07" not in output


def test_an_ascii_console_gets_ascii() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    console = Console(file=stream, width=100, highlight=False)
    summary(sample_result(), console)
    progress = ConsoleProgress(console, clock=lambda: 0.0)
    _drive(progress)
    stream.flush()
    stream.seek(0)
    assert ">= 60 FPS" in stream.read()


def test_progress_without_a_terminal_is_one_plain_line_each() -> None:
    console, stream = _console(width=30)
    seconds = iter([100.0, *[175.4] * 20])
    _drive(ConsoleProgress(console, clock=lambda: next(seconds)))
    assert stream.getvalue().splitlines() == [
        "  1:15 Optimize",
        "       the baseline runs at 20.7 FPS",
        "       trial 1: runtime: openvino, predicted 1.45×",
        "       ✓ trial 1: runtime: openvino  better 1.38× (1.35–1.41)  it is faster",
        "       trial 2: int8",
        "       ✗ trial 2: int8  failed  the worker ran out of memory",
    ]


def test_progress_on_a_terminal_leaves_no_spinner_behind() -> None:
    console, stream = _console(terminal=True)
    _drive(ConsoleProgress(console, clock=lambda: 0.0))
    output = stream.getvalue()
    assert "better 1.38×" in output
    assert "predicted 1.45×" not in output.splitlines()[-1]
    assert output.count("\x1b[?25l") == output.count("\x1b[?25h")  # the cursor is back


def test_progress_escapes_what_it_is_given() -> None:
    console, stream = _console()
    progress = ConsoleProgress(console, clock=lambda: 0.0)
    progress.note("[red]class[/red] \x1b[2J\nnext")
    assert stream.getvalue() == "       [red]class[/red]  [2J next\n"


def test_silent_progress_is_a_progress_that_says_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _drive(SilentProgress())
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
