"""Judges a model on held-out data, with the job's own loss and metric."""

from __future__ import annotations

import inspect
from typing import Any

from saccade.train.computing import precision
from saccade.train.corruption import CorruptionLimit
from saccade.train.explaining import explained
from saccade.train.loading import open_loader
from saccade.train.loop import TrainingLoop, on_device
from saccade.train.records import Evaluation
from saccade.train.samples import kept_randomness


def evaluate(loop: TrainingLoop, part: int | None = None) -> Evaluation:
    """Loss and metric over the ``val`` split, or over ``part`` samples of it (`SampleOrder`).

    The model runs as it is, not compiled: a compiled one would be compiled again for evaluation.

    Raises:
        DataError: there is no such split, or more of it cannot be read than is allowed.
    """
    import torch

    job, settings = loop.job, loop.config.compute
    loader = open_loader(job, loop.config, "val", part=part)
    limit = CorruptionLimit(loop.config.max_corrupt, loop.held_out)
    score = _Score(job.metric)
    total, samples = 0.0, 0
    loop.model.eval()
    try:
        with torch.inference_mode(), kept_randomness():
            for batch in loader.batches(0):
                limit.check(batch.corrupt)
                inputs, target = on_device(batch, settings, loader.finish)
                with precision(settings):
                    with explained("model", inputs):
                        output = loop.model(inputs)
                    with explained("loss", output, target):
                        loss = job.loss(output, target)
                total += float(loss) * batch.size
                samples += batch.size
                with explained("metric", output, target):
                    score.add(output, target, batch.size)
    finally:
        loop.model.train()
        loader.close()
    return Evaluation(total / max(1, samples), score.value(samples), samples, len(limit.found))


class _Score:
    """The job's metric, in either of its two forms."""

    def __init__(self, metric: Any) -> None:
        self._function: Any = None
        self._object: Any = None
        self._sum = 0.0
        if metric is None:
            return
        if inspect.signature(metric).parameters:
            self._function = metric
        else:
            self._object = metric()

    def add(self, output: Any, target: Any, size: int) -> None:
        if self._object is not None:
            self._object.update(output, target)
        elif self._function is not None:
            self._sum += float(self._function(output, target)) * size

    def value(self, samples: int) -> float | None:
        if self._object is not None:
            found = self._object.compute()
            return None if found is None else float(found)
        return self._sum / max(1, samples) if self._function is not None else None
