"""The console: progress on stderr while a run works, and the summary at its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.rule import Rule
from rich.status import Status
from rich.table import Table
from rich.text import Text

from saccade.report import elsewhere, provenance, sections, systems
from saccade.report import quantities as q
from saccade.report.by_size import SIZES, size_columns
from saccade.report.document import Change, kept_changes, rejected_changes, tone
from saccade.report.dynamic import dynamic_resolution
from saccade.report.repair import ladders
from saccade.report.untried import untried_text

STYLES = {"good": "green", "bad": "red", "warn": "yellow", "neutral": "dim"}
MARKS = {"good": "✓", "bad": "✗", "warn": "?", "neutral": "="}
ASCII = str.maketrans({"✓": "+", "✗": "x", "≥": ">=", "≤": "<=", "×": "x", "–": "-", "—": "-"})
ASCII_MORE = str.maketrans({"−": "-", "→": "->", "µ": "u", "…": "..."})


def summary(result: Mapping[str, Any], console: Console, report: str = "") -> None:
    """Print the end of a run: goals, before and after, what was kept, what not and why, and where.

    Args:
        result: the document of `result.json`; whatever is missing is left out.
        console: where to print.
        report: path of the written report, empty where there is none.
    """
    say = Speaker(console)
    colour = STYLES[tone(str(result.get("status") or "inconclusive"))]
    console.print()
    console.print(Rule(say.text(sections.badge(result), f"bold {colour}"), style=colour))
    console.print(say.text(sections.headline(result)))
    print_goals(result, say)
    _print_measured(result, say)
    _print_estimates(result, say)
    print_metrics(result, say)
    _print_tasks(result, say)
    _print_kept(result, say)
    _print_dynamic(result, say)
    _print_repair(result, say)
    _print_sizes(result, say)
    _print_rejected(result, say)
    print_untried(result, say)
    _print_places(result, say, report)


class ConsoleProgress:
    """Shows a run's progress as lines; on a terminal also what it is doing right now.

    Satisfies `saccade.progress.Progress`.
    """

    def __init__(
        self, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start the clock.

        Args:
            console: where to print; by default stderr, so that stdout stays clean for ``--json``.
            clock: seconds, monotonic.
        """
        self._console = console or Console(stderr=True, highlight=False)
        self._say = Speaker(self._console)
        self._clock = clock
        self._began = clock()
        self._status: Status | None = None

    def step(self, title: str) -> None:
        """Print the step's title with the time since the start."""
        self._line(self._say.text(title, "bold"), bare=False)
        self._doing(title)

    def note(self, text: str) -> None:
        """Print a line within the step."""
        self._line(self._say.text(text, "dim"))

    def trial_started(self, number: int, change: str, predicted_gain: float | None) -> None:
        """Print what is tried and what it should gain, or show it beside the spinner."""
        predicted = f", predicted {q.ratio(predicted_gain)}" if predicted_gain else ""
        text = f"trial {number}: {change}{predicted}"
        if self._console.is_terminal:
            self._doing(text)
        else:
            self._line(self._say.text(text))

    def trial_finished(
        self,
        number: int,
        change: str,
        verdict: str,
        achieved_gain: float | None,
        interval: tuple[float, float] | None,
        reason: str,
    ) -> None:
        """Print the trial's verdict, its gain with interval, and the reason."""
        colour = tone(verdict)
        gain = f" {sections.gain_text(achieved_gain, interval)}" if achieved_gain else ""
        line = self._say.text(f"{MARKS[colour]} trial {number}: {change}  ")
        line.append_text(self._say.text(f"{verdict}{gain}", STYLES[colour]))
        if reason:
            line.append_text(self._say.text(f"  {reason}", "dim"))
        self._line(line)

    def close(self) -> None:
        """Stop the spinner. Calling it twice is allowed."""
        if self._status is not None:
            self._status.stop()
            self._status = None

    def _line(self, text: Text, bare: bool = True) -> None:
        elapsed = round(self._clock() - self._began)
        stamp = " " * 7 if bare else f"{elapsed // 60:3d}:{elapsed % 60:02d} "
        line = Text(stamp, style="dim").append_text(text)
        # One line stays one line in a log: no wrapping where nobody's terminal is that wide.
        self._console.print(line, soft_wrap=not self._console.is_terminal, highlight=False)

    def _doing(self, text: str) -> None:
        if not self._console.is_terminal:
            return
        if self._status is None:
            self._status = Status(self._say.text(text), console=self._console)
            self._status.start()
        else:
            self._status.update(self._say.text(text))


class Speaker:
    """Turns untrusted strings into `Text`: no markup, no control characters, no lost glyphs."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._ascii = not console.encoding.lower().startswith("utf")

    def text(self, content: str, style: str = "") -> Text:
        """``content`` as it may be printed on this console."""
        safe = "".join(char if char.isprintable() else " " for char in content)
        if self._ascii:
            safe = safe.translate(ASCII).translate(ASCII_MORE)
        safe = safe.encode(self.console.encoding, "replace").decode(self.console.encoding)
        return Text(safe, style=style)


def columned(say: Speaker, title: str, columns: tuple[tuple[str, bool], ...]) -> Table:
    """An empty table; ``columns`` are names and whether they are right-aligned."""
    table = Table(
        title=say.text(title, "bold"),
        title_justify="left",
        box=None,
        padding=(0, 2, 0, 0),
        header_style="dim",
    )
    for name, right in columns:
        table.add_column(name, justify="right" if right else "left", no_wrap=right)
    return table


def print_goals(result: Mapping[str, Any], say: Speaker) -> None:
    """Goals with value, interval and verdict; nothing where there are none."""
    rows = sections.goal_rows(result)
    if not rows:
        return
    columns = (("", False), ("measured", True), ("interval", True), ("", False), ("", False))
    table = columned(say, "Goals", columns)
    for row in rows:
        verdict = say.text(f"{row.mark} {row.word}", STYLES[row.tone])
        cells = (row.name, row.value, row.interval)
        table.add_row(*(say.text(cell) for cell in cells), verdict, say.text(row.note, "dim"))
    print_table(say, table)


def _print_measured(result: Mapping[str, Any], say: Speaker) -> None:
    rows = elsewhere.measured_rows(result)
    if not rows:
        return
    columns = (("", False), ("", False), ("speed", True), ("median", True))
    table = columned(say, f"Measured on {elsewhere.device_name(result)}, inference alone", columns)
    for row in rows:
        cells = (row.candidate, row.status, row.ratio, row.median)
        table.add_row(*(say.text(cell) for cell in cells))
    print_table(say, table)


def _print_estimates(result: Mapping[str, Any], say: Speaker) -> None:
    rows = elsewhere.estimate_rows(result)
    if not rows or elsewhere.measured_rows(result):
        return
    title = f"Estimates for {elsewhere.target_name(result)}, not verified on hardware"
    columns = (("", False), ("", False), ("runs", False), ("memory", True), ("at least", True))
    table = columned(say, title, (*columns, ("unfused", True)))
    for row in rows:
        cells = (row.runtime, row.precision, row.runs, row.memory, row.bound, row.unfused)
        table.add_row(*(say.text(cell) for cell in cells))
    print_table(say, table)


def print_metrics(result: Mapping[str, Any], say: Speaker) -> None:
    """All metrics before and after."""
    rows = sections.metric_rows(result)
    if not rows:
        return
    has_best = bool(result.get("best"))
    columns = (("", False), ("baseline", True), ("best", True), ("change", True))
    table = columned(
        say, "Before and after" if has_best else "Baseline", columns[: 2 + 2 * has_best]
    )
    for row in rows:
        cells = (row.label, row.before, row.after, row.change)[: 2 + 2 * has_best]
        table.add_row(*(say.text(cell) for cell in cells))
    print_table(say, table)


def _print_tasks(result: Mapping[str, Any], say: Speaker) -> None:
    rows = systems.task_rows(result)
    if not rows:
        return
    columns = (("", False), ("", False), ("baseline", True), ("best", True), ("drop", True))
    table = columned(say, "Two tasks on the same frames", (*columns, ("on its own", False)))
    for row in rows:
        cells = (row.task, row.metric, row.before, row.after, row.drop, row.own)
        table.add_row(*(say.text(cell) for cell in cells))
    print_table(say, table)
    for label, reason in systems.not_shared(result):
        say.console.print(say.text(f"not shared: {label}: {reason}", "dim"))


def _print_kept(result: Mapping[str, Any], say: Speaker) -> None:
    kept = kept_changes(result)
    if not kept:
        return
    columns = (("", True), ("change", False), ("predicted", True), ("achieved", True))
    table = columned(say, "Kept", columns)
    for change in kept:
        table.add_row(
            say.text(_number(change), "dim"),
            say.text(change.name),
            say.text(q.ratio(change.predicted)),
            say.text(sections.gain_text(change.achieved, change.interval)),
        )
    print_table(say, table)


def _print_dynamic(result: Mapping[str, Any], say: Speaker) -> None:
    said = dynamic_resolution(result)
    if said:
        say.console.print()
        say.console.print(say.text(said))


def _print_sizes(result: Mapping[str, Any], say: Speaker) -> None:
    rows = size_columns(result)
    if not rows:
        return
    columns = (("trial, on selection images", False), *((name, True) for name in SIZES.values()))
    table = columned(say, "Accuracy by object size, in pixels: baseline → then", columns)
    for row in rows:
        table.add_row(*(say.text(cell) for cell in row))
    print_table(say, table)


def _print_repair(result: Mapping[str, Any], say: Speaker) -> None:
    columns = (("rung", False), ("setting", False), ("drop before", True), ("after", True))
    for ladder in (found for found in ladders(result) if found.steps):
        name = f"Repair of {ladder.name}, on selection images"
        table = columned(say, name, (*columns, ("took", True), ("", False)))
        for step in ladder.steps:
            setting = step.setting.partition(", ")[2] or step.setting
            cells = (step.rung, setting, step.before, step.after, step.took, step.outcome)
            table.add_row(*(say.text(cell) for cell in cells))
        print_table(say, table)


def _print_rejected(result: Mapping[str, Any], say: Speaker) -> None:
    """Two lines each: a table would squeeze the reasons into a narrow column."""
    rejected = rejected_changes(result)
    if not rejected:
        return
    say.console.print()
    say.console.print(say.text("Not kept", "bold"))
    for change in rejected:
        line = say.text(f"{_number(change):>2}  ", "dim").append_text(say.text(change.name))
        line.append_text(say.text(f"  {_gains(change)}", "dim"))
        say.console.print(line)
        why = say.text(change.verdict or "not kept", STYLES[tone(change.verdict)])
        if change.reason:
            why = Text.assemble(why, ": ", say.text(change.reason))
        say.console.print(Padding(why, (0, 0, 0, 4)))


def print_untried(result: Mapping[str, Any], say: Speaker) -> None:
    """Changes that there was no time for."""
    said = untried_text(result)
    if said:
        say.console.print()
        say.console.print(say.text("Not tried", "bold"))
        say.console.print(say.text(said))


def _number(change: Change) -> str:
    return "" if change.trial is None else str(change.trial)


def _gains(change: Change) -> str:
    parts = []
    if change.predicted is not None:
        parts.append(f"predicted {q.ratio(change.predicted)}")
    if change.achieved is not None:
        parts.append(f"achieved {sections.gain_text(change.achieved, change.interval)}")
    return ", ".join(parts)


def print_table(say: Speaker, table: Table) -> None:
    """A table with an empty line before it."""
    say.console.print()
    say.console.print(table)


def _print_places(result: Mapping[str, Any], say: Speaker, report: str) -> None:
    places = [
        ("report", report),
        ("bundle", str(result.get("bundle") or "")),
        ("kit", str(result.get("kit") or "")),
    ]
    lines = [say.text(f"{name}  {where}") for name, where in places if where]
    length = provenance.run_length(result)
    say.console.print()
    for line in lines:
        # A path that is wrapped cannot be copied.
        say.console.print(line, soft_wrap=True)
    if length:
        say.console.print(say.text(length, "dim"))
