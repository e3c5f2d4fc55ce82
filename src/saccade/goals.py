"""Goals as expressions: ``latency_ms.p99<=20``, ``throughput_fps>=60``, ``map50_95_drop<=0.01``."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from saccade.errors import GoalError
from saccade.suggest import did_you_mean

Direction = Literal["lower", "higher"]
Status = Literal["met", "not_met", "inconclusive"]


@dataclass(frozen=True)
class Metric:
    """A number a goal can be about.

    Attributes:
        better: which direction is better.
        accuracy: needs labels (or, for agreement, the baseline's outputs) to be judged.
        low: smallest possible value.
        high: largest possible value, None where there is none.
    """

    better: Direction
    accuracy: bool = False
    low: float = 0.0
    high: float | None = None


METRICS: dict[str, Metric] = {
    **{f"latency_ms.{name}": Metric("lower") for name in ("mean", "p50", "p95", "p99")},
    "throughput_fps": Metric("higher"),
    "core_ms_per_frame": Metric("lower"),
    "peak_rss_mb": Metric("lower"),
    "model_mb": Metric("lower"),
    **{
        name: Metric("higher", accuracy=True, high=1.0)
        for name in (
            "map50_95",
            "map50",
            "mask_map50_95",
            "mask_map50",
            "top1",
            "top5",
            "miou",
            "hota",
            "idf1",
            "agreement",
        )
    },
    # False positives and switches count against it, so that it may fall below zero.
    "mota": Metric("higher", accuracy=True, low=float("-inf"), high=1.0),
}
# What a training can be asked for.
TRAINING_METRICS: dict[str, Metric] = {
    "epoch_s": Metric("lower"),
    "training_s": Metric("lower"),
    "step_ms": Metric("lower"),
    "samples_per_s": Metric("higher"),
    "data_wait_share": Metric("lower", high=1.0),
    "peak_rss_mb": Metric("lower"),
    "peak_device_mb": Metric("lower"),
    "device_busy_share": Metric("higher", high=1.0),
    # Seconds of training until it has learnt what the baseline has at the end of its curves, to
    # within the drift that is allowed.
    "time_to_loss_s": Metric("lower"),
    "time_to_held_out_loss_s": Metric("lower"),
    "time_to_metric_s": Metric("lower"),
    # Relative difference of the loss to the baseline's; below zero where it learns better.
    "loss_drift": Metric("lower", accuracy=True, low=float("-inf")),
    "metric": Metric("higher", accuracy=True),
}
DROP = "_drop"

_EXPRESSION = re.compile(
    r"^\s*([A-Za-z_][\w.]*)\s*(<=|>=|<|>|==?)\s*([-+0-9.eE]+)\s*([a-zA-Z%]*)\s*$"
)


@dataclass(frozen=True)
class Goal:
    """One requirement, ``metric op bound``."""

    metric: str
    op: Literal["<=", ">="]
    bound: float

    @property
    def name(self) -> str:
        """The expression, as it is written."""
        return f"{self.metric}{self.op}{self.bound:g}"

    @property
    def base(self) -> str:
        """The metric without ``_drop``."""
        return self.metric.removesuffix(DROP)

    @property
    def is_drop(self) -> bool:
        """Whether it bounds a loss against the baseline."""
        return self.metric.endswith(DROP)

    @property
    def is_accuracy(self) -> bool:
        """Whether it needs data to be judged on."""
        return {**TRAINING_METRICS, **METRICS}[self.base].accuracy

    def status(self, value: float | None, low: float | None, high: float | None) -> Status:
        """Judge a value by its interval: a goal is met when all of the interval meets it.

        A value that could not be measured (None, or NaN where accuracy is undefined) decides
        nothing.
        """
        if value is None or math.isnan(value):
            return "inconclusive"
        worst, best = (high, low) if self.op == "<=" else (low, high)
        worst = value if worst is None else worst
        best = value if best is None else best
        if self._holds(worst):
            return "met"
        return "inconclusive" if self._holds(best) else "not_met"

    def _holds(self, value: float) -> bool:
        return value <= self.bound if self.op == "<=" else value >= self.bound


def parse_goal(text: str, metrics: Mapping[str, Metric] = METRICS) -> Goal:
    """Parse one goal.

    Args:
        text: such as ``throughput_fps>=60``.
        metrics: what can be asked for.

    Raises:
        GoalError: it is not ``metric<=number`` or ``metric>=number``, the metric is unknown, the
            direction makes no sense, or no system could meet it.
    """
    match = _EXPRESSION.match(text)
    if match is None:
        raise GoalError(
            f"The goal '{text}' cannot be read. Expected a metric, <= or >=, and a number, such as "
            "'throughput_fps>=60' or 'latency_ms.p99<=20'."
        )
    metric, op, number, unit = match.groups()
    if unit:
        raise GoalError(
            f"The goal '{text}' ends in '{unit}'. Units stand in the metric's name; write the bare "
            "number."
        )
    base = metric.removesuffix(DROP)
    if base not in metrics:
        raise GoalError(_unknown(metric, metrics))
    if op not in ("<=", ">="):
        raise GoalError(f"The goal '{text}' uses '{op}'. Expected <= or >=.")
    try:
        bound = float(number)
    except ValueError:
        raise GoalError(
            f"The goal '{text}' has no valid number: '{number}'. Expected one such as 60 or 0.01."
        ) from None
    if not math.isfinite(bound):
        raise GoalError(f"The goal '{text}' has a number that is too large. Expected a finite one.")
    goal = Goal(metric, "<=" if op == "<=" else ">=", bound)
    _check_possible(goal, text, metrics[goal.base])
    return goal


def _unknown(metric: str, metrics: Mapping[str, Metric]) -> str:
    known = [*metrics, *(f"{name}{DROP}" for name in metrics)]
    listed = f"Known: {', '.join(metrics)}, each also as <metric>_drop."
    return f"There is no metric '{metric}'. {did_you_mean(metric, known)}{listed}"


def _check_possible(goal: Goal, text: str, metric: Metric) -> None:
    lower_is_better = goal.is_drop or metric.better == "lower"
    if lower_is_better != (goal.op == "<="):
        expected = "<=" if lower_is_better else ">="
        raise GoalError(
            f"The goal '{text}' asks for a worse system. Expected {goal.metric}{expected}…."
        )
    if goal.is_drop:
        if goal.bound < 0:
            raise GoalError(
                f"The goal '{text}' cannot be met: a drop below zero asks the optimized system to "
                "be better than the baseline. Use 0 or more."
            )
        if metric.high is not None and goal.bound > metric.high:
            raise GoalError(
                f"The goal '{text}' allows any loss: {goal.base} is a share from 0 to "
                f"{metric.high:g}, not a percentage. A drop of {goal.bound:g} points is "
                f"{goal.metric}<={goal.bound / 100:g}."
            )
        return
    impossible = goal.bound <= metric.low if goal.op == "<=" else False
    if metric.high is not None and goal.op == ">=" and goal.bound > metric.high:
        impossible = True
    if impossible:
        span = (
            f"{metric.low:g} to {metric.high:g}"
            if metric.high is not None
            else f"above {metric.low:g}"
        )
        raise GoalError(
            f"The goal '{text}' cannot be met by any system: {goal.base} lies in {span}."
        )
