"""The end of a training study, on the console."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.rule import Rule

from saccade.report import provenance, sections
from saccade.report.console import (
    STYLES,
    Speaker,
    columned,
    print_goals,
    print_metrics,
    print_table,
    print_untried,
)
from saccade.report.document import records, tone
from saccade.report.training.page import interaction_rows, kept_rows, training_headline


def training_summary(result: Mapping[str, Any], console: Console, report: str = "") -> None:
    """Print goals, before and after, what was kept, interactions, what was not kept, and where.

    Args:
        result: the document of `result.json`; whatever is missing is left out.
        console: where to print.
        report: path of the written report, empty where there is none.
    """
    say = Speaker(console)
    colour = STYLES[tone(str(result.get("status") or "inconclusive"))]
    console.print()
    console.print(Rule(say.text(sections.badge(result), f"bold {colour}"), style=colour))
    console.print(say.text(training_headline(result)))
    print_goals(result, say)
    print_metrics(result, say)
    _print_kept(result, say)
    _print_interactions(result, say)
    _print_rejected(result, say)
    print_untried(result, say)
    if report:
        console.print()
        console.print(say.text(f"report  {report}"), soft_wrap=True)
    console.print(say.text(provenance.run_length(result), "dim"))


def _print_kept(result: Mapping[str, Any], say: Speaker) -> None:
    rows = kept_rows(result)
    if not rows:
        return
    columns: tuple[tuple[str, bool], ...] = (
        ("change", False),
        ("predicted", True),
        ("alone", True),
        ("predicted", True),
        ("among the others", True),
    )
    names = ["change", "predicted_alone", "alone", "predicted", "achieved"]
    if any(row["memory"] for row in rows):
        columns, names = (*columns, ("memory", True)), [*names, "memory"]
    shown = columned(say, "Kept", columns)
    for row in rows:
        cells = (row[name] for name in names)
        shown.add_row(*(say.text(cell) for cell in cells))
    print_table(say, shown)


def _print_interactions(result: Mapping[str, Any], say: Speaker) -> None:
    rows = interaction_rows(result)[:6]
    if not rows:
        return
    columns = (("pair", False), ("first", True), ("second", True), ("both", True), ("factor", True))
    shown = columned(say, "Interactions: gain of each alone and of both", columns)
    for row in rows:
        cells = (row["pair"], row["first"], row["second"], row["both"], row["factor"])
        shown.add_row(*(say.text(cell) for cell in cells))
    print_table(say, shown)


def _print_rejected(result: Mapping[str, Any], say: Speaker) -> None:
    rows = records(result.get("rejected"))
    if not rows:
        return
    say.console.print()
    say.console.print(say.text("Not kept", "bold"))
    for row in rows:
        verdict = str(row.get("verdict") or "")
        line = say.text(f"  {row.get('change')}  ")
        line.append_text(say.text(verdict, STYLES[tone(verdict)]))
        line.append_text(say.text(f"  {row.get('reason')}", "dim"))
        say.console.print(line)
