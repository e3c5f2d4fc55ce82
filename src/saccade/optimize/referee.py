"""What the search asks of whoever guards accuracy. `saccade.validate.referee` answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from saccade.optimize.change import Effect
from saccade.pipeline.config import PipelineConfig
from saccade.study import Drop


class Asked(Protocol):
    """Answers ``judge`` and ``watch``, as the worker of a `Runner` does."""

    def call(self, method: str, *arguments: Any, timeout_s: float = ...) -> Any:
        """Call a method of what it holds."""
        ...


class Answering(Protocol):
    """A running configuration that can be judged: a `Runner`, or one task of two that share."""

    @property
    def config(self) -> PipelineConfig:
        """How it runs."""
        ...

    @property
    def worker(self) -> Asked:
        """Who is asked."""
        ...


@dataclass(frozen=True)
class Judgement:
    """Whether a change may stay as far as accuracy goes.

    Attributes:
        keep: it may.
        reason: one sentence for a person.
        drop: against the baseline, None where nothing was judged.
        accuracy: the metric's value, None likewise.
        by_size: accuracy by object size beside the baseline's, where the candidate looks at other
            pixels than the baseline does.
    """

    keep: bool
    reason: str
    drop: Drop | None = None
    accuracy: float | None = None
    by_size: dict[str, dict[str, float]] = field(default_factory=dict)


class Referee(Protocol):
    """Judges candidates on data that calibration has not seen and the final report will not use."""

    metric: str
    allowed: float

    def judge(self, runner: Answering, effect: Effect) -> Judgement:
        """Run the candidate on the selection data and compare it with the baseline."""
        ...
