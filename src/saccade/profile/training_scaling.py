"""How a step's time grows with its batch, which tells fixed costs from those of each sample."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from saccade.errors import RuntimeFailure
from saccade.train.loop import TrainingLoop
from saccade.train.samples import Loaded

FACTOR = 4
# No step that takes as long is made of costs that do not depend on its samples.
SLOW_S = 1.0
MIN_ROUNDS, MAX_ROUNDS = 3, 50


def scaled_steps(loop: TrainingLoop, seconds: float, step_s: float) -> dict[int, float]:
    """Milliseconds of a step at the batch's size and at a multiple of it, taken in turns.

    The fastest of a few steps each, which others on the machine disturbed least. Slow steps are
    not taken again: of those the batch's own time is all there is.

    What the job prints and logs is left out: it costs the same for any batch, but no larger batch
    is needed to be rid of it. On a GPU that is what the device waits for after the optimizer.

    The cached batch of ``loop`` stands several times in the larger one, so nothing is loaded.

    Raises:
        RuntimeFailure: batches of another size cannot be made, or their steps cannot be taken.
    """
    import torch

    batch = loop.cached_batch
    assert batch is not None
    if loop.config.compute.compile:
        raise RuntimeFailure("torch.compile would compile anew for another batch size")
    factor = FACTOR if step_s * (1 + FACTOR) * MIN_ROUNDS <= seconds else 2
    rounds = int(seconds / max(1e-6, step_s * (1 + factor)))
    rounds = min(MAX_ROUNDS, max(MIN_ROUNDS, rounds))
    size = loop.config.batch.size
    if step_s > SLOW_S:
        return {size: 1e3 * step_s}
    batches = {size: batch, factor * size: repeated(batch, factor)}
    times: dict[int, list[float]] = {number: [] for number in batches}
    try:
        for turn in range(rounds + 1):
            for number, data in batches.items():
                loop.cached_batch = data
                loop.step()
                steps, parts = loop.clock.read()
                if turn:  # the first steps of a size are warm-up
                    times[number].append(steps[0] - parts["logging"][0])
    except torch.OutOfMemoryError as error:
        raise RuntimeFailure(f"{factor} times the batch does not fit the device") from error
    finally:
        loop.cached_batch = batch
    return {number: 1e3 * min(found) for number, found in times.items()}


def repeated(batch: Loaded, factor: int) -> Loaded:
    """The same samples ``factor`` times over.

    Raises:
        RuntimeFailure: it holds something that has no order of samples.
    """
    inputs, target = (_repeated(part, factor, batch.size) for part in batch.data)
    return replace(batch, data=(inputs, target), size=factor * batch.size)


def _repeated(value: Any, factor: int, size: int) -> Any:
    import torch

    if isinstance(value, torch.Tensor) and value.dim() and len(value) == size:
        return torch.cat([value] * factor)
    if isinstance(value, list | tuple) and len(value) == size and not _all_tensors(value, size):
        return type(value)(list(value) * factor)
    if isinstance(value, dict):
        return {key: _repeated(item, factor, size) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_repeated(item, factor, size) for item in value)
    raise RuntimeFailure(f"a batch holds {type(value).__name__}, which cannot be made larger")


def _all_tensors(values: Any, size: int) -> bool:
    """Whether each is a batch of its own, such as (images, more images) of a batch of two."""
    import torch

    return all(isinstance(v, torch.Tensor) and v.dim() and len(v) == size for v in values)
