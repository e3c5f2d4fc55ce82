"""The configuration that a job's own script has, and whether its device is here."""

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
        own_compute(job),
        BatchSettings(size=job.batch_size, accumulation=job.accumulation),
        max_corrupt=job.max_corrupt,
    )


def own_compute(job: TrainingJob) -> ComputeSettings:
    """How the job's script computes: its device, and what it told PyTorch when it was opened."""
    from torch.backends import cuda, cudnn

    tf32 = cuda.matmul.fp32_precision == cudnn.conv.fp32_precision == "tf32"
    device = job.device or usual_device()
    return ComputeSettings(device=device, tf32=tf32, autotune=bool(cudnn.benchmark))


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
