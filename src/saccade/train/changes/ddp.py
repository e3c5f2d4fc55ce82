"""Several processes train together, each on a part of every batch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Self

from saccade.train.change import Effect, Part, Prediction, TrainingContext
from saccade.train.changes.cache import too_large
from saccade.train.config import TrainingConfig
from saccade.train.dividing import divided, spread
from saccade.train.scaling import Cost, Link, StepModel

# Within one machine, before it is measured: shared memory on CPUs, PCIe on GPUs.
LOCAL = Link(5e-5, 4000.0)


@dataclass(frozen=True)
class DataParallel:
    """``DistributedDataParallel`` on this machine.

    Attributes:
        processes: one per GPU, or on the CPU that many with an equal share of its cores.
        grown: each process keeps the batch that one had, so that the effective batch grows; only
            where the user allows that. Otherwise it stays what it was.
    """

    processes: int
    grown: bool = False
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
        cuda = context.config.compute.device.startswith("cuda")
        counts = {machine.gpus} if cuda else {2, machine.cores // 2}
        found = sorted(count for count in counts if 1 < count <= (count if cuda else machine.cores))
        grown = (False, True) if "batch" in context.allow else (False,)
        return [cls(count, more) for count in found for more in grown]

    @property
    def label(self) -> str:
        """Name and number of processes."""
        each = ", the batch for each" if self.grown else ""
        return f"ddp: {self.processes} processes{each}"

    def applies(self, context: TrainingContext) -> str | None:
        """Where the batch can be divided, and one process trains now."""
        config = context.config
        cuda = config.compute.device.startswith("cuda")
        if config.scale.strategy != "single":
            return f"{config.scale.strategy} is on already"
        if not cuda and "scale" not in context.allow:
            return "processes on one CPU share its cores; tried only with --allow scale"
        if self.grown and "batch" not in context.allow:
            return "the effective batch would grow, which takes --allow batch"
        if not self.grown and divided(config, self.processes) is None:
            return f"a batch of {config.batch.size} cannot be divided by {self.processes}"
        if config.loader.cache == "memory":
            return too_large(context, config.loader.resized, self.processes)
        return None

    def predict(self, context: TrainingContext) -> Prediction:
        """From the step's cost per sample and a link within one machine."""
        config, block = context.config, context.profile.block
        now = block.step_ms / 1e3
        model = step_model(context)
        times = self.processes if self.grown else 1
        after = model.step_s(times * config.batch.effective, self.processes, LOCAL)
        bound = float(self.processes)
        cost = model.cost(self.processes).sample_s
        how = f"{1e3 * cost:.1f} ms per sample on each of {self.processes} processes"
        if model.cores:
            # All that processes can win on a CPU is the time for which one leaves cores idle.
            bound = max(1.0, 1 / used_share(context))
            how += f", {used_share(context):.0%} of {model.cores} cores used by one"
        gain = min(max(0.1, times * now / max(after, 1e-9)), bound)
        return Prediction(gain, bound, how, cost_s=5.0, odds=0.7)

    def apply(self, context: TrainingContext) -> TrainingConfig:
        """Divide the batch, or let each process have it."""
        config = context.config
        if self.grown:
            config = config.with_batch(size=config.batch.size * self.processes)
        return spread(config, self.processes, cores=context.machine.cores)


def step_model(context: TrainingContext) -> StepModel:
    """Of the job, as its profile tells; on a CPU processes use what one leaves idle, in part."""
    fixed, each = step_cost(context)
    gradients = context.profile.memory_mb.get("parameters", 0.0)
    if context.config.compute.device.startswith("cuda"):
        return StepModel({1: Cost(fixed, each)}, gradients)
    # Halfway between using all of the idle cores' time and none of it.
    cores, busy = context.machine.cores, (1 + used_share(context)) / 2
    return StepModel({cores: Cost(fixed * busy, each * busy)}, gradients, cores)


def used_share(context: TrainingContext) -> float:
    """Share 0-1 of the cores' time that a step uses."""
    block = context.profile.block
    used = block.cpu_s / max(1e-9, block.wall_s * context.machine.cores)
    return min(1.0, max(0.05, used))


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
