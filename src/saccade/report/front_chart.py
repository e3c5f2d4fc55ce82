"""The speed–accuracy front: every system measured, the front, the goals, and labels kept apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from saccade.report import quantities as q
from saccade.report.charts import NARROW, Scale
from saccade.report.document import Point, pareto_front
from saccade.report.svg import SMALL, Box, Canvas, fit, nice_ticks, text_width, tick_text

RADIUS = {"baseline": 6.0, "best": 7.0, "front": 5.0, "tried": 3.5}
NAMES = {"baseline": "Baseline", "best": "Best"}
PRIORITY = ("best", "baseline", "front")


@dataclass(frozen=True)
class FrontAxes:
    """What the axes mean, and the goals drawn on them.

    Attributes:
        speed: ``throughput_fps`` or ``latency_ms``.
        accuracy: metric name.
        speed_goal: bound on the speed, None for none.
        accuracy_goal: lowest accuracy allowed, None for none.
    """

    speed: str
    accuracy: str
    speed_goal: float | None = None
    accuracy_goal: float | None = None

    @property
    def faster_is_more(self) -> bool:
        """Whether faster lies to the right."""
        return self.speed == "throughput_fps"


def front_chart(points: Sequence[Point], axes: FrontAxes, width: float) -> Markup:
    """Scatter of speed and accuracy with intervals; empty below two points.

    Args:
        points: one per system measured.
        axes: metrics and goals.
        width: px.
    """
    if len(points) < 2:
        return Markup("")
    height = 340.0 if width < NARROW else 400.0
    canvas = Canvas(width, height, "Speed against accuracy of every system measured")
    plot = Box(48, 26, width - 10, height - 42)
    x, y = _scales(points, axes, plot)
    _axes(canvas, plot, x, y, axes)
    front = pareto_front(list(points), axes.faster_is_more)
    _front_line(canvas, front, x, y, axes)
    drawn = sorted(points, key=lambda p: RADIUS[p.role])
    for point in drawn:
        _point(canvas, point, x, y, axes)
    dots = [_box_of(point, x, y) for point in points if point.role == "tried"]
    taken = [_box_of(point, x, y) for point in points if point.role != "tried"]
    whiskers = _whisker_boxes(points, x, y)
    taken += _goals(canvas, plot, (x, y), axes, taken + dots + whiskers)
    lines = whiskers + _line_boxes(front, plot, (x, y), axes)
    _labels(canvas, points, plot, (x, y), (taken, dots, lines))
    return canvas.render()


def _scales(points: Sequence[Point], axes: FrontAxes, plot: Box) -> tuple[Scale, Scale]:
    speeds = [p.speed for p in points] + _given(axes.speed_goal)
    levels = [v for p in points for v in (p.accuracy, p.low, p.high) if v is not None]
    levels += _given(axes.accuracy_goal)
    x_pad = 0.08 * (max(speeds) - min(speeds)) or 0.1 * max(speeds) or 1.0
    y_pad = 0.10 * (max(levels) - min(levels)) or 0.01
    return (
        Scale(max(min(speeds) - x_pad, 0.0), max(speeds) + x_pad, plot.x0, plot.x1),
        Scale(min(levels) - y_pad, max(levels) + y_pad, plot.y1, plot.y0),
    )


def _given(value: float | None) -> list[float]:
    return [] if value is None else [value]


def _axes(canvas: Canvas, plot: Box, x: Scale, y: Scale, axes: FrontAxes) -> None:
    columns = nice_ticks(x.low, x.high, max(3, int((plot.x1 - plot.x0) / 90)))
    for tick in columns:
        canvas.line(x(tick), plot.y0, x(tick), plot.y1, "grid")
        canvas.text(x(tick), plot.y1 + 15, tick_text(tick, columns), "s", "middle")
    rows = nice_ticks(y.low, y.high, 6)
    for tick in rows:
        canvas.line(plot.x0, y(tick), plot.x1, y(tick), "grid")
        canvas.text(plot.x0 - 6, y(tick) + 4, tick_text(tick, rows), "s", "end")
    canvas.line(plot.x0, plot.y1, plot.x1, plot.y1, "axis")
    unit, direction = ("FPS", "right is") if axes.faster_is_more else ("ms", "left is")
    speed = q.metric_label(axes.speed)
    canvas.text(plot.x1, plot.y1 + 34, f"{speed}, {unit} ({direction} faster)", "b", "end")
    canvas.text(0, 12, f"{q.metric_label(axes.accuracy)} (up is better)", "b")


def _goals(
    canvas: Canvas, plot: Box, scales: tuple[Scale, Scale], axes: FrontAxes, points: list[Box]
) -> list[Box]:
    """Draw the goal lines; each label goes where the line has no point near it."""
    x, y = scales
    taken = []
    if axes.speed_goal is not None:
        at = x(axes.speed_goal)
        canvas.line(at, plot.y0, at, plot.y1, "goal")
        text = f"goal {'≥' if axes.faster_is_more else '≤'} {axes.speed_goal:g}"
        wide = text_width(text, SMALL)
        lefts, tops = [at + 5, at - 5 - wide], (plot.y1 - 19, plot.y0 + 2)
        taken.append(_goal_label(canvas, text, (lefts, tops), plot, points))
    if axes.accuracy_goal is not None:
        at = y(axes.accuracy_goal)
        canvas.line(plot.x0, at, plot.x1, at, "goal")
        text = f"goal ≥ {q.fixed(axes.accuracy_goal, 3)}"
        steps = (0.0, 1.0, 0.25, 0.5, 0.75)
        room = plot.x1 - plot.x0 - 10 - text_width(text, SMALL)
        lefts, tops = [plot.x0 + 5 + room * step for step in steps], (at + 2, at - 18)
        taken.append(_goal_label(canvas, text, (lefts, tops), plot, points))
    return taken


def _goal_label(
    canvas: Canvas,
    text: str,
    places: tuple[Sequence[float], Sequence[float]],
    plot: Box,
    points: list[Box],
) -> Box:
    wide = text_width(text, SMALL)
    boxes = [Box(x, y, x + wide, y + 16) for y in places[1] for x in places[0]]
    free = [b for b in boxes if b.inside(plot) and not any(b.overlaps(p) for p in points)]
    box = (free or boxes)[0]
    canvas.text(box.x0, box.y1 - 4, text, "s ink-goal halo")
    return box


def _front_line(
    canvas: Canvas, front: Sequence[Point], x: Scale, y: Scale, axes: FrontAxes
) -> None:
    if len(front) < 2:
        return
    steps = [f"M{x(front[0].speed):.1f} {y(front[0].accuracy):.1f}"]
    for point in front[1:]:
        # Between two systems only the slower one's accuracy beyond its own speed can be had.
        across, along = f"H{x(point.speed):.1f}", f"V{y(point.accuracy):.1f}"
        steps += [along, across] if axes.faster_is_more else [across, along]
    canvas.add("path", d="".join(steps), class_="front-line")


def _point(canvas: Canvas, point: Point, x: Scale, y: Scale, axes: FrontAxes) -> None:
    at, level = x(point.speed), y(point.accuracy)
    css = f"point {point.role}" + ("" if point.kept else " hollow")
    if point.low is not None and point.high is not None and point.role != "tried":
        canvas.line(at, y(point.low), at, y(point.high), f"whisker point-{point.role}")
    tip = (
        f"{NAMES.get(point.role, '')} {_full_label(point)}: "
        f"{q.digits(point.speed)} {q.metric_unit(axes.speed)}, "
        f"{q.metric_label(axes.accuracy)} {q.fixed(point.accuracy, 3)} "
        f"{q.between([point.low, point.high], lambda v: q.fixed(v, 3))}"
    )
    radius = RADIUS[point.role]
    if point.role == "best":
        corners = ((0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0))
        path = " ".join(f"{at + radius * dx:.1f},{level + radius * dy:.1f}" for dx, dy in corners)
        canvas.add("polygon", points=path, class_=css, tip=tip.strip())
    elif point.role == "baseline":
        box = Box(at - radius, level - radius, at + radius, level + radius)
        canvas.rect(box, css, tip.strip())
    else:
        canvas.circle(at, level, radius, css, tip.strip())


def _full_label(point: Point) -> str:
    number = "" if point.trial in (None, 0) else f"#{point.trial}"
    return " ".join(filter(None, (number, point.label)))


def _box_of(point: Point, x: Scale, y: Scale) -> Box:
    radius = RADIUS[point.role] + 1
    at, level = x(point.speed), y(point.accuracy)
    return Box(at - radius, level - radius, at + radius, level + radius)


def _whisker_boxes(points: Sequence[Point], x: Scale, y: Scale) -> list[Box]:
    return [
        Box(x(p.speed) - 2, y(p.high), x(p.speed) + 2, y(p.low))
        for p in points
        if p.low is not None and p.high is not None and p.role != "tried"
    ]


def _line_boxes(
    front: Sequence[Point],
    plot: Box,
    scales: tuple[Scale, Scale],
    axes: FrontAxes,
) -> list[Box]:
    """Goal lines and front line as thin boxes, which labels should rather not cross."""
    x, y = scales
    boxes = []
    if axes.speed_goal is not None:
        boxes.append(Box(x(axes.speed_goal) - 2, plot.y0, x(axes.speed_goal) + 2, plot.y1))
    if axes.accuracy_goal is not None:
        boxes.append(Box(plot.x0, y(axes.accuracy_goal) - 2, plot.x1, y(axes.accuracy_goal) + 2))
    for a, b in pairwise(front):
        high, low = y(max(a.accuracy, b.accuracy)), y(min(a.accuracy, b.accuracy))
        level = low if axes.faster_is_more else y(a.accuracy)
        corner = x(a.speed) if axes.faster_is_more else x(b.speed)
        boxes.append(Box(x(a.speed), level - 2, x(b.speed), level + 2))
        boxes.append(Box(corner - 2, high, corner + 2, low))
    return boxes


def _labels(
    canvas: Canvas,
    points: Sequence[Point],
    plot: Box,
    scales: tuple[Scale, Scale],
    obstacles: tuple[list[Box], list[Box], list[Box]],
) -> None:
    """Write labels where they hide nothing; a point without room gets its number, or none.

    ``obstacles`` are what a label must not cover (points, other labels), what it should rather
    not cover (dots) and what it may cross at need (lines). The tooltips name every point.
    """
    x, y = scales
    taken, dots, lines = obstacles
    longest = 0.34 * (plot.x1 - plot.x0)
    for point in (p for role in PRIORITY for p in points if p.role == role):
        named = point.role in NAMES
        short = NAMES.get(point.role, f"#{point.trial}")
        full = short if named else fit(_full_label(point), longest, SMALL)
        at = (x(point.speed), y(point.accuracy))
        strict = (taken + dots + lines, taken + dots)
        tries = [(text, clear) for clear in strict for text in (full, short)] + [(short, taken)]
        tries += [(short, [])] if named else []  # better over a neighbour than without a name
        for text, clear in tries:
            wide = text_width(text, bold=True) if named else text_width(text, SMALL)
            placed = _place(wide + 4, at, plot, clear)
            if placed is not None:
                css = "b halo" if named else "s halo"
                canvas.text(placed.x0, placed.y1 - 4, text, css)
                taken.append(placed)
                break


def _place(wide: float, at: tuple[float, float], plot: Box, taken: list[Box]) -> Box | None:
    x, y = at
    corners = (
        (x + 11, y - 8),
        (x - 11 - wide, y - 8),
        (x + 7, y - 22),
        (x + 7, y + 7),
        (x - 7 - wide, y - 22),
        (x - 7 - wide, y + 7),
        (x - wide / 2, y - 27),
        (x - wide / 2, y + 12),
    )
    for left, top in corners:
        box = Box(left, top, left + wide, top + 16)
        if box.inside(plot) and not any(box.overlaps(other) for other in taken):
            return box
    return None
