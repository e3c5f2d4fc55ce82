"""The bar charts: stage times before and after, predicted against achieved, slowest operators.

Each takes the width it will be shown at (a wide and a narrow drawing are embedded), and
returns an empty string where there is nothing to draw.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from saccade.report import quantities as q
from saccade.report.document import Change, tone
from saccade.report.svg import SMALL, Box, Canvas, fit, nice_ticks, text_width, tick_text

NARROW = 520.0
STAGE_CLASSES = ("decode", "preprocess", "infer", "postprocess", "track", "output")
GAIN_TICKS = (
    1,
    2,
    0.5,
    4,
    1.5,
    3,
    8,
    0.25,
    1.2,
    0.8,
    1.1,
    0.9,
    6,
    16,
    0.1,
    1.05,
    0.95,
    0.7,
    0.6,
    32,
    64,
)
MAX_CHANGES = 30
STAGE_PANELS = (
    ("wall_ms", "Wall time per frame, ms", "ms"),
    ("cpu_ms", "CPU time per frame, core-ms (all cores together)", "core-ms"),
)


@dataclass(frozen=True)
class Scale:
    """Maps values to px; logarithmic where ``log``."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The position of ``value`` in px; values outside are drawn at the edge."""
        at = min(max(value, self.low), self.high)
        low, high = self.low, self.high
        if self.log:
            at, low, high = math.log(at), math.log(low), math.log(high)
        return self.start + (self.end - self.start) * (at - low) / (high - low)


def stage_chart(
    baseline: Sequence[Mapping[str, Any]],
    best: Sequence[Mapping[str, Any]],
    width: float,
    panels: Sequence[tuple[str, str, str]] = STAGE_PANELS,
) -> Markup:
    """Stacked bars of stage time, the baseline above the best system, wall and CPU time.

    Args:
        baseline: stages with ``name``, ``wall_ms``, ``cpu_ms``.
        best: likewise; empty draws the baseline alone.
        width: px.
        panels: what is drawn: key, title and unit of each.
    """
    rows = [(label, list(s)) for label, s in (("Baseline", baseline), ("Best", best)) if s]
    if not rows:
        return Markup("")
    names = list(dict.fromkeys(str(s.get("name")) for _, stages in rows for s in stages))
    canvas = Canvas(width, 0, "Time per frame by stage, before and after")
    top = _stage_legend(canvas, names)
    for key, title, unit in panels:
        if any(q.number(stage.get(key)) for _, stages in rows for stage in stages):
            top = _stage_panel(canvas, rows, names, (key, title, unit), top)
    canvas.height = top
    return canvas.render()


def _stage_legend(canvas: Canvas, names: list[str]) -> float:
    x, y = 0.0, 12.0
    for index, name in enumerate(names):
        label = fit(name, 120)
        need = 16 + text_width(label) + 14
        if x + need > canvas.width and x:
            x, y = 0.0, y + 18
        canvas.rect(Box(x, y - 9, x + 10, y + 1), f"stage {_stage_class(name, index)}", radius=2)
        canvas.text(x + 15, y, label)
        x += need
    return y + 20


def _stage_class(name: str, index: int) -> str:
    known = name if name in STAGE_CLASSES else STAGE_CLASSES[index % len(STAGE_CLASSES)]
    return f"stage-{known}"


def _stage_panel(
    canvas: Canvas,
    rows: list[tuple[str, list[Mapping[str, Any]]]],
    names: list[str],
    panel: tuple[str, str, str],
    top: float,
) -> float:
    key, title, unit = panel
    totals = [sum(q.number(s.get(key)) or 0.0 for s in stages) for _, stages in rows]
    room = max(text_width(f"{q.digits(t)} {unit}", bold=True) for t in totals) + 14
    scale = Scale(0, max(totals), 66.0, canvas.width - room)
    canvas.text(0, top + 10, title, "b")
    y = top + 22
    bottom = y + 34 * len(rows) - 2
    _vertical_grid(canvas, scale, nice_ticks(0, max(totals), 5), y - 3, bottom)
    for (label, stages), total in zip(rows, totals, strict=True):
        canvas.text(58, y + 18, label, "", "end")
        at = 0.0
        for stage in stages:
            value = q.number(stage.get(key)) or 0.0
            name = str(stage.get("name"))
            box = Box(scale(at), y, scale(at + value), y + 26)
            _stage_segment(canvas, box, name, names.index(name), f"{q.digits(value)} {unit}", total)
            at += value
        canvas.text(scale(total) + 8, y + 18, f"{q.digits(total)} {unit}", "b")
        y += 34
    return bottom + 34


def _stage_segment(
    canvas: Canvas, box: Box, name: str, index: int, value: str, total: float
) -> None:
    css = _stage_class(name, index)
    number = value.rpartition(" ")[0]
    canvas.rect(box, f"stage {css}", tip=f"{name}: {value} of {q.digits(total)}")
    room = box.x1 - box.x0 - 8
    label = next((t for t in (f"{name} {number}", number) if text_width(t, SMALL) <= room), "")
    if label:
        canvas.text((box.x0 + box.x1) / 2, box.y0 + 17, label, f"s on-{css}", "middle")


def _vertical_grid(
    canvas: Canvas, scale: Scale, ticks: list[float], top: float, bottom: float, unit: str = ""
) -> None:
    for tick in ticks:
        x = scale(tick)
        canvas.line(x, top, x, bottom + 3, "grid")
        canvas.text(x, bottom + 16, f"{tick_text(tick, ticks)}{unit}", "s", "middle")


def gain_chart(changes: Sequence[Change], width: float) -> Markup:
    """Predicted (hollow) and achieved (filled, with its interval) gain of each change, log scale.

    Args:
        changes: in the order in which they are drawn; those without any gain are left out.
        width: px.
    """
    drawn = [c for c in changes if _positive(c.predicted) or _positive(c.achieved)][:MAX_CHANGES]
    if not drawn:
        return Markup("")
    narrow = width < NARROW
    canvas = Canvas(width, 0, "Predicted against achieved gain of each change")
    top = _gain_legend(canvas)
    label_room = 0.0 if narrow else min(280.0, width * 0.32)
    text_room = 128.0
    low, high = _gain_range(drawn)
    scale = Scale(low, high, label_room + 10, width - text_room, log=True)
    pitch = 40.0 if narrow else 26.0
    bottom = top + pitch * len(drawn)
    ticks = _gain_ticks(scale)
    for tick in ticks:
        canvas.line(scale(tick), top, scale(tick), bottom + 3, "unity" if tick == 1 else "grid")
        canvas.text(scale(tick), bottom + 16, f"{tick:g}×", "s", "middle")
    for index, change in enumerate(drawn):
        _gain_row(canvas, scale, change, top + pitch * index, narrow)
    canvas.height = bottom + 24
    return canvas.render()


def _positive(value: float | None) -> bool:
    return value is not None and value > 0


def _gain_range(changes: Sequence[Change]) -> tuple[float, float]:
    values = [v for c in changes for v in (c.predicted, c.achieved, *(c.interval or ())) if v]
    values = [v for v in values if v > 0] + [1.0]
    low, high = min(values), max(values)
    pad = max((high / low) ** 0.05, 1.04)
    return max(low / pad, 0.02), high * pad


def _gain_ticks(scale: Scale) -> list[float]:
    """Round ratios at least 34 px apart; the most useful ones first, 1 always."""
    taken: list[float] = []
    for tick in GAIN_TICKS:
        within = scale.low <= tick <= scale.high
        if within and all(abs(scale(tick) - scale(other)) >= 34 for other in taken):
            taken.append(float(tick))
    return sorted(taken)


def _gain_legend(canvas: Canvas) -> float:
    canvas.circle(6, 8, 4.5, "predicted")
    canvas.text(16, 12, "predicted")
    canvas.circle(92, 8, 4.5, "gain good")
    canvas.text(102, 12, "kept")
    canvas.circle(150, 8, 4.5, "gain neutral")
    canvas.text(160, 12, "not kept")
    if canvas.width >= NARROW:
        canvas.line(226, 8, 246, 8, "whisker")
        canvas.text(252, 12, "interval of the measured gain")
    return 28.0


def _gain_row(canvas: Canvas, scale: Scale, change: Change, top: float, narrow: bool) -> None:
    y = top + (27 if narrow else 13)
    name = change.name or f"trial {change.trial}"
    room = canvas.width - 130 if narrow else scale.start - 22
    canvas.text(0, top + 13 if narrow else y + 4, fit(name, room), "" if change.kept else "muted")
    css = "good" if change.kept else "neutral"
    tip = (
        f"{name}: predicted {q.ratio(change.predicted)}, achieved {q.ratio(change.achieved)}"
        f" {q.between(change.interval, q.ratio_number)}"
    )
    if _positive(change.predicted) and _positive(change.achieved):
        assert change.predicted is not None and change.achieved is not None
        canvas.line(scale(change.predicted), y, scale(change.achieved), y, "dumbbell")
    if change.interval:
        x0, x1 = scale(max(change.interval[0], scale.low)), scale(change.interval[1])
        canvas.line(x0, y, x1, y, f"whisker {css}")
        for x in (x0, x1):
            canvas.line(x, y - 4, x, y + 4, f"whisker {css}")
    if change.predicted is not None and change.predicted > 0:
        canvas.circle(scale(change.predicted), y, 4.5, "predicted", tip)
    if change.achieved is not None and change.achieved > 0:
        canvas.circle(scale(change.achieved), y, 4.5, f"gain {css}", tip)
    _gain_numbers(canvas, change, y)


def _gain_numbers(canvas: Canvas, change: Change, y: float) -> None:
    right = canvas.width
    canvas.text(right - 68, y + 4, q.ratio(change.predicted), "s", "end")
    canvas.text(right - 62, y + 4, "→", "s")
    if change.achieved is None:
        word = change.verdict if change.verdict == "failed" else q.MISSING
        canvas.text(right, y + 4, word, f"s ink-{tone(word)}", "end")
    else:
        canvas.text(right, y + 4, q.ratio(change.achieved), "b", "end")


def operator_chart(
    operators: Sequence[Mapping[str, Any]], width: float, longest_ms: float, top: int = 10
) -> Markup:
    """The slowest operators; the dark part is what each would take at this machine's peak.

    Args:
        operators: with ``name``, ``kind``, ``wall_ms``, ``share_of_peak`` (0-1), ``bound``.
        width: px.
        longest_ms: the time that fills the chart; the same for charts to be compared.
        top: how many to draw.
    """
    timed = [(q.number(op.get("wall_ms")) or 0.0, op) for op in operators]
    drawn = sorted((pair for pair in timed if pair[0] > 0), key=lambda pair: -pair[0])[:top]
    if not drawn or longest_ms <= 0:
        return Markup("")
    narrow = width < NARROW
    canvas = Canvas(width, 0, "Slowest operators and their share of the machine's peak")
    room = 14.0 if narrow else width * 0.34
    scale = Scale(0, longest_ms, room, width - 172)
    pitch = 38.0 if narrow else 24.0
    bottom = pitch * len(drawn) + 2
    _vertical_grid(canvas, scale, nice_ticks(0, longest_ms, 4), 0, bottom, " ms")
    for index, (wall, operator) in enumerate(drawn):
        _operator_row(canvas, scale, operator, wall, pitch * index, narrow)
    canvas.height = bottom + 24
    return canvas.render()


def _operator_row(
    canvas: Canvas,
    scale: Scale,
    operator: Mapping[str, Any],
    wall: float,
    top: float,
    narrow: bool,
) -> None:
    y = top + (20 if narrow else 5)
    kind, name = str(operator.get("kind") or ""), str(operator.get("name") or "")
    room = (canvas.width if narrow else scale.start) - 10
    kind = fit(kind, room / 2)
    left = text_width(kind, bold=True) + 6
    canvas.text(0, y - 5 if narrow else y + 11, kind, "b")
    canvas.text(left, y - 5 if narrow else y + 11, fit(name, room - left, SMALL), "s")
    share = q.number(operator.get("share_of_peak"))
    bound = str(operator.get("bound") or "")
    tip = f"{kind} {name}: {q.digits(wall)} ms, {q.percent(share)} of peak, {bound}-bound"
    canvas.rect(Box(scale(0), y, scale(wall), y + 15), "operator", tip, 2)
    if share is not None and share > 0:
        canvas.rect(Box(scale(0), y, scale(wall * min(share, 1.0)), y + 15), "at-peak", tip, 2)
    note = f"{q.digits(wall)} ms"
    if share is not None:
        note += f" · {q.percent(share)}"
    if bound:
        note += f" · {bound}"
    canvas.text(scale(wall) + 7, y + 11, fit(note, canvas.width - scale(wall) - 7, SMALL), "s")
