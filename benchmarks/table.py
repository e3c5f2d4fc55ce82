"""One row per figure: what was measured, with its interval, and the bar it has to reach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

COLUMNS = ("figure", "measured", "interval", "bar", "reached", "detail")
WIDTH = 168
DIGITS = 3


@dataclass(frozen=True)
class Row:
    """A figure.

    Attributes:
        measured: the estimate; None where it could not be measured.
        low: lower end of its interval (95% of ratios, extremes of shares, one-sided bounds of
            drops); None where there is none.
        bar: what it has to reach; None where it is only told.
        at_least: whether it has to reach the bar from above.
        detail: what stands behind it.
        applies: False where this machine cannot have the figure, which then counts for nothing.
    """

    figure: str
    measured: float | None
    low: float | None = None
    high: float | None = None
    unit: str = ""
    bar: float | None = None
    at_least: bool = True
    detail: str = ""
    applies: bool = True

    @property
    def reached(self) -> str:
        """``yes`` and ``no`` are said of the whole interval, where there is one."""
        if not self.applies:
            return "-"
        if self.measured is None:
            return "no"
        if self.bar is None:
            return "-"
        low = self.measured if self.low is None else self.low
        high = self.measured if self.high is None else self.high
        worst, best = (low, high) if self.at_least else (-high, -low)
        bar = self.bar if self.at_least else -self.bar
        if worst >= bar:
            return "yes"
        return "no" if best < bar else "undecided"

    def cells(self) -> tuple[str, ...]:
        """Text for the table."""
        interval = ""
        if self.low is not None and self.high is not None:
            interval = f"[{_number(self.low)}, {_number(self.high)}]"
        sign = "≥" if self.at_least else "≤"
        bar = f"{sign} {_number(self.bar)}{self.unit}" if self.bar is not None else "-"
        measured = "-" if self.measured is None else f"{_number(self.measured)}{self.unit}"
        return (self.figure, measured, interval, bar, self.reached, self.detail)

    def document(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**asdict(self), "reached": self.reached}


def print_table(rows: Sequence[Row], title: str) -> None:
    """Print the one table on stdout."""
    table = Table(title=title, title_justify="left", show_lines=True)
    for column in COLUMNS:
        justify = "right" if column in ("measured", "bar") else "left"
        table.add_column(column, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for row in rows:
        table.add_row(*row.cells())
    Console(width=WIDTH).print(table)


def _number(value: float) -> str:
    """About four significant digits where there are decimals to show."""
    if value == int(value) and abs(value) < 1e6:
        return f"{value:.0f}"
    if abs(value) < 0.1:
        return f"{value:.4f}"
    return f"{value:.{DIGITS}f}" if abs(value) < 10 else f"{value:.1f}"
