"""Metrics of a measurement by name, as goals and results use them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from saccade.measurement import Block
from saccade.statistics import TooFewSamples, percentile, percentile_interval

PERCENTILES = {"p50": 50.0, "p95": 95.0, "p99": 99.0}


@dataclass(frozen=True)
class Estimate:
    """A value with its interval; None where the samples cannot support it."""

    value: float | None
    low: float | None = None
    high: float | None = None


def speed_metrics(blocks: Sequence[Block], model_mb: float) -> dict[str, Estimate]:
    """Every metric of speed and size of one configuration's blocks."""
    latencies = [value for block in blocks for value in block.latency_ms]
    found = {
        "throughput_fps": mean_of_blocks([block.fps for block in blocks]),
        "core_ms_per_frame": mean_of_blocks([block.core_ms_per_frame for block in blocks]),
        "busy_share": mean_of_blocks([block.busy_share for block in blocks]),
        "latency_ms.mean": mean_of_blocks([float(np.mean(block.latency_ms)) for block in blocks]),
        "peak_rss_mb": _exact(max(block.peak_rss_mb for block in blocks)),
        "model_mb": _exact(model_mb),
    }
    for name, q in PERCENTILES.items():
        found[f"latency_ms.{name}"] = _percentile(latencies, q)
    return found


def values(estimates: Mapping[str, Estimate]) -> dict[str, float | None]:
    """The bare values."""
    return {name: estimate.value for name, estimate in estimates.items()}


def _exact(value: float) -> Estimate:
    return Estimate(value, value, value)


def mean_of_blocks(samples: Iterable[float]) -> Estimate:
    """Mean over blocks with Student's interval, because blocks are few."""
    array = np.asarray(list(samples), np.float64)
    mean = float(array.mean())
    if len(array) < 2:
        return Estimate(mean)
    from scipy.stats import t

    reach = float(t.ppf(0.975, len(array) - 1) * array.std(ddof=1) / np.sqrt(len(array)))
    return Estimate(mean, mean - reach, mean + reach)


def _percentile(samples: Sequence[float], q: float) -> Estimate:
    try:
        value = percentile(samples, q)
    except TooFewSamples:
        return Estimate(None)
    interval = percentile_interval(samples, q)
    return Estimate(value, interval.low, interval.high)
