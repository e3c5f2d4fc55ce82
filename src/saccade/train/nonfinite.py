"""A loss that is not finite: its batch is made again and saved, with what can be said about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from saccade.errors import NonFiniteLoss
from saccade.train.checkpoint import write_tensors
from saccade.train.loading import open_loader
from saccade.train.loop import TrainingLoop, on_device
from saccade.train.watch import StepRecord

# Left out more often, steps are not to blame but the training diverges.
MOST_SKIPPED, MOST_IN_A_ROW = 20, 3


def save_batch(loop: TrainingLoop, record: StepRecord, folder: Path) -> Path:
    """Write ``nonfinite-step<N>.pt``: ``inputs``, ``target``, ``step``, ``loss``, ``config_hash``.

    The batch is a function of the step, so that none has to be kept while training goes on.
    Where gradients are accumulated, ``inputs`` and ``target`` are lists with a part each.

    Raises:
        StorageError: the disk refused.
    """
    parts = _batches(loop, record.step)
    inputs, target = [part[0] for part in parts], [part[1] for part in parts]
    target_path = batch_path(record, folder)
    content = {
        "inputs": inputs if len(parts) > 1 else inputs[0],
        "target": target if len(parts) > 1 else target[0],
        "step": record.step,
        "loss": record.loss,
        "config_hash": loop.config.hash,
    }
    write_tensors(target_path, content)
    return target_path


def batch_path(record: StepRecord, folder: Path) -> Path:
    """Where the batch of a step is saved."""
    return folder / f"nonfinite-step{record.step}.pt"


def _batches(loop: TrainingLoop, step: int) -> list[tuple[Any, Any]]:
    accumulation = loop.config.batch.accumulation
    loop.close_loader()
    loader = open_loader(loop.job, loop.config, rank=loop.rank)
    try:
        stream = loader.batches(step * accumulation)
        made = [next(stream) for _ in range(accumulation)]
        placed = [on_device(batch, loop.config.compute, loader.finish) for batch in made]
        return [(to_cpu(inputs), to_cpu(target)) for inputs, target in placed]
    finally:
        loader.close()


def failure(
    loop: TrainingLoop, record: StepRecord, saved: Path, sound: int | None
) -> NonFiniteLoss:
    """The error that ends the training.

    Args:
        loop: the training.
        record: the step whose loss is not finite.
        saved: where its batch is.
        sound: step of the newest checkpoint, all of whose losses were finite; None without one.
    """
    back = f"checkpoint of step {sound}" if sound is not None else "beginning"
    return NonFiniteLoss(
        f"The loss of step {record.step} (counted from 0, epoch "
        f"{record.step // loop.steps_per_epoch + 1}) is {record.loss}. Its batch is in '{saved}' "
        f"({batch_words(saved)}): torch.load it and call the job's model and loss on it to see "
        f"where. {_advice(loop, saved)} The same command goes on from the {back}; with "
        "--on-nonfinite skip it leaves this step out."
    )


def batch_words(saved: Path) -> str:
    """Whether the saved inputs and targets are finite themselves."""
    import torch

    content = torch.load(saved, weights_only=True)
    broken = [name for name in ("inputs", "target") if not all_finite(content[name])]
    if broken:
        return f"its {' and '.join(broken)} hold values that are not finite"
    return "its inputs and target are finite"


def _advice(loop: TrainingLoop, saved: Path) -> str:
    if "hold" in batch_words(saved):
        return "Correct or remove these samples."
    if loop.config.compute.precision == "fp16":
        return "Try bf16 or fp32, whose range is larger, or a lower learning rate."
    return (
        "If the model gives finite outputs for it, the weights were broken before: lower the "
        "learning rate, clip gradients, or look for log, sqrt and divisions by zero in the loss."
    )


def all_finite(value: Any) -> bool:
    """Whether every floating-point tensor within a container is finite."""
    import torch

    if isinstance(value, torch.Tensor):
        return not value.is_floating_point() or bool(torch.isfinite(value).all())
    if isinstance(value, dict):
        return all(map(all_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(all_finite, value))
    return True


def to_cpu(value: Any) -> Any:
    """The same container with its tensors on the CPU."""
    import torch

    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if isinstance(value, dict):
        return {key: to_cpu(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(to_cpu(item) for item in value)
    return value


def check_hope(skipped: list[int], saved: Path) -> None:
    """Whether leaving out steps may still help.

    Args:
        skipped: the steps that were left out, in order.
        saved: where the batch of the last one is.

    Raises:
        NonFiniteLoss: they are many, or follow each other.
    """
    if len(skipped) <= MOST_SKIPPED and _row(skipped) < MOST_IN_A_ROW:
        return
    raise NonFiniteLoss(
        f"{len(skipped)} steps had a loss that is not finite, the last of them "
        f"{', '.join(map(str, skipped[-MOST_IN_A_ROW:]))}: leaving them out does not help, for the "
        "weights themselves are broken. Lower the learning rate, clip gradients, or look at the "
        f"batch in '{saved}'."
    )


def _row(steps: list[int]) -> int:
    """How many of the last numbers follow each other."""
    count = 1
    while count < len(steps) and steps[-count] - steps[-count - 1] == 1:
        count += 1
    return count
