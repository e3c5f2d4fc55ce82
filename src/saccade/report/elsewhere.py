"""What a report says about a target that is not at hand: estimates, and what a device measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from saccade.report import quantities as q
from saccade.report import sections
from saccade.report.document import mapping, records, texts

WORDS = {"legal": "yes", "partly": "partly", "illegal": "no"}


@dataclass(frozen=True)
class EstimateRow:
    """One runtime in one precision on the target; every number is an estimate."""

    runtime: str
    precision: str
    runs: str
    memory: str
    bound: str
    unfused: str
    note: str


@dataclass(frozen=True)
class MeasuredRow:
    """One candidate of a kit, as a device measured it."""

    candidate: str
    status: str
    ratio: str
    median: str
    reason: str


def target_name(result: Mapping[str, Any]) -> str:
    """The target that the estimates are of, empty where there are none."""
    return str(mapping(result.get("estimates")).get("target") or "")


def estimate_rows(result: Mapping[str, Any]) -> list[EstimateRow]:
    """The estimates, as far as the document holds any."""
    estimates = mapping(result.get("estimates"))
    own = [_estimate(entry) for entry in records(estimates.get("candidates"))]
    others = [
        _estimate(entry, f"{name}: ")
        for name, other in mapping(estimates.get("others")).items()
        for entry in records(mapping(other).get("candidates"))
    ]
    return [*own, *others]


def _estimate(entry: Mapping[str, Any], model: str = "") -> EstimateRow:
    memory = mapping(entry.get("memory"))
    parts = [q.number(memory.get(name)) for name in ("weights_mb", "activations_mb")]
    total = sum(part for part in parts if part is not None)
    word = WORDS.get(str(entry.get("legality")), str(entry.get("legality")))
    return EstimateRow(
        runtime=f"{model}{entry.get('runtime')}",
        precision=str(entry.get("precision")),
        runs=word if entry.get("usable") else "no",
        memory=f"{total:.1f} MB",
        bound=_estimated(entry.get("latency_bound_ms")),
        unfused=_estimated(entry.get("latency_unfused_ms")),
        note="; ".join(texts(entry.get("reasons"))),
    )


def _estimated(value: Any) -> str:
    number = q.number(value)
    return f"{number:.2f} ms (est.)" if number is not None else q.MISSING


def device_name(result: Mapping[str, Any]) -> str:
    """The device that measured, empty where none did."""
    return str(mapping(result.get("device")).get("name") or "")


def measured_rows(result: Mapping[str, Any]) -> list[MeasuredRow]:
    """What the device measured, fastest first."""
    return [_measured(entry) for entry in records(result.get("measured"))]


def _measured(entry: Mapping[str, Any]) -> MeasuredRow:
    median = mapping(mapping(entry.get("metrics")).get("latency_ms.p50")).get("value")
    return MeasuredRow(
        candidate=str(entry.get("candidate")),
        status=str(entry.get("verdict") or entry.get("status")),
        ratio=sections.gain_text(entry.get("ratio"), entry.get("interval"))
        if entry.get("ratio")
        else q.MISSING,
        median=q.metric_text("latency_ms.p50", median),
        reason=str(entry.get("reason") or ""),
    )
