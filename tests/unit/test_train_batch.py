"""Batches that fit, and gradient accumulation."""

from __future__ import annotations

import pytest

from saccade.train.batch_fit import halved
from saccade.train.config import JobReference, TrainingConfig

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
