"""Makes a job's model and optimizer run as the compute settings say."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

from saccade import plugins
from saccade.errors import SpecError
from saccade.pipeline.allocator import keep_memory
from saccade.train.config import ComputeSettings, TrainingConfig
from saccade.train.example import example_input
from saccade.train.job import TrainingJob
from saccade.train.order import ticket_seed
from saccade.train.samples import seed_everything


def make_model(job: TrainingJob, config: TrainingConfig, seed: int) -> Any:
    """The untrained module on its device, with the weights that ``seed`` gives it.

    One that will be sharded stays in the CPU's memory, in the plain layout: it may not fit the
    device, and shards are cut along the first axis. Images are laid out as the settings say.

    Raises:
        SpecError: the job's ``model`` function fails or returns no module.
    """
    import torch

    settings = config.compute
    seed_everything(ticket_seed(seed, 0))
    try:
        model = job.model()
    except Exception as error:
        raise SpecError(f"The job's model() failed: {type(error).__name__}: {error}") from error
    if not isinstance(model, torch.nn.Module):
        raise SpecError(f"The job's model() returned {type(model).__name__}, not an nn.Module.")
    if config.model_change:
        kind = plugins.load("architectures", config.model_change)
        model = kind.changed(model, lambda: _example(job, config))
    if config.scale.strategy != "fsdp":
        model = model.to(settings.device)
        if settings.channels_last:
            model = model.to(memory_format=torch.channels_last)
    if settings.norms == "fused":
        from saccade.train.norms.swapping import fuse_norms

        fuse_norms(model)
    if settings.checkpointing:
        from saccade.train.checkpointing import recompute_activations

        recompute_activations(model)
    return model.train()


def _example(job: TrainingJob, config: TrainingConfig) -> Any:
    import torch

    # Reading samples draws random numbers, of which none may be missing for the weights.
    with torch.random.fork_rng(devices=[]):
        return example_input(job, config)


def make_optimizer(job: TrainingJob, model: Any, config: TrainingConfig) -> Any:
    """The job's optimizer, its learning rates scaled, fused where that is asked for.

    Raises:
        SpecError: the job's ``optimizer`` function fails.
    """
    try:
        optimizer = job.optimizer(model)
    except Exception as error:
        raise SpecError(f"The job's optimizer() failed: {type(error).__name__}: {error}") from error
    if not hasattr(optimizer, "param_groups"):
        raise SpecError(
            f"The job's optimizer() returned {type(optimizer).__name__}, not an optimizer. Return "
            "one, such as torch.optim.AdamW(model.parameters())."
        )
    if config.compute.fused_optimizer:
        optimizer = fused(optimizer)
    for group in optimizer.param_groups:
        group["lr"] *= config.batch.learning_rate_scale
    return optimizer


def fused(optimizer: Any) -> Any:
    """The same optimizer, made again with ``fused=True``; a fresh one only, for it has no state.

    Raises:
        SpecError: this kind of optimizer has no fused form.
    """
    if "fused" not in optimizer.defaults:
        raise SpecError(f"{type(optimizer).__name__} has no fused form.")
    own = {"fused": True, "foreach": False}
    groups = [{**group, **own} for group in optimizer.param_groups]
    # Some defaults are set by the class itself and are no arguments of its own.
    known = inspect.signature(type(optimizer).__init__).parameters
    given = {key: value for key, value in optimizer.defaults.items() if key in known}
    try:
        return type(optimizer)(groups, **{**given, **own})
    except (RuntimeError, TypeError, ValueError) as error:
        raise SpecError(f"{type(optimizer).__name__} cannot be fused: {error}") from error


def set_backends(config: TrainingConfig) -> None:
    """Settings that hold for the whole process; one that is off leaves what the job's file says."""
    import torch

    settings = config.compute
    if settings.allocator == "kept":
        keep_memory()
    if settings.threads:
        torch.set_num_threads(settings.threads)
    if settings.tf32:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    if config.deterministic:
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
    elif settings.autotune:
        torch.backends.cudnn.benchmark = True


@contextlib.contextmanager
def precision(settings: ComputeSettings) -> Iterator[None]:
    """Autocast, where the settings ask for it."""
    import torch

    if settings.precision == "fp32":
        yield
        return
    kind = torch.bfloat16 if settings.precision == "bf16" else torch.float16
    with torch.autocast(settings.device.partition(":")[0], dtype=kind):
        yield


def placed(value: Any, settings: ComputeSettings, *, images: bool = False) -> Any:
    """A batch's part on the device; images in the memory layout that the settings ask for.

    Containers of tensors keep their form. Copies do not wait where memory is pinned.
    """
    import torch

    if isinstance(value, torch.Tensor):
        moved = value.to(settings.device, non_blocking=True)
        if images and settings.channels_last and moved.dim() == 4:
            moved = moved.contiguous(memory_format=torch.channels_last)
        return moved
    if isinstance(value, dict):
        return {key: placed(item, settings, images=images) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(placed(item, settings, images=images) for item in value)
    return value
