"""Each process keeps a share of the model, for models that do not fit one device."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Self

from saccade.train.change import Effect, Part, Prediction, TrainingContext
from saccade.train.config import TrainingConfig

# Share of a device's memory that parameters, gradients and optimizer state have to fill before
# sharding them is worth what it sends.
CROWDED = 0.5
HELD = ("parameters", "gradients", "optimizer")
# Sharding gathers parameters twice and scatters gradients once: half again what DDP sends.
COST = 0.85


@dataclass(frozen=True)
class FullyShard:
    """FSDP2 over all GPUs of this machine; the effective batch stays what it was.

    Not verified on hardware; on two CPU processes it trains as one process does.
    """

    processes: int
    name: ClassVar[str] = "fsdp"
    part: ClassVar[Part] = "scale"

    @property
    def effect(self) -> Effect:
        """Batch normalization sees each process's part of the batch alone."""
        return "lossy"

    @classmethod
    def variants(cls, context: TrainingContext) -> Iterable[Self]:
        """All GPUs of the machine."""
        gpus = context.machine.gpus
        return [cls(gpus)] if gpus > 1 else []

    @property
    def label(self) -> str:
        """Name and number of processes."""
        return f"fsdp: {self.processes} processes"

    def applies(self, context: TrainingContext) -> str | None:
        """Where the model's own state crowds a GPU."""
        config, machine = context.config, context.machine
        if config.scale.strategy != "single":
            return f"{config.scale.strategy} is on already"
        if config.batch.size % self.processes:
            return f"a batch of {config.batch.size} cannot be divided by {self.processes}"
        held = held_mb(context)
        if held < CROWDED * machine.gpu_memory_mb:
            return (
                f"the model's state is {held:.0f} MB of {machine.gpu_memory_mb:.0f} MB; ddp sends "
                "less"
            )
        return None

    def predict(self, context: TrainingContext) -> Prediction:
        """As many times as there are GPUs, less what is sent."""
        bound = float(self.processes)
        basis = f"{held_mb(context):.0f} MB of state over {self.processes} GPUs"
        return Prediction(COST * bound, bound, basis, cost_s=10.0, odds=0.7)

    def apply(self, context: TrainingContext) -> TrainingConfig:
        """Divide the batch and the model."""
        config = context.config
        divided = config.with_batch(size=config.batch.size // self.processes)
        return divided.with_scale(processes=self.processes, strategy="fsdp")


def held_mb(context: TrainingContext) -> float:
    """What the model holds whatever the batch, 10^6 bytes."""
    return sum(context.profile.memory_mb.get(name, 0.0) for name in HELD)
