"""`report.html`: one self-contained page that opens offline, from the result of a run.

Everything in the result is untrusted text (class names come out of model files), so the
template escapes all of it, and the page's policy forbids scripts and foreign resources.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from saccade.errors import StorageError
from saccade.report import elsewhere, provenance, sections, systems
from saccade.report import quantities as q
from saccade.report.by_size import size_rows
from saccade.report.charts import MAX_CHANGES, gain_chart, operator_chart, stage_chart
from saccade.report.document import (
    Change,
    Point,
    accuracy_metric,
    changes,
    front_points,
    kept_changes,
    load_run,
    mapping,
    pareto_front,
    records,
    rejected_changes,
    speed_metric,
    texts,
    tone,
)
from saccade.report.dynamic import dynamic_resolution
from saccade.report.front_chart import FrontAxes, front_chart
from saccade.report.repair import Ladder, ladders, sensitivity_chart
from saccade.report.untried import untried_text
from saccade.study import write_whole

REPORT_FILE = "report.html"
# Widths in px the charts are drawn for: the page's text column, and a phone.
WIDE, NARROW = 904.0, 372.0


def write_html(folder: str | Path) -> Path:
    """Write `report.html` into a run folder, from its `result.json`.

    Args:
        folder: the run folder.

    Returns:
        The page's path. A page already there is replaced, whole or not at all.

    Raises:
        InputError: there is no usable result in the folder.
        StorageError: the page cannot be written.
    """
    result = load_run(folder)
    page = _renderer(str(result.get("kind") or ""))(result)
    target = Path(folder) / REPORT_FILE
    try:
        write_whole(target, page)
    except OSError as error:
        raise StorageError(
            f"'{target}' cannot be written: {error.strerror or error}. Free some space or make "
            f"the folder writable, then run: saccade report {folder}"
        ) from error
    return target


def _renderer(kind: str) -> Callable[[Mapping[str, Any]], str]:
    """Who draws the page of a kind of run."""
    if kind != "training":
        return render_html
    from saccade.report.training.page import render_training

    return render_training


def render_html(result: Mapping[str, Any]) -> str:
    """The report as one HTML page.

    Args:
        result: the document of `result.json`; whatever is missing is left out of the page.

    Returns:
        The page, UTF-8 declared, with styles and drawings inside.
    """
    # Lone surrogates (file names that are not UTF-8) cannot be written; show them as "?".
    return render("template.html", _view(result))


def render(template: str, view: Mapping[str, Any]) -> str:
    """A page from one of the package's templates and what it names."""
    page = _templates().get_template(template).render(**view)
    return page.encode("utf-8", "replace").decode("utf-8")


@cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("saccade", "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(_filters())
    style = (files("saccade.report") / "report.css").read_text("utf-8")
    environment.globals["style"] = Markup(style)
    return environment


def _filters() -> dict[str, Callable[..., str]]:
    return {
        "ratio": q.ratio,
        "tied": q.tied,
        "percent": q.percent,
        "duration": q.duration,
        "metric": lambda value, name: q.metric_text(name, value),
        "tone": tone,
        "drop_text": sections.drop_text,
        "gain": sections.gain_text,
        "words": lambda value: str(value).replace("_", " "),
    }


def _view(result: Mapping[str, Any]) -> dict[str, Any]:
    """Everything the template names. Each part is empty where the result has nothing for it."""
    status = str(result.get("status") or "inconclusive")
    best, guard = mapping(result.get("best")), mapping(result.get("guard"))
    rows = sections.metric_rows(result)
    return {
        "name": sections.system_name(result),
        "badge": sections.badge(result),
        "tone": tone(status),
        "headline": sections.headline(result),
        "length": provenance.run_length(result),
        "tiles": sections.tiles(result),
        "goals": sections.goal_rows(result),
        "target": elsewhere.target_name(result),
        "estimates": elsewhere.estimate_rows(result),
        "device": elsewhere.device_name(result),
        "measured": elsewhere.measured_rows(result),
        "tasks": systems.task_rows(result),
        "not_shared": systems.not_shared(result),
        "metrics": rows,
        "has_best": bool(best),
        "has_speedup": bool(sections.speedup_text(result)),
        "has_gaps": any(q.MISSING in (row.before, row.after if best else "") for row in rows),
        "frame_interval": sections.frame_interval_text(result),
        "findings": findings(result),
        "accuracy_name": q.metric_label(accuracy_metric(result) or "accuracy"),
        "drop": sections.best_drop(result),
        "allowed": q.number(guard.get("allowed")),
        "splits": provenance.data_splits(result),
        "classes": _classes(result),
        "sizes": size_rows(result),
        "dynamic": dynamic_resolution(result),
        "repair": _repair(result),
        "ladders": _ladders(result),
        "problems": _problems(result),
        "notes": texts(result.get("notes")),
        "bundle": str(result.get("bundle") or ""),
        "license": str(mapping(result.get("model")).get("license") or ""),
        "model_evidence": texts(
            mapping(mapping(result.get("model")).get("description")).get("evidence")
        ),
        "noise": q.number(mapping(result.get("noise")).get("percent")),
        "environment": provenance.environment_rows(result),
        "roofline": provenance.roofline_rows(result),
        "commands": provenance.commands(result),
        "spec": provenance.spec_text(result),
        "config": provenance.config_text(result),
        **_change_view(result),
        **_front_view(result),
        **_profile_view(result),
    }


def _change_view(result: Mapping[str, Any]) -> dict[str, Any]:
    kept, rejected, everything = kept_changes(result), rejected_changes(result), changes(result)
    kept_numbers = {change.trial for change in kept}
    others = [change for change in rejected if change.trial not in kept_numbers]
    # Settings of a numeric search are measured without a prediction; nothing to compare.
    compared = [*_as_kept(kept), *(change for change in others if change.predicted is not None)]
    return {
        "kept": kept,
        "change_names": texts(mapping(result.get("best")).get("changes")),
        "rejected": rejected,
        "untried": untried_text(result),
        "trials": everything,
        "gain_chart": both(lambda width: gain_chart(compared[:MAX_CHANGES], width)),
        "not_drawn": len(kept) + len(others) - len(compared[:MAX_CHANGES]),
    }


def _as_kept(chain: list[Change]) -> list[Change]:
    return [replace(change, kept=True) for change in chain]


def _front_view(result: Mapping[str, Any]) -> dict[str, Any]:
    points = front_points(result)
    axes = _axes(result, points)
    front = pareto_front(points, axes.faster_is_more)
    return {
        "front_chart": both(lambda width: front_chart(points, axes, width)),
        "front": front if len(points) > 1 else [],
        "speed_metric": axes.speed,
        "accuracy_metric": axes.accuracy,
        "accuracy_interval": lambda p: q.metric_interval(axes.accuracy, [p.low, p.high]),
    }


def _axes(result: Mapping[str, Any], points: list[Point]) -> FrontAxes:
    speed, accuracy = speed_metric(result), accuracy_metric(result)
    speed_goal, accuracy_goal = None, None
    baseline = next((p.accuracy for p in points if p.role == "baseline"), None)
    allowed = q.number(mapping(result.get("guard")).get("allowed"))
    for goal in records(result.get("goals")):
        metric, bound = str(goal.get("metric") or ""), q.number(goal.get("bound"))
        if metric == speed or (metric.startswith("latency_ms") and speed == "latency_ms"):
            speed_goal = bound
        elif metric == accuracy:
            accuracy_goal = bound
        elif metric == f"{accuracy}_drop":
            allowed = bound
    if accuracy_goal is None and baseline is not None and allowed is not None:
        accuracy_goal = baseline - allowed
    return FrontAxes(speed, accuracy, speed_goal, accuracy_goal)


def _profile_view(result: Mapping[str, Any]) -> dict[str, Any]:
    before = records(mapping(result.get("baseline")).get("stages"))
    after = records(mapping(result.get("best")).get("stages"))
    operators = mapping(result.get("operators"))
    listed = {which: records(operators.get(which)) for which in ("baseline", "best")}
    times = [q.number(op.get("wall_ms")) or 0.0 for ops in listed.values() for op in ops]
    longest = max(times, default=0.0)
    return {
        "stage_chart": both(lambda width: stage_chart(before, after, width)),
        "operator_charts": [
            (title, both(partial(operator_chart, listed[which], longest_ms=longest)))
            for which, title in (("baseline", "Baseline"), ("best", "Best"))
            if listed[which]
        ],
    }


def both(draw: Callable[[float], Markup]) -> Markup:
    """The drawing for wide pages and for phones; the style sheet shows one of them."""
    wide = draw(WIDE)
    if not wide:
        return Markup("")
    both = '<div class="chart wide">{}</div><div class="chart narrow">{}</div>'
    return Markup(both).format(wide, draw(NARROW))


def findings(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The findings as the templates show them."""
    return [
        {
            "name": str(found.get("name") or "").replace("_", " "),
            "title": str(found.get("title") or ""),
            "share": q.number(found.get("share")),
            "sequential": q.number(found.get("max_gain_sequential")),
            "pipelined": q.number(found.get("max_gain_pipelined")),
            "hints": [hint.replace("_", " ") for hint in texts(found.get("hints"))],
            "evidence": [q.evidence(str(k), v) for k, v in mapping(found.get("evidence")).items()],
        }
        for found in records(result.get("findings"))
    ]


def _classes(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Per class, flagged ones first, then by the most they may have lost."""
    rows = records(mapping(result.get("best")).get("per_class"))
    rows = sorted(
        rows, key=lambda row: (not row.get("flag"), -(q.number(row.get("drop_high")) or 0))
    )
    return [
        {
            "name": str(row.get("class", "")),
            "instances": q.number(row.get("instances")),
            "before": q.metric_text("map50_95", row.get("baseline")),
            "after": q.metric_text("map50_95", row.get("best")),
            "drop": q.between(
                [row.get("drop_low"), row.get("drop_high")], lambda value: q.fixed(value, 3)
            ),
            "flag": str(row.get("flag") or ""),
        }
        for row in rows
    ]


def _repair(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "step": str(row.get("step") or ""),
            "result": str(row.get("result") or ""),
            "drop": q.metric_text("map50_95_drop", row.get("drop")),
        }
        for row in records(result.get("repair"))
    ]


def _ladders(result: Mapping[str, Any]) -> list[tuple[Ladder, Markup]]:
    """Each ladder of the search with the drawing of its layers' sensitivity."""
    return [
        (found, both(partial(sensitivity_chart, found.layers, found.kept_float)))
        for found in ladders(result)
    ]


def _problems(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "kind": str(row.get("kind") or "").replace("_", " "),
            "count": "" if row.get("count") is None else str(row["count"]),
            "action": str(row.get("action") or ""),
            "examples": texts(row.get("examples")),
        }
        for row in records(result.get("data_problems"))
    ]
