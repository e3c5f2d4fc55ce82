"""Numbers as a person reads them: with unit, sensible digits, and a dash where there is none. Pure.

Everything takes values as they come out of JSON, so ``None``, NaN and wrong types are
answered with a dash, never with an exception.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

DASH = "–"
MISSING = "—"
MINUS = "−"

LABELS = {
    "throughput_fps": "Throughput",
    "core_ms_per_frame": "CPU time per frame",
    "busy_share": "Cores busy",
    "peak_rss_mb": "Peak memory",
    "model_mb": "Model size",
    "map50_95": "mAP50-95",
    "map50": "mAP50",
    "mask_map50_95": "Mask mAP50-95",
    "mask_map50": "Mask mAP50",
    "top1": "Top-1",
    "top5": "Top-5",
    "miou": "mIoU",
    "hota": "HOTA",
    "mota": "MOTA",
    "idf1": "IDF1",
    "agreement": "Agreement with the baseline",
    "samples_per_s": "Samples per second",
    "step_ms": "Step",
    "epoch_s": "Epoch",
    "training_s": "Whole training",
    "data_wait_share": "Waiting for data",
    "device_busy_share": "GPU busy",
    "peak_device_mb": "Peak GPU memory",
    "time_to_loss_s": "Time to the baseline's last loss",
    "time_to_held_out_loss_s": "Time to the baseline's held-out loss",
    "time_to_metric_s": "Time to the baseline's metric",
    "held_out_loss": "Held-out loss",
    "loss_drift": "Loss against the baseline's",
    "metric": "Metric on held-out data",
}
ACCURACY = (
    "map50_95",
    "map50",
    "mask_map50_95",
    "mask_map50",
    "top1",
    "top5",
    "miou",
    "hota",
    "mota",
    "idf1",
    "agreement",
)
MORE_IS_BETTER = ("throughput_fps", "busy_share", "samples_per_s", "device_busy_share", "metric")
# Name endings → unit; longest first, so that `_core_ms` is not read as `_ms`.
UNITS = (
    ("samples_per_s", "samples/s"),
    ("_per_s", "/s"),
    ("_core_ms_per_frame", "core-ms/frame"),
    ("_ms_per_frame", "ms/frame"),
    ("_core_ms", "core-ms"),
    ("_gflops", "GFLOP/s"),
    ("_percent", "%"),
    ("_gflop", "GFLOP"),
    ("_share", "share"),
    ("_gbs", "GB/s"),
    ("_fps", "FPS"),
    ("_ms", "ms"),
    ("_us", "µs"),
    ("_mb", "MB"),
    ("_px", "px"),
    ("_s", "s"),
)


def number(value: Any) -> float | None:
    """``value`` as a finite float, None where it is not one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def interval(value: Any) -> tuple[float, float] | None:
    """``value`` as (lower, upper), None where it is not a pair of finite numbers."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    low, high = number(value[0]), number(value[1])
    return None if low is None or high is None else (min(low, high), max(low, high))


def tied(text: str) -> str:
    """``text`` with numbers tied to their units and ranges kept whole where lines break."""
    text = re.sub(r"(?<=\d) (?=[%A-Za-zµ])", "\u00a0", text)
    text = re.sub(r"(?<=\w)-(?=\w)", "\u2011", text)
    return re.sub(f"{DASH}(?=\\d)", f"{DASH}\u2060", text)


def fixed(value: float, decimals: int) -> str:
    """``value`` with ``decimals`` decimals, thousands apart, a true minus and no minus zero."""
    text = f"{value:,.{decimals}f}".replace(",", " ")
    if float(f"{value:.{decimals}f}") == 0:
        text = text.removeprefix("-")
    return text.replace("-", MINUS)


def digits(value: float, significant: int = 3) -> str:
    """``value`` with about ``significant`` digits and never in exponent form above 1e-6."""
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(value)))
    return fixed(value, min(max(significant - 1 - magnitude, 0), 8))


def ratio(value: Any) -> str:
    """A ratio as ``4.40×``."""
    found = number(value)
    return MISSING if found is None else f"{ratio_number(found)}×"


def ratio_number(value: float) -> str:
    """A ratio without its sign: two decimals, one from 10 on, so that columns line up."""
    return fixed(value, 2 if abs(value) < 10 else 1)


def percent(share: Any, decimals: int = 0) -> str:
    """A share 0-1 as ``60 %``."""
    found = number(share)
    return MISSING if found is None else f"{fixed(100 * found, decimals)} %"


def duration(seconds: Any) -> str:
    """Seconds as ``4 min 47 s``."""
    found = number(seconds)
    if found is None:
        return MISSING
    if found < 60:
        return f"{digits(found, 2) if found < 10 else fixed(found, 0)} s"
    minutes, rest = divmod(round(found), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def between(pair: Any, text: Callable[[float], str]) -> str:
    """An interval as ``4.20–4.60``, or with "to" where a minus would hide beside the dash."""
    found = interval(pair)
    if found is None:
        return ""
    low, high = text(found[0]), text(found[1])
    return f"{low} to {high}" if MINUS in low + high else f"{low}{DASH}{high}"


def metric_label(name: str) -> str:
    """What a metric is called in prose: ``latency_ms.p99`` is ``Latency p99``."""
    if name.endswith("_drop"):
        return f"{metric_label(name.removesuffix('_drop'))} drop"
    if name.startswith("latency_ms"):
        return f"Latency {name.partition('.')[2]}".strip()
    return LABELS.get(name, name.replace("_", " "))


def metric_phrase(name: str) -> str:
    """The label within a sentence: ``throughput``, but ``mAP50-95``."""
    label = metric_label(name)
    return label[0].lower() + label[1:] if label[1:2].islower() else label


def metric_unit(name: str) -> str:
    """The unit of a metric, empty where it has none."""
    if name.startswith("latency_ms"):
        return "ms"
    if name == "core_ms_per_frame":
        return "core-ms"
    if name.startswith(ACCURACY):
        return ""
    return next((unit for ending, unit in UNITS if name.endswith(ending)), "")


def higher_is_better(name: str) -> bool:
    """Whether more of the metric is what a user wants."""
    return name in MORE_IS_BETTER or name in ACCURACY


def metric_number(name: str, value: float, extra: int = 0) -> str:
    """The metric's value without its unit, with ``extra`` more digits than usual."""
    if name.endswith("_drop") or name == "loss_drift":
        return fixed(value, 4 + extra)
    if name in ACCURACY:
        return fixed(value, 3 + extra)
    if name.endswith("_share"):
        return fixed(100 * value, extra)
    return digits(value, 3 + extra)


def metric_text(name: str, value: Any) -> str:
    """The metric's value with its unit, a dash where it is missing."""
    found = number(value)
    return MISSING if found is None else with_unit(name, metric_number(name, found))


def with_unit(name: str, text: str) -> str:
    """``text`` followed by the unit of the metric ``name``."""
    unit = metric_unit(name)
    unit = "%" if unit == "share" else unit
    return f"{text} {unit}" if unit else text


def beside_bound(name: str, value: Any, bound: Any) -> str:
    """The value with its unit, in as many digits as it takes to see on which side of a bound it is.

    59.97 beside a bound of 60 must not be printed as 60.0.
    """
    found, limit = number(value), number(bound)
    if found is None or limit is None:
        return metric_text(name, value)
    for extra in range(4):
        text = metric_number(name, found, extra)
        shown = float(text.replace(MINUS, "-").replace(" ", "")) / (100 if "_share" in name else 1)
        if (shown > limit) == (found > limit) and (shown < limit) == (found < limit):
            break
    return with_unit(name, text)


def bound_text(name: str, bound: Any) -> str:
    """A goal's bound as the user wrote it, with its unit."""
    found = number(bound)
    if found is None:
        return MISSING
    shown = 100 * found if name.endswith("_share") else found
    return with_unit(name, f"{shown:.6g}".replace("-", MINUS))


def metric_interval(name: str, pair: Any) -> str:
    """The interval of a metric with its unit, empty where there is none."""
    text = between(pair, lambda value: metric_number(name, value))
    return with_unit(name, text) if text else ""


def evidence(name: str, value: Any) -> tuple[str, str]:
    """A finding's evidence as label and text: ``decode_wall_ms, 4.6`` is ``decode wall, 4.60 ms``.

    The unit is the ending of the name, as everywhere in saccade.
    """
    endings = (pair for pair in UNITS if name.endswith(pair[0]) and len(name) > len(pair[0]))
    ending, unit = next(endings, ("", ""))
    label = name.removesuffix(ending).replace("_", " ")
    found = number(value)
    if found is None:
        return name.replace("_", " "), MISSING if value is None else str(value)
    if unit == "share":
        return f"{label} share", percent(found)
    text = fixed(found, 0) if found == round(found) else digits(found)
    return label, f"{text} {unit}".strip()
