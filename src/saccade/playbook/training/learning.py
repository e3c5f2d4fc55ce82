"""What a training has to show before its changes may stay: bounds on how differently it learns.

Three differences to the baseline are bounded: of the loss over its steps, of the loss on held-out
data, and of the metric. Which of them decide depends on what was changed. The loss over the steps
always does. A change that makes another model of it is judged on the metric (on the held-out loss
where the job has none), for another model may follow the same loss to a worse end. Elsewhere
held-out data, which short trainings judge with much noise, decide only where they show that it is
worse.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from saccade.goals import Status
from saccade.playbook.training.prepare import TrainingTask
from saccade.train.config import TrainingConfig
from saccade.train.records import LossCurve
from saccade.validate.loss_drift import Bounded, Drift

# What the metric may drop where no goal says it: this share of the baseline's own.
METRIC_TOLERANCE = 0.02


@dataclass(frozen=True)
class Check:
    """One difference to the baseline, and what is allowed of it.

    Attributes:
        name: ``loss_drift``, ``held_out_loss_drift`` or ``metric_drop``.
        allowed: the largest that is acceptable.
        found: what was measured; None where it could not be.
        decides: it has to be shown that it is acceptable; otherwise it only must not be shown
            that it is not.
    """

    name: str
    allowed: float
    found: Bounded | None
    decides: bool

    @property
    def status(self) -> Status:
        """By the bounds over the seeds."""
        within = self.found.within(self.allowed) if self.found is not None else None
        return {True: "met", False: "not_met", None: "inconclusive"}[within]  # type: ignore[return-value]

    @property
    def broken(self) -> bool:
        """Whether the training is refused for it: shown to be worse, or found so where it decides.

        What cannot be measured is no reason to refuse; it is inconclusive.
        """
        if self.status == "not_met":
            return True
        return self.decides and self.found is not None and self.found.estimate > self.allowed

    @property
    def text(self) -> str:
        """What was found, with its interval, and what is allowed."""
        show = _points if self.name == "metric_drop" else _percent
        if self.found is None:
            return f"{_NAMES[self.name]} could not be compared, allowed {show(self.allowed, '')}"
        found = self.found
        spread = f"[{show(found.lower)}, {show(found.upper)}]"
        return (
            f"{_NAMES[self.name]} {_VERBS[self.name].format(show(found.estimate))} {spread}, "
            f"allowed {show(self.allowed, '')}"
        )

    def document(self) -> dict[str, Any]:
        """A JSON-ready row."""
        found = self.found
        return {
            "metric": self.name,
            "allowed": self.allowed,
            "value": found.estimate if found else None,
            "interval": [found.lower, found.upper] if found else None,
            "seeds": found.seeds if found else 0,
            "status": self.status,
            "decides": self.decides,
        }


_NAMES = {
    "loss_drift": "the loss",
    "held_out_loss_drift": "the loss on held-out data",
    "metric_drop": "the metric on held-out data",
}
_VERBS = {
    "loss_drift": "is {} off the baseline's",
    "held_out_loss_drift": "is {} off the baseline's",
    "metric_drop": "drops by {}",
}


def _percent(value: float, sign: str = "+") -> str:
    return f"{value:{sign}.2%}"


def _points(value: float, sign: str = "+") -> str:
    return f"{value:{sign}.4f}"


def checks_of(
    task: TrainingTask, config: TrainingConfig, baseline: Sequence[LossCurve], found: Drift
) -> tuple[Check, ...]:
    """What is asked of a training.

    Args:
        task: with the user's goals.
        config: how it trained.
        baseline: curves that it was compared with.
        found: how it differs from them.
    """
    other_model = config.model_change != task.baseline.model_change
    asked = next((g.bound for g in task.goals if g.metric == "metric_drop"), None)
    allowed = task.guard.bound
    checks = [Check("loss_drift", allowed, found.loss, decides=True)]
    if found.held_out_loss is not None or (other_model and not task.has_metric):
        decides = other_model and not task.has_metric
        checks.append(Check("held_out_loss_drift", allowed, found.held_out_loss, decides))
    if task.has_metric:
        most = metric_tolerance(baseline) if asked is None else asked
        decides = other_model or asked is not None
        checks.append(Check("metric_drop", most, found.metric, decides))
    return tuple(checks)


def metric_tolerance(baseline: Sequence[LossCurve]) -> float:
    """What the metric may drop where no goal says it: `METRIC_TOLERANCE` of the baseline's."""
    judged = [curve.evaluation for curve in baseline if curve.evaluation is not None]
    scores = [e.metric for e in judged if e.metric is not None and math.isfinite(e.metric)]
    return METRIC_TOLERANCE * abs(sum(scores) / len(scores)) if scores else 0.0
