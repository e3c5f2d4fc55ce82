"""Copies batches to a GPU on a stream of their own, beside the compute of the step before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from saccade.train.computing import placed
from saccade.train.config import TrainingConfig
from saccade.train.samples import Loaded


def fed(batches: Iterator[Loaded], config: TrainingConfig) -> Iterator[Loaded]:
    """The same batches; with pinned memory and a GPU they are on the GPU, or on their way there.

    The CPU runs ahead of the GPU: when it asks for a batch, the step before is still computing.
    A copy on the stream of that step would have to queue behind it; one on another stream does
    not, and only the step that needs the batch waits for it. The copy reads page-locked memory,
    which PyTorch does not use again before the copy is done.
    """
    if not config.loader.pinned or not config.compute.device.startswith("cuda"):
        yield from batches
        return
    import torch

    side = torch.cuda.Stream(config.compute.device)
    for batch in batches:
        with torch.cuda.stream(side):
            inputs = placed(batch.data[0], config.compute, images=True)
            target = placed(batch.data[1], config.compute)
        main = torch.cuda.current_stream(config.compute.device)
        main.wait_stream(side)
        for tensor in (*_tensors(inputs), *_tensors(target)):
            # It was made on the side stream, which must not give its memory away while the
            # main one still reads it.
            tensor.record_stream(main)
        yield replace(batch, data=(inputs, target))


def _tensors(value: Any) -> Iterator[Any]:
    if hasattr(value, "record_stream"):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
