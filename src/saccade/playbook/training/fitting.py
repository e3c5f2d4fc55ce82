"""A job that does not fit into memory as its script trains it, and what it is measured as instead.

First the batch is halved and accumulated, which leaves what a step learns. Where not even single
samples fit, activations are computed again instead of kept, and then rounded to bf16 as well. Where
that does not do either, the model itself is too large for the device, and is shared by several
(FSDP) or rests in the CPU's memory. What is for GPUs here is not verified on hardware.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from saccade.environment import usable_cores
from saccade.errors import OutOfMemory, SaccadeError, SpecError
from saccade.optimize.training.group import WorkerGroup
from saccade.playbook.training.prepare import TrainingTask
from saccade.progress import Progress
from saccade.train.batch_fit import halved
from saccade.train.batch_probe import STEPS, TIMEOUT_S, fits_in_memory, largest_that_fits
from saccade.train.change import TrainingMachine
from saccade.train.changes.autocast import AMPERE
from saccade.train.config import TrainingConfig
from saccade.train.dividing import spread
from saccade.train.memory import SHORT
from saccade.train.memory_failure import is_out_of_memory
from saccade.train.run_file import write_run_file

Fits = Callable[[TrainingConfig], bool]


def fitting_task(
    task: TrainingTask, machine: TrainingMachine, say: Progress, why: SaccadeError
) -> TrainingTask:
    """The task with a baseline that fits one device.

    Args:
        task: whose baseline does not fit.
        machine: where it trains.
        say: told what is tried.
        why: what was said when it did not fit.

    Raises:
        OutOfMemory: nothing fits one device. Where shares of the model fit several, or one beside
            the CPU's memory, the run folder holds that configuration, and the message says so.
        SaccadeError: a try failed for another reason than memory.
    """
    own = task.baseline
    on_gpu = own.compute.device.startswith("cuda")
    limit_mb = None if on_gpu else SHORT * machine.free_memory_mb
    say.note(f"the job does not fit into memory as it is ({why}); smaller batches are tried")
    for tried, how in frugal_configs(own, machine):
        if how:
            say.note(f"not even single samples fit; {how} is tried")
        found = _fitting(tried, lambda config: fits_in_memory(config, limit_mb))
        if found is not None:
            say.note(
                f"measured with {found.batch.size} samples at once, {found.batch.accumulation} "
                f"times to a step, instead of {own.batch.size} at once{how and f', and {how}'}"
            )
            return replace(task, baseline=found)
    for shared in shared_configs(own, machine):
        say.note(f"not even single samples fit; {_how(shared)} is tried (not verified on hardware)")
        found = largest_fitting_config(shared, fits_in_ranks)
        if found is not None:
            write_run_file(task.folder, found, task.epochs)
            raise OutOfMemory(_fits_shared(found, task.folder))
    raise OutOfMemory(_fits_nowhere(machine, on_gpu, why))


def frugal_configs(
    config: TrainingConfig, machine: TrainingMachine
) -> Iterator[tuple[TrainingConfig, str]]:
    """Ways to train the whole model, and what is special about them; what alters less first."""
    yield config, ""
    recomputed = config.with_compute(checkpointing=True)
    yield recomputed, "activation checkpointing"
    if config.compute.device.startswith("cuda") and machine.compute_capability < AMPERE:
        return
    yield recomputed.with_compute(precision="bf16"), "activation checkpointing and bf16"
    yield config.with_compute(precision="bf16"), "bf16"


def _fitting(config: TrainingConfig, fits: Fits) -> TrainingConfig | None:
    """`largest_fitting_config`; None also where the model has nothing to compute again."""
    try:
        return largest_fitting_config(config, fits)
    except SpecError:
        if not config.compute.checkpointing:
            raise
        return None


def largest_fitting_config(config: TrainingConfig, fits: Fits) -> TrainingConfig | None:
    """A configuration that fits, with as few halvings of the batch as possible; None for none."""
    smaller = {config.batch.size: config}
    while (next_one := halved(config)) is not None:
        config = next_one
        smaller[config.batch.size] = config
    size = largest_that_fits(sorted(smaller), lambda size: fits(smaller[size]))
    return smaller[size] if size is not None else None


def shared_configs(config: TrainingConfig, machine: TrainingMachine) -> Iterator[TrainingConfig]:
    """Ways to train a model that does not fit one GPU, those that send less first."""
    if not config.compute.device.startswith("cuda") or not machine.gpus:
        return
    for offload in (False, True):
        if machine.gpus == 1 and not offload:
            continue
        try:
            yield spread(config, machine.gpus, 1, "fsdp", usable_cores(), offload=offload)
        except SpecError:  # the batch cannot be divided
            continue


def fits_in_ranks(config: TrainingConfig) -> bool:
    """Whether all processes of a configuration can take two steps together.

    Raises:
        SaccadeError: it failed for another reason than memory.
    """
    eager = config.with_loader(workers=0).with_compute(compile="")
    try:
        with WorkerGroup(eager, None, timeout_s=TIMEOUT_S, environment={}) as group:
            group.call("block", STEPS, timeout_s=TIMEOUT_S)
    except SaccadeError as error:
        if is_out_of_memory(error):
            return False
        raise
    return True


def _how(config: TrainingConfig) -> str:
    beside = ", resting in the CPU's memory" if config.scale.offload else ""
    count = config.scale.processes
    return f"the model in shares over {count} GPU{'s' * (count > 1)}{beside},"


def _fits_shared(config: TrainingConfig, folder: Path) -> str:
    return (
        "The model does not fit one GPU, so nothing could be searched; two steps could be taken "
        f"with {_how(config)} {config.batch.size} samples at once in each. The run folder holds "
        f"that (not verified on hardware): saccade train run {folder} trains with it."
    )


def _fits_nowhere(machine: TrainingMachine, on_gpu: bool, why: SaccadeError) -> str:
    shares = (
        f"; shares of the model over {machine.gpus} GPUs and offloading did not fit either"
        if on_gpu
        else ""
    )
    others = (
        ", or on more GPUs (saccade train run JOB --strategy fsdp --processes N --offload)"
        if on_gpu
        else ", or on a machine with more memory"
    )
    return (
        "Memory does not suffice to train even on single samples, nor do activation checkpointing "
        f"and bf16 help{shares}: {str(why)[:300]}. Train on smaller images, a smaller model or "
        f"another optimizer{others}."
    )
