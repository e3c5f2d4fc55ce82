"""Trainings that take no time: a made-up speed for every configuration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from saccade.optimize.training.runner import Pace
from saccade.prediction import Effect, Prediction
from saccade.train.change import Part, TrainingContext, TrainingMachine
from saccade.train.config import JobReference, TrainingConfig
from saccade.train.profile import SampleFacts, TrainingProfile
from saccade.train.records import PARTS, TrainingBlock

SpeedOf = Callable[[TrainingConfig], float]
BASELINE = TrainingConfig(JobReference("job.py", "python_file", "0" * 64))


def block_of(
    samples_per_s: float, steps: int = 4, batch: int = 8, data_share: float = 0.1
) -> TrainingBlock:
    """A block of steps that are all alike."""
    step_s = batch / samples_per_s
    shares = dict.fromkeys(PARTS, 0.0)
    shares |= {"data": data_share, "forward": (1 - data_share) / 3}
    shares |= {"backward": 2 * (1 - data_share) / 3}
    return TrainingBlock(
        step_s=(step_s,) * steps,
        part_s={part: (share * step_s,) * steps for part, share in shares.items()},
        losses=(1.0,) * steps,
        samples=batch * steps,
        cpu_s=step_s * steps,
        busy_share=0.9,
        peak_rss_mb=500.0,
    )


class FakeRunner:
    """Stands for `TrainingRunner`; a little noise that is the same every time."""

    opened: ClassVar[list[str]] = []

    def __init__(self, config: TrainingConfig, speed_of: SpeedOf) -> None:
        self.config = config
        self._speed = speed_of(config)
        self._count = 0
        self.warmup = (8 / self._speed,)
        FakeRunner.opened.append(config.hash)

    def block(self, steps: int) -> TrainingBlock:
        self._count += 1
        return block_of(self._speed * (1 + 0.004 * (self._count % 3 - 1)), steps)

    def pace(self, seconds: float) -> Pace:
        block = self.block(4)
        return Pace.of(block)

    def steps_for(self, seconds: float) -> int:
        return 4

    def close(self) -> None:
        pass

    def __enter__(self) -> FakeRunner:
        return self

    def __exit__(self, *exc: object) -> None:
        pass


@dataclass(frozen=True)
class Turn:
    """A change that sets one field of the compute settings."""

    name: str
    field: str
    value: Any
    gain: float = 1.2
    cost_s: float = 0.0
    effect: Effect = "near_lossless"
    part: Part = "compute"

    @property
    def label(self) -> str:
        return self.name

    def applies(self, context: TrainingContext) -> str | None:
        now = getattr(context.config.compute, self.field)
        return "already on" if now == self.value else None

    def predict(self, context: TrainingContext) -> Prediction:
        return Prediction(self.gain, 20.0, "made up", self.cost_s)

    def apply(self, context: TrainingContext) -> TrainingConfig:
        return context.config.with_compute(**{self.field: self.value})


def context_of(
    config: TrainingConfig = BASELINE, block: TrainingBlock | None = None, **machine: Any
) -> TrainingContext:
    """What planning knows, of a training that was measured to be slow."""
    measured = block or block_of(2.0)
    profile = TrainingProfile(config.hash, measured, block_of(2.2), None, SampleFacts(100))
    facts = {"cores": 2, "free_memory_mb": 8000.0, "free_disk_mb": 8000.0, **machine}
    return TrainingContext(config, profile, TrainingMachine(**facts), Path("unused"))
