"""Makes a batch of samples by writing each into its place, instead of stacking them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class InPlaceCollate:
    """What ``default_collate`` gives for pairs of tensors, arrays and numbers, without its copies.

    In a loader worker the batch is made in shared memory at once, as ``default_collate`` does,
    so that it is handed over and not copied; with ``pinned`` it stands in page-locked memory.
    Anything else than tensors of one shape and type is left to ``default_collate``.

    Args:
        pinned: for batches made in the training process, with a GPU there.
    """

    def __init__(self, pinned: bool = False) -> None:
        self._pinned = pinned

    def __call__(self, samples: list[Any]) -> Any:
        """A batch, ``(N, ...)``, of each part of the samples."""
        from torch.utils.data import default_collate

        first = samples[0]
        if not isinstance(first, tuple | list):
            return default_collate(samples)
        return tuple(
            self._part(list(values), default_collate) for values in zip(*samples, strict=True)
        )

    def _part(self, values: list[Any], otherwise: Callable[[list[Any]], Any]) -> Any:
        import numpy as np
        import torch

        first = values[0]
        if isinstance(first, np.ndarray) and first.dtype.kind in "fiub":
            values = [torch.from_numpy(np.ascontiguousarray(value)) for value in values]
            first = values[0]
        if not isinstance(first, torch.Tensor):
            return otherwise(values)
        if any(value.shape != first.shape or value.dtype != first.dtype for value in values):
            return otherwise(values)  # it says what is wrong
        batch = self._empty((len(values), *first.shape), first.dtype)
        for place, value in enumerate(values):
            batch[place].copy_(value)
        return batch

    def _empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        import torch
        from torch.utils.data import get_worker_info

        if get_worker_info() is None:
            return torch.empty(shape, dtype=dtype, pin_memory=self._pinned)
        count = 1
        for size in shape:
            count *= size
        storage = torch.empty(0, dtype=dtype).untyped_storage()
        shared = storage._new_shared(count * dtype.itemsize)
        return torch.empty(0, dtype=dtype).set_(shared, 0, shape)
