"""Loss curves laid over each other, busy shares over time, and how changes interact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from saccade.report import quantities as q
from saccade.report.charts import NARROW, Scale
from saccade.report.svg import Box, Canvas, nice_ticks, tick_text

SIDES = (("baseline", "Baseline"), ("best", "Best"))


def loss_chart(
    baseline: Sequence[Mapping[str, Any]], best: Sequence[Mapping[str, Any]], width: float
) -> Markup:
    """The loss of every step and seed, both systems in one plot.

    Args:
        baseline: curves with ``seed`` and ``losses``.
        best: likewise; empty draws the baseline alone.
        width: px.
    """
    sides = [
        (css, name, _losses(curves))
        for (css, name), curves in zip(SIDES, (baseline, best), strict=True)
    ]
    drawn = [curve for _, _, curves in sides for curve in curves]
    if not drawn:
        return Markup("")
    height = 240.0 if width < NARROW else 300.0
    canvas = Canvas(width, height, "Loss of every step, baseline and best")
    plot = Box(48, 30, width - 10, height - 40)
    values = [value for curve in drawn for value in curve]
    pad = 0.05 * (max(values) - min(values)) or 0.05
    x = Scale(0, max(1, max(len(c) for c in drawn) - 1), plot.x0, plot.x1)
    y = Scale(min(values) - pad, max(values) + pad, plot.y1, plot.y0)
    _axes(canvas, plot, x, y, "optimizer step")
    for css, name, curves in sides:
        for curve in curves:
            _line(canvas, curve, x, y, css, name)
    _legend(canvas, [(css, name) for css, name, curves in sides if curves])
    return canvas.render()


def busy_chart(
    baseline: Sequence[Mapping[str, Any]], best: Sequence[Mapping[str, Any]], width: float
) -> Markup:
    """How busy cores and GPU were over the time of the watched steps, both systems in one plot.

    Args:
        baseline: moments with ``t_s``, ``cpu`` and, where there is one, ``gpu``; shares 0-1.
        best: likewise; empty draws the baseline alone.
        width: px.
    """
    lines = [
        (f"{css}{dashes}", f"{name}, {device}", points)
        for (css, name), moments in zip(SIDES, (baseline, best), strict=True)
        for key, device, dashes in (("cpu", "CPU", ""), ("gpu", "GPU", " dashed"))
        if len(points := _moments(moments, key)) > 1
    ]
    if not lines:
        return Markup("")
    height = 200.0 if width < NARROW else 240.0
    canvas = Canvas(width, height, "Share of the time that CPU and GPU were busy")
    plot = Box(48, 30 if len(lines) < 3 or width >= NARROW else 50, width - 10, height - 40)
    x = Scale(0, max(points[-1][0] for _, _, points in lines), plot.x0, plot.x1)
    y = Scale(0, 100, plot.y1, plot.y0)
    _axes(canvas, plot, x, y, "seconds")
    for css, name, points in lines:
        places = " ".join(f"{x(t):.1f},{y(share):.1f}" for t, share in points)
        mean = sum(share for _, share in points) / len(points)
        tip = f"{name}: {mean:.0f} % on average"
        canvas.add("polyline", points=places, class_=f"loss loss-{css}", tip=tip)
    _legend(canvas, [(css, name) for css, name, _ in lines])
    return canvas.render()


def _moments(moments: Sequence[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    """Seconds and percent of the moments at which a share is known."""
    known = [(q.number(moment.get("t_s")), q.number(moment.get(key))) for moment in moments]
    return [
        (t, min(100.0, 100 * share)) for t, share in known if t is not None and share is not None
    ]


def _losses(curves: Sequence[Mapping[str, Any]]) -> list[list[float]]:
    found = []
    for curve in curves:
        values = [q.number(value) for value in curve.get("losses") or ()]
        if values and all(value is not None for value in values):
            found.append([value for value in values if value is not None])
    return found


def _axes(canvas: Canvas, plot: Box, x: Scale, y: Scale, unit: str) -> None:
    rows = nice_ticks(y.low, y.high, 5)
    for tick in rows:
        canvas.line(plot.x0, y(tick), plot.x1, y(tick), "grid")
        canvas.text(plot.x0 - 6, y(tick) + 4, tick_text(tick, rows), "s", "end")
    columns = [tick for tick in nice_ticks(0, x.high, 8) if tick == round(tick)]
    for tick in columns:
        canvas.text(x(tick), plot.y1 + 15, tick_text(tick, columns), "s", "middle")
    canvas.line(plot.x0, plot.y1, plot.x1, plot.y1, "axis")
    canvas.text(plot.x1, plot.y1 + 32, unit, "b", "end")


def _line(canvas: Canvas, curve: Sequence[float], x: Scale, y: Scale, css: str, name: str) -> None:
    points = " ".join(f"{x(i):.1f},{y(value):.1f}" for i, value in enumerate(curve))
    canvas.add(
        "polyline", points=points, class_=f"loss loss-{css}", tip=f"{name}: last {curve[-1]:.4g}"
    )


def _legend(canvas: Canvas, sides: Sequence[tuple[str, str]]) -> None:
    at, row = 0.0, 0.0
    for css, name in sides:
        if at and at + 110 > canvas.width:
            at, row = 0.0, row + 18
        canvas.line(at, row + 10, at + 18, row + 10, f"loss loss-{css}")
        canvas.text(at + 24, row + 14, name)
        at += 110


def interaction_chart(rows: Sequence[Mapping[str, Any]], width: float, most: int = 8) -> Markup:
    """For each pair: each alone, what their product would be, and both together.

    Args:
        rows: with ``first``, ``second``, ``gain_first``, ``gain_second``, ``gain_both``.
        width: px.
        most: how many pairs.
    """
    drawn = [row for row in rows if q.number(row.get("gain_both"))][:most]
    if not drawn:
        return Markup("")
    narrow = width < NARROW
    pitch = 46.0 if narrow else 34.0
    room = 8.0 if narrow else min(300.0, 0.36 * width)
    canvas = Canvas(width, pitch * len(drawn) + 56, "What pairs of changes gain together")
    gains = [float(row[k]) for row in drawn for k in ("gain_first", "gain_second", "gain_both")]
    gains += [float(row["gain_first"]) * float(row["gain_second"]) for row in drawn] + [1.0]
    scale = Scale(0.95 * min(gains), 1.05 * max(gains), room + 10, width - 70, log=True)
    _interaction_legend(canvas)
    bottom = 28 + pitch * len(drawn)
    for tick in [t for t in (0.25, 0.5, 1, 2, 4, 8, 16, 32) if scale.low <= t <= scale.high]:
        canvas.line(scale(tick), 28, scale(tick), bottom, "unity" if tick == 1 else "grid")
        canvas.text(scale(tick), bottom + 16, f"{tick:g}×", "s", "middle")
    for index, row in enumerate(drawn):
        _interaction_row(canvas, scale, row, 28 + pitch * index, narrow)
    return canvas.render()


def _interaction_legend(canvas: Canvas) -> None:
    canvas.circle(6, 8, 4, "gain neutral")
    canvas.text(16, 12, "each alone")
    canvas.circle(98, 8, 4.5, "predicted")
    canvas.text(108, 12, "their product")
    canvas.circle(206, 8, 5, "gain good")
    canvas.text(216, 12, "together")


def _interaction_row(
    canvas: Canvas, scale: Scale, row: Mapping[str, Any], top: float, narrow: bool
) -> None:
    first, second = str(row.get("first")), str(row.get("second"))
    a, b, both = (float(row[key]) for key in ("gain_first", "gain_second", "gain_both"))
    y = top + (30 if narrow else 17)
    canvas.text(0, top + 14 if narrow else y + 4, f"{first} + {second}")
    canvas.line(scale(a * b), y, scale(both), y, "dumbbell")
    for gain, name in ((a, first), (b, second)):
        canvas.circle(scale(gain), y, 4, "gain neutral", f"{name} alone: {q.ratio(gain)}")
    canvas.circle(scale(a * b), y, 4.5, "predicted", f"product: {q.ratio(a * b)}")
    canvas.circle(scale(both), y, 5, "gain good", f"together: {q.ratio(both)}")
    canvas.text(canvas.width, y + 4, q.ratio(both), "b", "end")
