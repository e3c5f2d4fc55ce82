"""Each process keeps a share of the model, for models that do not fit one device."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Self

from saccade.train.change import Effect, Part, Prediction, TrainingContext
from saccade.train.changes.cache import too_large
from saccade.train.config import TrainingConfig
from saccade.train.dividing import divided, spread
from saccade.train.memory import is_missed, shrinking

# Share of a device's memory that parameters, gradients and optimizer state have to fill before
# sharding them is worth what it sends; or all of a step, with activations.
CROWDED, FULL = 0.5, 0.9
HELD = ("parameters", "gradients", "optimizer")
# Sharding gathers parameters twice and scatters gradients once: half again what DDP sends. Shares
# in the CPU's memory are copied over PCIe besides, and updated by the CPU.
COST, OFFLOADED_COST = 0.85, 0.5


@dataclass(frozen=True)
class FullyShard:
    """FSDP2 over all GPUs of this machine; the effective batch stays what it was.

    Not verified on GPUs; over two gloo processes it trains as one process does.

    Attributes:
        processes: one per GPU.
        offload: shares rest in the CPU's memory.
    """

    processes: int
    offload: bool = False
    name: ClassVar[str] = "fsdp"
    part: ClassVar[Part] = "scale"

    @property
    def effect(self) -> Effect:
        """Batch normalization sees each process's part of the batch alone."""
        return "lossy"

    @classmethod
    def variants(cls, context: TrainingContext) -> Iterable[Self]:
        """All GPUs of the machine, with the shares on them or in the CPU's memory."""
        gpus = context.machine.gpus
        return [cls(gpus), cls(gpus, True)] if gpus > 1 else []

    @property
    def label(self) -> str:
        """Name, number of processes, and where the shares are."""
        return f"fsdp: {self.processes} processes{', offloaded' if self.offload else ''}"

    def applies(self, context: TrainingContext) -> str | None:
        """Where the model's own state crowds a GPU, or a step fills it."""
        config, machine = context.config, context.machine
        if not config.compute.device.startswith("cuda"):
            return "the model is in the memory that all processes of this machine share"
        if config.scale.strategy != "single":
            return f"{config.scale.strategy} is on already"
        if divided(config, self.processes) is None:
            return f"a batch of {config.batch.size} cannot be divided by {self.processes}"
        held, room = held_mb(context), machine.gpu_memory_mb
        full = sum(context.profile.memory_mb.values()) >= FULL * room
        if held < CROWDED * room and not full and not is_missed(context, "peak_device_mb"):
            return f"the model's state is {held:.0f} MB of {room:.0f} MB; ddp sends less"
        small = held / self.processes < CROWDED * room
        if self.offload and small and not is_missed(context, "peak_device_mb"):
            return f"a share of {held / self.processes:.0f} MB has room on the GPU"
        if self.offload and held > machine.free_memory_mb:
            return f"{held:.0f} MB of state do not fit into {machine.free_memory_mb:.0f} MB of RAM"
        if config.loader.cache == "memory":
            return too_large(context, config.loader.resized, self.processes)
        return None

    def predict(self, context: TrainingContext) -> Prediction:
        """As many times as there are GPUs, less what is sent."""
        bound = float(self.processes)
        basis = f"{held_mb(context):.0f} MB of state over {self.processes} GPUs"
        cost = OFFLOADED_COST if self.offload else COST
        stays = 0.0 if self.offload else 1 / self.processes
        shrinks = shrinking(context, (1 - stays) * held_mb(context))
        return Prediction(cost * bound, bound, basis, cost_s=10.0, odds=0.7, shrinks=shrinks)

    def apply(self, context: TrainingContext) -> TrainingConfig:
        """Divide the batch and the model."""
        return spread(context.config, self.processes, strategy="fsdp", offload=self.offload)


def held_mb(context: TrainingContext) -> float:
    """What the model holds whatever the batch, 10^6 bytes."""
    return sum(context.profile.memory_mb.get(name, 0.0) for name in HELD)
