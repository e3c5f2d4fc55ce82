"""What is said of a baseline on the console."""

from __future__ import annotations

from saccade.playbook.steps import Baseline

# An accuracy below it, of any kind, is more likely a mistake than a bad model.
DOUBTFUL = 0.1


def doubt_about(metric: str, value: float) -> str:
    """What to look at where the baseline is right so rarely that something may be fed wrongly."""
    if value >= DOUBTFUL:
        return ""
    return (
        f"The baseline's {metric} is {value:.3f}: hardly anything is right, and no drop from there "
        "means anything. Check that labels and model have the same classes, and how pixels become "
        "numbers (overrides: channel_order, scale, mean, std, fit)."
    )


def describe_baseline(baseline: Baseline) -> str:
    """One line for the console."""
    metrics = baseline.metrics
    fps, core = metrics["throughput_fps"].value, metrics["core_ms_per_frame"].value
    p50 = metrics["latency_ms.p50"].value
    return (
        f"{fps:.1f} FPS, median latency {p50:.1f} ms, {core:.1f} core-ms per frame; "
        f"this machine can resolve differences of {baseline.resolution:.1%} now"
    )
