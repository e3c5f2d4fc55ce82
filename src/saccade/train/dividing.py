"""One step's samples over several processes: the effective batch stays what it was."""

from __future__ import annotations

from dataclasses import replace

from saccade.errors import SpecError
from saccade.train.config import ScaleSettings, Strategy, TrainingConfig


def divided(config: TrainingConfig, processes: int) -> TrainingConfig | None:
    """The batch of each of so many processes; None where it cannot be divided.

    The forward pass becomes smaller where it can, else there are fewer of them in a step.
    """
    batch = config.batch
    if batch.size % processes == 0:
        return config.with_batch(size=batch.size // processes)
    if batch.accumulation % processes == 0:
        return config.with_batch(accumulation=batch.accumulation // processes)
    return None


def united(config: TrainingConfig) -> TrainingConfig:
    """The same step in one process, for judging and profiling; the inverse of `divided`."""
    whole = config.with_batch(size=config.batch.size * config.scale.world)
    # A share of the cores was each one's where they shared them.
    alone = whole.with_compute(threads=None)
    return alone.with_scale(processes=1, nodes=1, strategy="single", offload=False)


def spread(
    config: TrainingConfig,
    processes: int,
    nodes: int = 1,
    strategy: Strategy = "ddp",
    cores: int | None = None,
    *,
    offload: bool | None = None,
) -> TrainingConfig:
    """A configuration of one process over several, each with an equal share of the batch.

    Args:
        config: of one process, or of several, which are united first.
        processes: on each machine.
        nodes: machines.
        strategy: how they share the model.
        cores: of each machine, of which every process gets an equal share; None leaves threads.
        offload: shares rest in the CPU's memory; None keeps what the configuration says.

    Raises:
        SpecError: the batch cannot be divided, or there are no shares that could be offloaded.
    """
    if offload and strategy != "fsdp":
        raise SpecError(
            f"Only shares of a model can be offloaded, and '{strategy}' has none. Give --strategy "
            "fsdp with --offload, or leave out --offload."
        )
    alone = united(config) if config.scale.strategy != "single" else config
    kept = config.scale.offload if offload is None else offload
    scale = ScaleSettings(processes, nodes, strategy, kept and strategy == "fsdp")
    if scale.world == 1 and not scale.offload:
        return alone
    found = divided(alone, scale.world)
    if found is None:
        raise SpecError(
            f"A step of {alone.batch.size} samples, {alone.batch.accumulation} times over, cannot "
            f"be divided by {scale.world} processes. Choose a number of processes that divides "
            "the batch."
        )
    found = replace(found, scale=scale)
    if cores is None or config.compute.device.startswith("cuda"):
        return found
    return found.with_compute(threads=max(1, cores // processes))
