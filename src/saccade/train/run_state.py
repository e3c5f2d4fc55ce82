"""What a training has to remember beside its weights; it stands in every checkpoint."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class EpochRecord:
    """One finished epoch.

    Attributes:
        epoch: from 1.
        step: steps taken by its end.
        train_loss: mean over its steps, None where all of them were left out.
        loss: on held-out data.
        metric: of the job on held-out data; None where the job has none.
        samples_per_s: trained, without judging and saving.
        train_s: seconds of its steps.
        evaluate_s: seconds of judging.
        corrupt: held-out samples that could not be read.
    """

    epoch: int
    step: int
    train_loss: float | None
    loss: float
    metric: float | None
    samples_per_s: float
    train_s: float
    evaluate_s: float
    corrupt: int = 0

    @property
    def score(self) -> float:
        """Larger is better: the metric, or the loss turned round; what is no number is worst."""
        found = self.metric if self.metric is not None else -self.loss
        return found if math.isfinite(found) else -math.inf


@dataclass
class RunState:
    """The course of a training so far.

    Attributes:
        history: finished epochs.
        events: what happened beside training: resumed, out of memory, a step left out.
        skipped: steps that are left out because their loss was not finite.
        corrupt: index of each unreadable sample → reason.
        loss_sum: of the steps of the epoch that is under way, and their number.
        epoch_s: seconds of the steps of that epoch.
        trained_s: seconds of all steps.
        samples: trained on.
        wall_s: of all processes that had a part in it, up to this state.
        saves: checkpoints written.
        save_s: seconds that took.
    """

    history: list[EpochRecord] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[int] = field(default_factory=list)
    corrupt: dict[int, str] = field(default_factory=dict)
    loss_sum: float = 0.0
    losses: int = 0
    epoch_s: float = 0.0
    epoch_samples: int = 0
    trained_s: float = 0.0
    samples: int = 0
    wall_s: float = 0.0
    saves: int = 0
    save_s: float = 0.0

    @property
    def best(self) -> EpochRecord | None:
        """The best epoch; the first of those that are equally good."""
        return max(self.history, key=lambda record: record.score, default=None)

    def happened(self, kind: str, step: int, detail: str) -> None:
        """Note an event."""
        self.events.append({"kind": kind, "step": step, "detail": detail})

    def to_dict(self) -> dict[str, Any]:
        """Plain values; `from_dict` is the inverse."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> RunState:
        """The inverse of `to_dict`."""
        history = [EpochRecord(**record) for record in document["history"]]
        return cls(**{**document, "history": history})
