"""What planning a training has to know of this machine."""

from __future__ import annotations

import shutil
from pathlib import Path

import psutil

from saccade.environment import detect, usable_memory_mb
from saccade.train.change import TrainingMachine
from saccade.train.config import TrainingConfig


def training_machine(folder: Path, config: TrainingConfig) -> TrainingMachine:
    """This machine, as changes of a training see it.

    Args:
        folder: the run folder, on whose disk caches would stand; it need not exist yet.
        config: says on which device is trained.
    """
    environment = detect()
    gpu, capability, gpus, gpu_memory_mb = _gpu(config.compute.device, environment.gpu)
    return TrainingMachine(
        cores=environment.cores,
        free_memory_mb=_free_memory_mb(),
        free_disk_mb=shutil.disk_usage(_existing(folder)).free / 1e6,
        isa=frozenset(environment.isa_flags),
        gpu=gpu,
        compute_capability=capability,
        gpus=gpus,
        gpu_memory_mb=gpu_memory_mb,
    )


def device_memory_mb(device: str) -> float:
    """Memory that a training on ``device`` may use, 10^6 bytes, whoever holds it now."""
    if not device.startswith("cuda"):
        return usable_memory_mb()
    import torch

    return float(torch.cuda.get_device_properties(device).total_memory) / 1e6


def _gpu(device: str, present: str | None) -> tuple[str, tuple[int, int], int, float]:
    """Name, compute capability, count and memory; PyTorch is only asked where there is a GPU."""
    nothing = "", (0, 0), 0, 0.0
    if present is None and not device.startswith("cuda"):
        return nothing
    import torch

    if not torch.cuda.is_available():
        return nothing
    index = int(device.partition(":")[2] or 0)
    found = torch.cuda.get_device_properties(index)
    capability = (int(found.major), int(found.minor))
    return str(found.name), capability, torch.cuda.device_count(), found.total_memory / 1e6


def _free_memory_mb() -> float:
    available = psutil.virtual_memory().available / 1e6
    return min(available, usable_memory_mb() - psutil.Process().memory_info().rss / 1e6)


def _existing(folder: Path) -> Path:
    return next((path for path in (folder, *folder.absolute().parents) if path.exists()), Path())
