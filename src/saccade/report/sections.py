"""What each section of a report says, as plain strings, for the page and the console. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from saccade.report import quantities as q
from saccade.report.document import (
    Drop,
    accuracy_metric,
    mapping,
    metrics,
    read_drop,
    records,
    speed_metric,
    tone,
)
from saccade.report.untried import out_of_time

BADGES = {"met": "Goals met", "not_met": "Goals not met", "inconclusive": "Inconclusive"}
MARKS = {"met": "✓", "not_met": "✗", "inconclusive": "?"}
WORDS = {"met": "met", "not_met": "not met", "inconclusive": "inconclusive"}
OPERATORS = {">=": "≥", "<=": "≤", ">": ">", "<": "<", "==": "="}
METRIC_ORDER = (
    "throughput_fps",
    "latency_ms.mean",
    "latency_ms.p50",
    "latency_ms.p95",
    "latency_ms.p99",
    "core_ms_per_frame",
    "busy_share",
    "peak_rss_mb",
    "model_mb",
    "map50_95",
    "map50",
    "mask_map50_95",
    "mask_map50",
    "agreement",
)


@dataclass(frozen=True)
class Tile:
    """One number of the headline: what, now, before, and the change between them."""

    label: str
    value: str
    before: str
    change: str
    tone: str = "neutral"


@dataclass(frozen=True)
class GoalRow:
    """One goal and what became of it."""

    name: str
    value: str
    interval: str
    status: str
    mark: str
    word: str
    tone: str
    note: str


@dataclass(frozen=True)
class MetricRow:
    """One metric before and after."""

    label: str
    before: str
    after: str
    change: str


def badge(result: Mapping[str, Any]) -> str:
    """The outcome in two words."""
    return BADGES.get(str(result.get("status")), "No verdict")


def system_name(result: Mapping[str, Any]) -> str:
    """The model's file name, as far as the document tells; those of both where there are two."""
    model = mapping(mapping(result.get("spec")).get("model")).get("path") or mapping(
        result.get("spec")
    ).get("model")
    second = mapping(mapping(result.get("spec")).get("also")).get("model")
    names = [model or mapping(result.get("model")).get("name") or "", second or ""]
    return " + ".join(str(n).replace("\\", "/").rpartition("/")[2] for n in names if n)


def goal_text(goal: Mapping[str, Any]) -> str:
    """A goal for a person: ``Throughput ≥ 60 FPS``."""
    metric, op = str(goal.get("metric") or ""), str(goal.get("op") or "")
    if not metric or q.number(goal.get("bound")) is None:
        return str(goal.get("name") or q.MISSING)
    return f"{q.metric_label(metric)} {OPERATORS.get(op, op)} {q.bound_text(metric, goal['bound'])}"


def _goal_phrase(goal: Mapping[str, Any]) -> str:
    label = q.metric_label(str(goal.get("metric") or ""))
    text = goal_text(goal)
    if label and text.startswith(label):
        return q.metric_phrase(str(goal["metric"])) + text.removeprefix(label)
    return text


def headline(result: Mapping[str, Any]) -> str:
    """One sentence: what was asked, what was reached, the speedup, and what accuracy it cost."""
    goals = [_goal_phrase(g) for g in records(result.get("goals")) if not g.get("default")]
    asked = f"Asked for {_joined(goals)}" if goals else "Asked for the fastest system"
    if not mapping(result.get("best")):
        return f"{asked}: {_nothing_better(result)}."
    if _unchanged(result):
        why = out_of_time(result) or "no change was kept"
        return f"{asked}: {why}; the baseline runs at {_baseline_speed(result)}."
    return f"{asked}: reached {_reached(result)}, {accuracy_clause(result)}."


def accuracy_clause(result: Mapping[str, Any]) -> str:
    """What the best system's accuracy costs, as a clause; it names the bound, not the estimate."""
    drop = best_drop(result)
    name = q.metric_phrase(accuracy_metric(result) or "accuracy")
    if drop is None:
        return "with its accuracy not judged"
    if drop.upper is None:
        return f"with {name} lower by an estimated {_short(drop.estimate)} (no bound)"
    level = f" ({q.percent(drop.level, 1)} one-sided)" if drop.level else ""
    return f"with the loss of {name} bounded by {_short(drop.upper)}{level}"


def best_drop(result: Mapping[str, Any]) -> Drop | None:
    """The drop of the best system, as validated at the end."""
    return read_drop(mapping(result.get("best")).get("drop"))


def drop_text(drop: Drop | None) -> str:
    """A drop with its interval: ``0.0010 (−0.0040 to 0.0060)``."""
    if drop is None:
        return q.MISSING
    estimate = _drop(drop.estimate)
    if drop.lower is not None and drop.upper is not None:
        return f"{estimate} ({q.between([drop.lower, drop.upper], _drop)})"
    return estimate if drop.upper is None else f"{estimate} (at most {_drop(drop.upper)})"


def speedup_text(result: Mapping[str, Any]) -> str:
    """The measured speedup with its interval, empty where there is none."""
    found = mapping(mapping(result.get("best")).get("speedup"))
    return gain_text(found.get("value"), found.get("interval")) if found else ""


def gain_text(value: Any, pair: Any = None) -> str:
    """A gain with its interval: ``1.18× (1.15–1.21)``."""
    spread = q.between(pair, q.ratio_number)
    return f"{q.ratio(value)} ({spread})" if spread else q.ratio(value)


def goal_rows(result: Mapping[str, Any]) -> list[GoalRow]:
    """The goals with value, interval and verdict."""
    rows = []
    for goal in records(result.get("goals")):
        metric, status = str(goal.get("metric") or ""), str(goal.get("status") or "inconclusive")
        rows.append(
            GoalRow(
                name=goal_text(goal),
                value=q.beside_bound(metric, goal.get("value"), goal.get("bound")),
                interval=q.metric_interval(metric, goal.get("interval")),
                status=status,
                mark=MARKS.get(status, "?"),
                word=WORDS.get(status, status),
                tone=tone(status),
                note=str(goal.get("note") or ""),
            )
        )
    return rows


def tiles(result: Mapping[str, Any]) -> list[Tile]:
    """Speed, latency, cost and accuracy of the best system beside the baseline's."""
    before, after = metrics(result, "baseline"), metrics(result, "best")
    asked = [str(goal.get("metric") or "") for goal in records(result.get("goals"))]
    asked.append(str(result.get("objective") or ""))
    latencies = [m for m in asked if m.startswith("latency_ms")] + [
        "latency_ms.p99",
        "latency_ms.p95",
        "latency_ms.p50",
    ]
    measured = [m for m in latencies if q.number((after or before).get(m)) is not None]
    names = ["throughput_fps", *measured[:1], "core_ms_per_frame", accuracy_metric(result)]
    return [tile(name, result) for name in names if _known(name, before, after)]


def metric_rows(result: Mapping[str, Any]) -> list[MetricRow]:
    """All metrics before and after, in a fixed order."""
    before, after = metrics(result, "baseline"), metrics(result, "best")
    present = [*before, *(name for name in after if name not in before)]
    ordered = [m for m in METRIC_ORDER if m in present]
    ordered += [m for m in present if m not in METRIC_ORDER]
    return [
        MetricRow(q.metric_label(m), _metric(m, before), _metric(m, after), _change(m, result))
        for m in ordered
        if _known(m, before, after) and not m.endswith("_drop")
    ]


def frame_interval_text(result: Mapping[str, Any]) -> str:
    """How far apart results came out, measured end to end, before and after."""
    found = [
        q.number(metrics(result, which).get("throughput_fps")) for which in ("baseline", "best")
    ]
    shown = [f"{q.digits(1e3 / fps)} ms" for fps in found if fps]
    if not shown:
        return ""
    after = f" before and every {shown[1]} after" if len(shown) > 1 else ""
    return f"Measured end to end, a result came out every {shown[0]}{after}."


def _joined(goals: list[str]) -> str:
    return goals[0] if len(goals) == 1 else f"{', '.join(goals[:-1])} and {goals[-1]}"


def _unchanged(result: Mapping[str, Any]) -> bool:
    """Whether the best system is the baseline."""
    speedup = mapping(mapping(result.get("best")).get("speedup"))
    return mapping(result.get("best")).get("trial") == 0 and q.number(speedup.get("value")) == 1


def _nothing_better(result: Mapping[str, Any]) -> str:
    target = mapping(result.get("estimates")).get("target")
    if target and not result.get("measured"):
        return f"no speed on {target} was measured, what is said of it are estimates"
    at = f"; the baseline runs at {_baseline_speed(result)}" if _baseline_speed(result) else ""
    return f"no faster system has passed validation{at}"


def _baseline_speed(result: Mapping[str, Any]) -> str:
    base = q.number(metrics(result, "baseline").get("throughput_fps"))
    return q.metric_text("throughput_fps", base) if base else ""


def _reached(result: Mapping[str, Any]) -> str:
    objective = str(result.get("objective") or "throughput_fps")
    before, after = metrics(result, "baseline"), metrics(result, "best")
    if q.number(after.get(objective)) is None:
        objective = f"{speed_metric(result)}.p50" if "latency" in objective else "throughput_fps"
    value = q.metric_text(objective, after.get(objective))
    found = mapping(mapping(result.get("best")).get("speedup"))
    base = q.metric_text(objective, before.get(objective))
    if q.number(found.get("value")) is None:
        return f"{value} from {base}"
    spread = q.between(found.get("interval"), q.ratio_number)
    within = f" (interval {spread})" if spread else ""
    times = "faster than" if objective.startswith("latency_ms") else ""
    comparison = " ".join(filter(None, (q.ratio(found["value"]), times, "the baseline's", base)))
    return f"{value}, {comparison}{within}"


def _known(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    return bool(name) and any(q.number(m.get(name)) is not None for m in (before, after))


def _metric(name: str, found: Mapping[str, Any]) -> str:
    return q.metric_text(name, found.get(name))


def tile(name: str, result: Mapping[str, Any]) -> Tile:
    """One number of the headline."""
    before, after = metrics(result, "baseline"), metrics(result, "best")
    value = _metric(name, after) if after else _metric(name, before)
    was = f"from {_metric(name, before)}" if after else "baseline"
    change, better = _difference(name, before.get(name), after.get(name))
    gain = mapping(mapping(result.get("best")).get("speedup")).get("value")
    if _is_objective(name, result) and q.number(gain) is not None:
        change = q.ratio(gain)
    colour = "neutral" if better is None else "good" if better else "bad"
    return Tile(q.metric_label(name), value, was, change, colour)


def _change(name: str, result: Mapping[str, Any]) -> str:
    """The change of a metric; for the objective, the interleaved comparison and its interval."""
    if _is_objective(name, result) and speedup_text(result):
        return speedup_text(result)
    before, after = metrics(result, "baseline"), metrics(result, "best")
    return _difference(name, before.get(name), after.get(name))[0]


def _is_objective(name: str, result: Mapping[str, Any]) -> bool:
    return name == (result.get("objective") or "throughput_fps")


def _difference(name: str, before: Any, after: Any) -> tuple[str, bool | None]:
    """How ``after`` stands to ``before``, and whether that is better (None: no matter)."""
    old, new = q.number(before), q.number(after)
    if old is None or new is None or old == 0:
        return "", None
    if name in q.ACCURACY:
        # Three decimals are what the metric itself is shown with; a difference is not finer.
        difference = new - old
        sign = "+" if round(difference, 3) > 0 else ""
        return f"{sign}{q.fixed(difference, 3)}", None
    if name == "throughput_fps":
        return q.ratio(new / old), new >= old
    if name.endswith("_share"):
        points = 100 * (new - old)
        return f"{'+' if points > 0 else ''}{q.fixed(points, 0)} points", None
    relative = 100 * (new / old - 1)
    sign = "+" if round(relative) > 0 else ""
    better = (relative > 0) == q.higher_is_better(name) if round(relative) else None
    return f"{sign}{q.fixed(relative, 0)} %", better


def _drop(value: float | None) -> str:
    return q.MISSING if value is None else q.metric_number("map50_95_drop", value)


def _short(value: float | None) -> str:
    """A drop in a sentence: a last zero says nothing there."""
    text = _drop(value)
    return text[:-1] if "." in text and text.endswith("0") else text
