"""The configuration that a job's own script has, and who may train in a folder."""

from __future__ import annotations

from saccade.errors import SpecError
from saccade.train.config import (
    BatchSettings,
    ComputeSettings,
    JobReference,
    LoaderSettings,
    TrainingConfig,
)
from saccade.train.job import TrainingJob


def own_config(job: TrainingJob, reference: JobReference) -> TrainingConfig:
    """How the job trains by itself: nothing but what stands in it."""
    return TrainingConfig(
        reference,
        LoaderSettings(workers=job.workers),
        ComputeSettings(device=job.device or usual_device()),
        BatchSettings(size=job.batch_size, accumulation=job.accumulation),
        max_corrupt=job.max_corrupt,
    )


def usual_device() -> str:
    """A GPU where there is one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def check_device(device: str) -> None:
    """Whether there is such a device.

    Raises:
        SpecError: there is not.
    """
    import torch

    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise SpecError(f"'{device}' is no device. Expected cpu, cuda or cuda:1.") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise SpecError(
            f"The training is for '{device}', but PyTorch finds no CUDA device here. Run `saccade "
            "train optimize` on this machine, or train with --device cpu."
        )
