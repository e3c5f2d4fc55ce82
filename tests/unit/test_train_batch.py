"""Batches that fit, and gradient accumulation."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

import pytest
from tiny_steps import CONFIG

from saccade import plugins
from saccade.errors import WorkerFailure
from saccade.testing.training_change_conformance import JOB, applying, example_contexts
from saccade.train import batch_probe
from saccade.train.batch_fit import halved
from saccade.train.config import TrainingConfig
from saccade.train.job import refer
from saccade.train.memory_failure import is_out_of_memory
from saccade.train.order import SampleOrder, Ticket


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


def test_a_cuda_graph_is_not_accumulated_over() -> None:
    smaller = halved(CONFIG.with_compute(compile="reduce-overhead"))
    assert smaller is not None
    assert smaller.compute.compile == "default"


@pytest.mark.parametrize("most", range(-1, 12))
def test_the_largest_that_fits_is_found_in_few_tries(most: int) -> None:
    sizes = [2**k for k in range(11)]
    tried: list[int] = []

    def fits(size: int) -> bool:
        tried.append(size)
        return size <= (sizes[min(most, 10)] if most >= 0 else 0)

    expected = sizes[min(most, 10)] if most >= 0 else None
    assert batch_probe.largest_that_fits(sizes, fits) == expected
    assert len(tried) == len(set(tried)) <= 7
    # At most one try is far too large.
    assert sum(size > 4 * (expected or 1) for size in tried) <= 1


def test_what_does_not_fit_ends_its_worker_and_nothing_else(tmp_path: Path) -> None:
    source = JOB.replace("return nn.Sequential(", "return nn.Sequential(Hungry(),", 1)
    hungry = """

class Hungry(nn.Module):
    def forward(self, images):
        self.kept = torch.ones(len(images), 25_000_000)  # 100 MB for each sample
        return images + self.kept[:, :1, None, None]
"""
    (tmp_path / "hungry.py").write_text(source + hungry)
    config = TrainingConfig(refer(str(tmp_path / "hungry.py")))
    limit_mb = 1300.0  # PyTorch itself takes some hundreds
    assert batch_probe.fits_in_memory(config.with_batch(size=1), limit_mb)
    assert not batch_probe.fits_in_memory(config.with_batch(size=32), limit_mb)


def test_other_failures_are_not_taken_for_a_lack_of_memory(tmp_path: Path) -> None:
    assert is_out_of_memory(WorkerFailure("CUDA out of memory. Tried to allocate"))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(WorkerFailure("The worker crashed with SIGSEGV"))


def test_the_largest_batch_is_kept_for_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []

    def fits(config: TrainingConfig, limit_mb: float | None = None) -> bool:
        tried.append(config.batch.size)
        return config.batch.size <= 4

    monkeypatch.setattr(batch_probe, "fits_in_memory", fits)
    context = next(iter(example_contexts(tmp_path)))
    context = replace(context, config=context.config.with_batch(size=1, accumulation=8))
    (change,) = applying(plugins.load("training_changes", "largest_batch"), context)
    after = change.apply(context)
    assert (after.batch.size, after.batch.accumulation) == (4, 2)
    assert sorted(tried) == [2, 4, 8]
    assert change.apply(context) == after
    assert len(tried) == 3
    assert change.applies(replace(context, config=after)) == "no larger batch fits"


def test_the_learning_rate_grows_as_the_user_chose(tmp_path: Path) -> None:
    context = next(iter(example_contexts(tmp_path)))
    kind = plugins.load("training_changes", "larger_batch")
    assert not applying(kind, context)
    allowed = replace(context, allow=frozenset({"batch"}))
    found = {change.label: change.apply(allowed).batch for change in applying(kind, allowed)}
    assert found["larger_batch 16, learning rate linear"].learning_rate_scale == 4
    assert found["larger_batch 16, learning rate sqrt"].learning_rate_scale == 2
