"""Batches that fit, and gradient accumulation."""

from __future__ import annotations

from itertools import chain, islice

import pytest

from saccade.train.batch_fit import halved
from saccade.train.config import JobReference, TrainingConfig
from saccade.train.order import SampleOrder, Ticket

CONFIG = TrainingConfig(JobReference("job.py", "python_file", "0"))


@pytest.mark.parametrize(
    ("size", "accumulation", "expected"),
    [(8, 1, (4, 2)), (4, 3, (2, 6)), (9, 1, (3, 3)), (7, 2, (1, 14)), (2, 1, (1, 2))],
)
def test_halving_keeps_the_effective_batch(
    size: int, accumulation: int, expected: tuple[int, int]
) -> None:
    config = CONFIG.with_batch(size=size, accumulation=accumulation)
    smaller = halved(config)
    assert smaller is not None
    assert (smaller.batch.size, smaller.batch.accumulation) == expected
    assert smaller.batch.effective == config.batch.effective


def test_a_single_sample_cannot_be_halved() -> None:
    assert halved(CONFIG.with_batch(size=1, accumulation=8)) is None


@pytest.mark.parametrize("count", [3, 8, 20, 37])
def test_a_step_has_the_same_samples_however_it_is_divided(count: int) -> None:
    def steps(size: int, accumulation: int) -> list[list[Ticket]]:
        order = SampleOrder(count, size, seed=3, accumulation=accumulation)
        parts = order.from_step(0)
        return [list(chain(*islice(parts, accumulation))) for _ in range(6)]

    whole = steps(8, 1)
    assert steps(4, 2) == whole
    assert steps(1, 8) == whole
