"""Batches that fit, and gradient accumulation."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

import pytest
from tiny_steps import CONFIG

from saccade import plugins
from saccade.errors import OutOfMemory, SpecError, WorkerFailure
from saccade.testing.training_change_conformance import JOB, applying, example_contexts
from saccade.train import batch_probe
from saccade.train.batch_fit import fitting, halved
from saccade.train.change import Scaling, TrainingContext
from saccade.train.config import BatchSettings, TrainingConfig
from saccade.train.job import open_job, refer
from saccade.train.memory_failure import is_out_of_memory
from saccade.train.order import SampleOrder, Ticket
from saccade.train.own_settings import own_config
from saccade.train.subject import JobReader


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
    # Also where the batch fits as it is, such as one that a checkpoint has halved before.
    divided = CONFIG.with_batch(size=4, accumulation=2).with_compute(compile="max-autotune")
    for most in (None, 4):
        assert fitting(divided, most).compute.compile == "max-autotune-no-cudagraphs"
        assert fitting(divided, most).batch == divided.batch
    whole = CONFIG.with_batch(size=8).with_compute(compile="max-autotune")
    assert fitting(whole, None) == whole


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


def refusing_above(most: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Memory for so many samples; the sizes that are tried."""
    tried: list[int] = []

    def fits(config: TrainingConfig, limit_mb: float | None = None) -> bool:
        tried.append(config.batch.size)
        return config.batch.size <= most

    monkeypatch.setattr(batch_probe, "fits_in_memory", fits)
    return tried


def test_the_largest_batch_is_kept_for_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = refusing_above(4, monkeypatch)
    context = next(iter(example_contexts(tmp_path)))
    context = replace(context, config=context.config.with_batch(size=1, accumulation=8))
    (change,) = applying(plugins.load("training_changes", "largest_batch"), context)
    after = change.apply(context)
    assert (after.batch.size, after.batch.accumulation) == (4, 2)
    assert sorted(tried) == [2, 4, 8]
    assert change.apply(context) == after
    assert len(tried) == 3
    assert change.applies(replace(context, config=after)) == "no larger batch fits"


def of_optimizer(context: TrainingContext, name: str | None) -> TrainingContext:
    """The same job, trained by another optimizer."""
    model = replace(context.profile.model, optimizer=name)
    return replace(context, profile=replace(context.profile, model=model))


@pytest.fixture
def batches_allowed(tmp_path: Path) -> TrainingContext:
    """Batches of 4 of many samples, and steps that take no time."""
    context = next(iter(example_contexts(tmp_path)))
    facts = replace(context.profile.facts, samples=10_000)
    profile = replace(context.profile, facts=facts)
    return replace(context, profile=profile, allow=frozenset({"batch"}))


@pytest.mark.parametrize(
    ("optimizer", "chosen", "expected"),
    [
        ("SGD", None, 4.0),
        ("AdamW", None, 2.0),
        (None, None, 2.0),
        ("AdamW", "linear", 4.0),
        ("SGD", "sqrt", 2.0),
        ("SGD", "none", 1.0),
    ],
)
def test_the_learning_rate_grows_as_the_user_chose_or_as_suits_the_optimizer(
    batches_allowed: TrainingContext,
    monkeypatch: pytest.MonkeyPatch,
    optimizer: str | None,
    chosen: Scaling | None,
    expected: float,
) -> None:
    refusing_above(10_000, monkeypatch)
    context = replace(of_optimizer(batches_allowed, optimizer), lr_scaling=chosen)
    size = 4 * context.config.batch.size
    offered = applying(plugins.load("training_changes", "larger_batch"), context)
    (change,) = (change for change in offered if change.size == size)
    assert change.apply(context).batch == BatchSettings(size, 1, expected)


def test_another_effective_batch_has_to_be_allowed(batches_allowed: TrainingContext) -> None:
    kind = plugins.load("training_changes", "larger_batch")
    assert applying(kind, batches_allowed)
    assert not applying(kind, replace(batches_allowed, allow=frozenset()))


def test_batches_are_doubled_until_memory_refuses(
    batches_allowed: TrainingContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = batches_allowed.config.batch.size
    tried = refusing_above(5 * size, monkeypatch)
    kind = plugins.load("training_changes", "larger_batch")
    offered = {change.size: change for change in applying(kind, batches_allowed)}
    assert sorted(offered) == [2 * size, 4 * size, 8 * size, 16 * size, 32 * size]
    with pytest.raises(OutOfMemory, match=f"the largest that does is {4 * size}"):
        offered[16 * size].apply(batches_allowed)
    assert max(tried) <= 8 * size
    assert offered[4 * size].apply(batches_allowed).batch.size == 4 * size
    assert len(tried) == len(set(tried))
    assert [c.size for c in applying(kind, batches_allowed)] == [2 * size, 4 * size]


def test_a_batch_that_learns_worse_has_a_milder_one(batches_allowed: TrainingContext) -> None:
    size = batches_allowed.config.batch.size
    kind = plugins.load("training_changes", "larger_batch")
    (large,) = (c for c in applying(kind, batches_allowed) if c.size == 4 * size)
    half = large.milder(batches_allowed)
    assert half == replace(large, size=2 * size)
    assert half.milder(batches_allowed) is None


def test_a_job_says_how_often_it_accumulates(tmp_path: Path) -> None:
    path = tmp_path / "job.py"
    path.write_text(f"{JOB}\naccumulation = 4\n")
    reference = refer(str(path))
    assert JobReader().read(reference)["accumulation"] == 4
    config = own_config(open_job(reference), reference)
    assert config.batch == BatchSettings(4, 4)
    path.write_text(f"{JOB}\naccumulation = 0\n")
    with pytest.raises(SpecError, match=r"'accumulation' of the job .* is 0"):
        open_job(refer(str(path)))
