"""Several processes train together, each on a part of every batch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Self

from saccade.train.change import Effect, Part, Prediction, TrainingContext
from saccade.train.config import TrainingConfig
from saccade.train.scaling import Link, StepModel

# Within one machine, before it is measured: shared memory on CPUs, PCIe on GPUs.
LOCAL = Link(5e-5, 4000.0)


@dataclass(frozen=True)
class DataParallel:
    """``DistributedDataParallel`` on this machine; the effective batch stays what it was.

    Attributes:
        processes: one per GPU, or on the CPU that many with an equal share of its cores.
    """

    processes: int
    name: ClassVar[str] = "ddp"
    part: ClassVar[Part] = "scale"

    @property
    def effect(self) -> Effect:
        """Batch normalization sees each process's part of the batch alone."""
        return "lossy"

    @classmethod
    def variants(cls, context: TrainingContext) -> Iterable[Self]:
        """All GPUs; on the CPU two processes, or one per pair of cores."""
        machine = context.machine
        if context.config.compute.device.startswith("cuda"):
            return [cls(machine.gpus)] if machine.gpus > 1 else []
        counts = sorted({2, machine.cores // 2} - {0, 1})
        return [cls(count) for count in counts if count <= machine.cores]

    @property
    def label(self) -> str:
        """Name and number of processes."""
        return f"ddp: {self.processes} processes"

    def applies(self, context: TrainingContext) -> str | None:
        """Where the batch can be divided, and one process trains now."""
        config = context.config
        cuda = config.compute.device.startswith("cuda")
        if config.scale.strategy != "single":
            return f"{config.scale.strategy} is on already"
        if not cuda and "scale" not in context.allow:
            return "processes on one CPU share its cores; tried only with --allow scale"
        if config.batch.size % self.processes:
            return f"a batch of {config.batch.size} cannot be divided by {self.processes}"
        return None

    def predict(self, context: TrainingContext) -> Prediction:
        """From the step's cost per sample and a link within one machine."""
        block, batch = context.profile.block, context.config.batch
        fixed, each = step_cost(context)
        gradients = context.profile.memory_mb.get("parameters", 0.0)
        cuda = context.config.compute.device.startswith("cuda")
        model = StepModel(fixed, each, gradients, shares_cores=not cuda)
        after = model.step_s(batch.effective, self.processes, LOCAL)
        now = block.step_ms / 1e3
        gain = max(0.1, now / max(after, 1e-9))
        bound = float(self.processes) if cuda else max(gain, 1.5)
        return Prediction(
            min(gain, bound),
            bound,
            f"{1e3 * each:.1f} ms per sample on {self.processes} processes",
            cost_s=5.0,
            odds=0.7,
        )

    def apply(self, context: TrainingContext) -> TrainingConfig:
        """Divide the batch."""
        config = context.config
        divided = config.with_batch(size=config.batch.size // self.processes)
        shared = divided.with_scale(processes=self.processes, strategy="ddp")
        if config.compute.device.startswith("cuda"):
            return shared
        return shared.with_compute(threads=max(1, context.machine.cores // self.processes))


def step_cost(context: TrainingContext) -> tuple[float, float]:
    """Seconds of a step whatever its batch, and of each sample, as the profile tells them apart."""
    profile = context.profile
    times = sorted(profile.scaled_ms.items())
    now = profile.synthetic.step_ms / 1e3
    if len(times) < 2:
        return 0.0, now / max(1, context.config.batch.effective)
    (small, first), (large, second) = times[0], times[-1]
    each = max(0.0, (second - first) / 1e3 / (large - small))
    return max(0.0, first / 1e3 - each * small), each
