"""`report.html` of a training, from its `result.json`. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from saccade.report import html, provenance, sections
from saccade.report import quantities as q
from saccade.report.charts import gain_chart, operator_chart, stage_chart
from saccade.report.document import Change, mapping, metrics, records, texts, tone
from saccade.report.training.charts import busy_chart, interaction_chart, loss_chart
from saccade.report.untried import out_of_time, untried_text

PARTS_PANEL = (("wall_ms", "Step time by part, ms", "ms"),)
TILES = ("samples_per_s", "epoch_s", "data_wait_share", "device_busy_share", "peak_rss_mb")


def render_training(result: Mapping[str, Any]) -> str:
    """The page; whatever the result is missing is left out of it."""
    return html.render("training.html", _view(result))


def _view(result: Mapping[str, Any]) -> dict[str, Any]:
    baseline, best = mapping(result.get("baseline")), mapping(result.get("best"))
    status = str(result.get("status") or "inconclusive")
    return {
        "name": job_name(result),
        "badge": sections.badge(result),
        "tone": tone(status),
        "headline": training_headline(result),
        "length": provenance.run_length(result),
        "tiles": [sections.tile(name, result) for name in TILES if _known(name, result)],
        "goals": sections.goal_rows(result),
        "metrics": sections.metric_rows(result),
        "has_best": bool(best),
        "parts_chart": html.both(
            lambda width: stage_chart(
                records(baseline.get("parts")), records(best.get("parts")), width, PARTS_PANEL
            )
        ),
        "busy": busy_text(result),
        "busy_chart": html.both(
            partial(busy_chart, records(baseline.get("busy")), records(best.get("busy")))
        ),
        "loss_chart": html.both(
            partial(loss_chart, records(baseline.get("curves")), records(best.get("curves")))
        ),
        "drift": drift_text(result),
        "findings": html.findings(result),
        "kept": kept_rows(result),
        "gain_chart": html.both(partial(gain_chart, _as_changes(result))),
        "interactions": interaction_rows(result),
        "interaction_chart": html.both(
            partial(interaction_chart, records(result.get("interactions")))
        ),
        "front": front_rows(result),
        "taken_back": [t for t in texts(best.get("changes")) if t.startswith("reverted")],
        "rejected": records(result.get("rejected")),
        "untried": untried_text(result),
        "trials": trial_rows(result),
        "operator_charts": _operators(baseline, best),
        "memory": _memory(baseline, best),
        "noise": q.number(mapping(result.get("noise")).get("percent")),
        "environment": provenance.environment_rows(result),
        "spec": provenance.spec_text(result),
        "config": provenance.config_text(result),
        "commands": commands(result),
    }


def job_name(result: Mapping[str, Any]) -> str:
    """What the user named, without its folder."""
    return Path(str(mapping(result.get("spec")).get("job") or "")).name


def _known(name: str, result: Mapping[str, Any]) -> bool:
    return any(q.number(metrics(result, w).get(name)) is not None for w in ("baseline", "best"))


def training_headline(result: Mapping[str, Any]) -> str:
    """One sentence: how fast it was, how fast it is, and whether it learns the same."""
    before, after = metrics(result, "baseline"), metrics(result, "best")
    rate = q.metric_text("samples_per_s", before.get("samples_per_s"))
    if result.get("failure"):
        return f"The training runs at {rate}; the run ended early: {result['failure']}"
    found = mapping(mapping(result.get("best")).get("speedup"))
    if q.number(found.get("value")) is None and out_of_time(result):
        return f"The training runs at {rate}; {out_of_time(result)}."
    if q.number(found.get("value")) is None:
        asked = "faster way" + (" and none with less memory" if asked_memory(result) else "")
        return f"The training runs at {rate}; no {asked} that learns the same was found."
    now = q.metric_text("samples_per_s", after.get("samples_per_s"))
    spread = q.between(found.get("interval"), q.ratio_number)
    memory = " ".join(memory_text(name, before, after) for name in asked_memory(result))
    return (
        f"The training runs at {now} instead of {rate}: {q.ratio(found['value'])} ({spread}). "
        f"{memory}{' ' if memory else ''}{drift_text(result)}"
    )


def asked_memory(result: Mapping[str, Any]) -> list[str]:
    """Metrics of memory that goals ask for."""
    asked = [str(goal.get("metric")) for goal in records(result.get("goals"))]
    return [name for name in ("peak_rss_mb", "peak_device_mb") if name in asked]


def memory_text(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """How much memory is needed now, as a sentence."""
    was, now = (q.metric_text(name, side.get(name)) for side in (before, after))
    return f"{q.metric_label(name)} is {now} instead of {was}."


def drift_text(result: Mapping[str, Any]) -> str:
    """Whether it learns the same, as a sentence."""
    found = mapping(result.get("drift"))
    loss = mapping(found.get("loss"))
    estimate = q.number(loss.get("estimate"))
    guard = mapping(result.get("guard"))
    if estimate is None:
        why = guard.get("unproven")
        return f"Whether it learns the same is not shown: {why}." if why else ""
    spread = q.between(
        [loss.get("lower"), loss.get("upper")], lambda value: f"{q.fixed(100 * value, 2)} %"
    )
    text = (
        f"Its loss is {q.fixed(100 * estimate, 2)} % off the baseline's ({spread}, one-sided "
        f"bounds over {loss.get('seeds')} seeds)."
    )
    metric = mapping(found.get("metric"))
    if q.number(metric.get("estimate")) is not None:
        drop = q.between([metric.get("lower"), metric.get("upper")], lambda v: q.fixed(v, 4))
        text += f" The metric drops by {q.fixed(float(metric['estimate']), 4)} ({drop})."
    asked = [c for c in records(guard.get("checks")) if q.number(c.get("allowed")) is not None]
    for check in asked:
        if check.get("decides") and check.get("status") != "met":
            name = str(check.get("metric")).replace("_", " ")
            text += f" That the {name} is at most {check['allowed']:.3g} is not shown."
    return text


def busy_text(result: Mapping[str, Any]) -> str:
    """How busy cores and GPU were, before and after."""
    said = []
    for name in ("busy_share", "device_busy_share"):
        pair = [metrics(result, which).get(name) for which in ("baseline", "best")]
        shown = [q.percent(value) for value in pair if q.number(value) is not None]
        if shown:
            said.append(
                f"{q.metric_label(name)}: {' before, '.join(shown)}{' after' * (len(shown) > 1)}"
            )
    return ". ".join(said)


def kept_rows(result: Mapping[str, Any]) -> list[dict[str, str]]:
    """Every kept change: predicted and measured, alone and among the others."""
    return [
        {
            "change": str(row.get("change")),
            "part": str(row.get("part")),
            "predicted_alone": q.ratio(row.get("predicted_alone")),
            "predicted": q.ratio(row.get("predicted_gain")),
            "alone": q.ratio(row.get("alone")),
            "achieved": sections.gain_text(row.get("achieved_gain"), row.get("achieved_interval")),
            "memory": saved_text(row),
            "basis": str(row.get("prediction_basis") or ""),
        }
        for row in records(result.get("kept"))
    ]


def saved_text(row: Mapping[str, Any]) -> str:
    """Memory without a kept change and with it; empty where it was kept for speed."""
    saved = mapping(row.get("memory"))
    pair = [q.number(saved.get(name)) for name in ("before_mb", "after_mb")]
    if pair[0] is None or pair[1] is None:
        return ""
    before, after = (q.fixed(value, 0) for value in pair if value is not None)
    return f"{before} to {after} MB"


def front_rows(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every system that was measured, by speed and memory; empty below two of them."""
    points = records(result.get("pareto"))
    rows = [_front_row(point) for point in points if _has_both(point)]
    return rows if len(rows) > 1 else []


def _has_both(point: Mapping[str, Any]) -> bool:
    return all(q.number(point.get(name)) is not None for name in ("samples_per_s", "peak_rss_mb"))


def _front_row(point: Mapping[str, Any]) -> dict[str, Any]:
    best, number = bool(point.get("best")), point.get("trial")
    drift, device = q.number(point.get("loss_drift")), q.number(point.get("peak_device_mb"))
    own = "the reference" if number == 0 else "not judged"
    return {
        "system": f"best: {point.get('label')}" if best else str(point.get("label")),
        "trial": "" if not number else str(number),
        "rate": q.metric_text("samples_per_s", point.get("samples_per_s")),
        "memory": q.metric_text("peak_rss_mb", point.get("peak_rss_mb")),
        "device": q.metric_text("peak_device_mb", device) if device is not None else "",
        "drift": own if drift is None or number == 0 else f"{q.fixed(100 * drift, 2)} %",
        "front": bool(point.get("front")),
        "refused": bool(point.get("refused")),
    }


def _as_changes(result: Mapping[str, Any]) -> list[Change]:
    return [
        Change(
            trial=None,
            name=str(row.get("change")),
            predicted=q.number(row.get("predicted_gain")),
            achieved=q.number(row.get("achieved_gain")),
            interval=q.interval(row.get("achieved_interval")),
            kept=True,
        )
        for row in records(result.get("kept"))
    ]


def interaction_rows(result: Mapping[str, Any]) -> list[dict[str, str]]:
    """Every measured pair."""
    return [
        {
            "pair": f"{row.get('first')} + {row.get('second')}",
            "first": q.ratio(row.get("gain_first")),
            "second": q.ratio(row.get("gain_second")),
            "both": q.ratio(row.get("gain_both")),
            "factor": q.ratio(row.get("factor")),
        }
        for row in records(result.get("interactions"))
    ]


def trial_rows(result: Mapping[str, Any]) -> list[dict[str, str]]:
    """All trials in their order."""
    return [
        {
            "trial": str(row.get("trial")),
            "change": str(row.get("change")),
            "how": str(mapping(row.get("details")).get("how") or ""),
            "verdict": str(row.get("verdict")),
            "gain": sections.gain_text(row.get("achieved_gain"), row.get("achieved_interval")),
            "rate": q.metric_text("samples_per_s", row.get("samples_per_s")),
            "reason": str(row.get("reason") or ""),
            "took": q.duration(row.get("wall_s")),
        }
        for row in records(result.get("trials"))
    ]


def _operators(baseline: Mapping[str, Any], best: Mapping[str, Any]) -> list[tuple[str, Any]]:
    listed = [
        ("Baseline", records(baseline.get("operators"))),
        ("Best", records(best.get("operators"))),
    ]
    longest = max(
        (q.number(op.get("wall_ms")) or 0.0 for _, ops in listed for op in ops), default=0.0
    )
    return [
        (title, html.both(partial(operator_chart, ops, longest_ms=longest)))
        for title, ops in listed
        if ops
    ]


def _memory(baseline: Mapping[str, Any], best: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    before, after = mapping(baseline.get("memory_mb")), mapping(best.get("memory_mb"))
    names = list(dict.fromkeys((*before, *after)))
    return [
        (
            name.replace("_", " "),
            q.metric_text("peak_rss_mb", before.get(name)),
            q.metric_text("peak_rss_mb", after.get(name)),
        )
        for name in names
    ]


def commands(result: Mapping[str, Any]) -> list[str]:
    """Shell commands that use and repeat the run."""
    folder = str(result.get("folder") or "RUN_FOLDER")
    return [
        f"saccade train run {shlex.quote(folder)}",
        f"saccade train optimize {shlex.quote(folder + '/spec.yaml')} --out repeated",
    ]
