from __future__ import annotations

from dataclasses import replace

import pytest

from saccade.diagnose.training.leaking_loader import leaking_loader
from saccade.testing.planted_training import planted_training


def growing(*rss_mb: float) -> bool:
    """Whether a loader with such memory after each batch is said to leak."""
    profile = planted_training("leaking_loader")
    assert profile.loader is not None
    loader = replace(profile.loader, rss_mb=rss_mb)
    return leaking_loader(replace(profile, loader=loader)) is not None


def test_what_grows_on_and_on_leaks() -> None:
    assert growing(*(500.0 + n for n in range(40)))


@pytest.mark.parametrize("batches", [6, 12])
def test_too_few_batches_say_nothing(batches: int) -> None:
    assert not growing(*(500.0 + n for n in range(batches)))


def test_memory_that_settles_is_no_leak() -> None:
    """An allocator that warms up grows by less and less."""
    assert not growing(*(500.0 + 20 * (1 - 0.93**n) for n in range(40)))
