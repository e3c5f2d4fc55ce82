"""Changes of how data is loaded: when they apply, what they predict, what they set; and facts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_training import Pictures
from torchvision.transforms import v2
from train_images import COUNT, CROP, HW, job, pair_transforms

from saccade import plugins
from saccade.testing.training_change_conformance import example_contexts
from saccade.train.change import TrainingChange, TrainingContext, TrainingMachine
from saccade.train.changes.ddp import DataParallel
from saccade.train.changes.workers import LoaderWorkers
from saccade.train.config import JobReference, TrainingConfig
from saccade.train.facts import facts
from saccade.train.load_prediction import LoadWork
from saccade.train.loaders import dali
from saccade.train.profile import SampleFacts, TrainingProfile
from saccade.train.records import PARTS, LoaderBlock, TrainingBlock
from saccade.train.samples import LoadTimes

DATA = [
    name
    for name in plugins.names("training_changes")
    if plugins.load("training_changes", name).part == "data"
]
LARGE = SampleFacts(
    samples=1000,
    jpeg=1.0,
    file_kb=300.0,
    decoded_mb=6.0,
    source_hw=(1080, 1920),
    input_hw=(224, 224),
    scalable=0.5,
)


def block(step_s: float, data_s: float, steps: int = 4) -> TrainingBlock:
    parts = dict.fromkeys(PARTS, 0.0) | {"data": data_s, "forward": step_s - data_s}
    return TrainingBlock(
        step_s=(step_s,) * steps,
        part_s={name: (seconds,) * steps for name, seconds in parts.items()},
        losses=(1.0,) * steps,
        samples=8 * steps,
        cpu_s=1.0,
        busy_share=1.0,
        peak_rss_mb=1.0,
    )


def context(
    *,
    load_s: float = 0.04,
    compute_s: float = 0.01,
    known: SampleFacts = LARGE,
    machine: dict[str, Any] | None = None,
    device: str = "cpu",
    **loader: Any,
) -> TrainingContext:
    """A job whose samples take ``load_s`` core seconds, half of it decoding."""
    workers = loader.get("workers", 0)
    config = TrainingConfig(JobReference("job.py", "python_file", "0"))
    config = config.with_loader(**loader).with_compute(device=device)
    load = LoadTimes(0.0, 32 * load_s * 0.5, 32 * load_s * 0.4, 32 * load_s * 0.1)
    alone = LoaderBlock((8 * load_s / max(1, workers),) * 4, 32, load, 1.0, 0.0, (1.0,) * 4)
    wait = 8 * (load_s if workers == 0 else max(0.0, load_s / workers - compute_s))
    profile = TrainingProfile(
        config.hash,
        block(8 * compute_s + wait, wait),
        block(8 * compute_s, 0.0),
        alone,
        known,
    )
    given: dict[str, Any] = {"cores": 4, "free_memory_mb": 64e3, "free_disk_mb": 64e3}
    machine_ = TrainingMachine(**{**given, **(machine or {})})
    return TrainingContext(config, profile, machine_, Path("run"), epochs=10)


def changes(name: str, known: TrainingContext) -> list[TrainingChange]:
    return list(plugins.load("training_changes", name).variants(known))


def one(name: str, known: TrainingContext, **parameters: Any) -> Any:
    return next(
        change
        for change in changes(name, known)
        if all(getattr(change, key) == value for key, value in parameters.items())
    )


CONTEXTS = {
    "plain": context(),
    "workers": context(workers=2),
    "gpu": context(workers=4, device="cuda"),
    "cached": context(cache="memory", workers=2),
    "threads": context(backend="threads", workers=2),
    "no images": context(known=SampleFacts(50, refusals={"fast_decode": "none"})),
}


@pytest.mark.parametrize("where", CONTEXTS)
@pytest.mark.parametrize("name", DATA)
def test_a_change_keeps_its_contract(name: str, where: str) -> None:
    known = CONTEXTS[where]
    found = changes(name, known)
    labels = [change.label for change in found]
    assert len(set(labels)) == len(labels) and all(label.startswith(name) for label in labels)
    for change in found:
        assert change.name == name and change.effect in ("exact", "near_lossless", "lossy")
        reason = change.applies(known)
        if reason is not None:
            assert reason
            continue
        said = change.predict(known)
        assert 0 < said.gain <= said.bound * 1.000001 and said.bound >= 1.0 and said.basis
        after = change.apply(known)
        assert after.hash != known.config.hash
        assert TrainingConfig.from_dict(after.to_dict()) == after
        assert change.applies(replace(known, config=after)), "it applies on top of itself"


def test_every_data_change_applies_somewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dali.DaliLoader, "available", staticmethod(lambda: None))
    for name in DATA:
        assert any(
            change.applies(known) is None
            for known in CONTEXTS.values()
            for change in changes(name, known)
        ), name


def test_workers_take_loading_out_of_the_step() -> None:
    # 40 ms of loading and 10 ms of compute on 4 cores: taking turns 50 ms; with 4 workers the
    # cores have 40 + 4 * 10 ms of work, 20 ms of each of them.
    known = context()
    said = one("workers", known, workers=4).predict(known)
    assert said.gain == pytest.approx(0.05 / 0.02) and said.bound == pytest.approx(5.0)
    # On a GPU compute needs no cores: the loader's 10 ms and the GPU's 10 ms side by side.
    beside = context(device="cuda")
    assert one("workers", beside, workers=4).predict(beside).gain == pytest.approx(5.0)


def test_workers_gain_nothing_where_compute_is_all() -> None:
    known = context(load_s=0.0001, compute_s=0.1)
    assert one("workers", known, workers=2).predict(known).gain == pytest.approx(1.0, abs=0.01)


def test_handing_over_is_what_the_workers_own_times_do_not_explain() -> None:
    known = context(workers=2)
    assert LoadWork.of(known.profile, 2).handover == pytest.approx(0.0)
    loader = known.profile.loader
    assert loader is not None
    slow = replace(known.profile, loader=replace(loader, batch_s=(8 * 0.03,) * 4))
    assert LoadWork.of(slow, 2).handover == pytest.approx(0.01)


def test_a_cache_that_does_not_fit_is_refused_with_its_size() -> None:
    known = context(machine={"free_memory_mb": 8000.0})
    said = one("cache", known, where="memory").applies(known)
    assert "6000 MB, kept by 2 processes in a race" in (said or "")
    assert one("cache", known, where="disk").applies(known) is None
    # Reduced images take a quarter of it.
    smaller = context(machine={"free_memory_mb": 8000.0}, decode="scaled")
    assert one("cache", smaller, where="memory").applies(smaller) is None
    # Each of several processes has one of its own, and a race has two trainings of them.
    both = replace(smaller, config=smaller.config.with_scale(processes=2))
    assert one("cache", both, where="memory").applies(both)
    kept = replace(smaller, config=smaller.config.with_loader(cache="memory"))
    kept = replace(kept, allow=frozenset({"scale"}))
    assert "kept by 4 processes" in (DataParallel(2).applies(kept) or "")


def test_a_cache_takes_decoding_away_and_says_what_it_costs() -> None:
    known = context()
    said = one("cache", known, where="memory").predict(known)
    assert said.gain == pytest.approx(0.05 / (0.05 - 0.02 + 6.0 / 4000), rel=0.01)
    assert said.cost_s == pytest.approx(1000 * 0.02 / 4)
    assert one("cache", known, where="disk").apply(known).loader.store == "run"


def test_a_cache_of_resized_samples_needs_less_room_and_takes_resizing_away() -> None:
    known = context(known=replace(LARGE, resized_mb=0.6), machine={"free_memory_mb": 8000.0})
    whole = one("cache", known, where="memory", resized=False)
    small = one("cache", known, where="memory", resized=True)
    assert "decoded samples take 6000 MB" in (whole.applies(known) or "")
    assert small.applies(known) is None
    assert small.label == "cache memory, resized"
    assert small.predict(known).gain > whole.predict(known).gain
    after = replace(known, config=small.apply(known))
    assert after.config.loader.resized and after.config.hash != whole.apply(known).hash
    for name in ("scaled_decode", "thread_loader"):
        assert "kept resized" in (changes(name, after)[0].applies(after) or "")


@pytest.mark.parametrize(
    ("facts_", "loader", "said"),
    [
        ({"resized_mb": 0.6, "refusals": {"cache_resized": "because"}}, {}, "because"),
        ({"resized_mb": 0.0}, {}, "no smaller"),
        ({"resized_mb": 0.6}, {"backend": "threads"}, "not decoded whole"),
        ({"resized_mb": 0.6}, {"decode": "scaled"}, "not decoded whole"),
    ],
)
def test_resized_samples_are_kept_only_where_that_is_possible_and_smaller(
    facts_: dict[str, Any], loader: dict[str, Any], said: str
) -> None:
    known = context(known=replace(LARGE, **facts_), **loader)
    assert said in (one("cache", known, where="disk", resized=True).applies(known) or "")


def test_facts_say_what_resizing_leaves(tmp_path: Path) -> None:
    def augment(split: str) -> list[Any]:
        return [v2.Resize(40), v2.RandomCrop(32)]

    training, config = job(tmp_path, masks=True, transforms=pair_transforms(augment))
    found = facts(training, config)
    assert found.resized_mb == pytest.approx(40 * 53 * 4 / 1e6)
    assert found.decoded_mb == pytest.approx(96 * 128 * 4 / 1e6)
    random, config = job(tmp_path, masks=True)
    assert "resizing" in facts(random, config).refusals["cache_resized"]


def test_reasons_that_samples_give_are_passed_on() -> None:
    known = context(
        known=replace(LARGE, refusals={name: f"because of {name}" for name in DATA}),
        machine={"gpu": "H100"},
    )
    for name in ("fast_decode", "cache", "normalize_on_device", "thread_loader", "shards"):
        assert changes(name, known)[0].applies(known) == f"because of {name}"


def test_where_caches_are_is_no_part_of_the_hash() -> None:
    config = context().config
    assert config.with_loader(store="a").hash == config.with_loader(store="b").hash
    assert config.with_loader(decoder="opencv").hash != config.hash


def test_facts_are_read_from_samples(tmp_path: Path) -> None:
    training, config = job(tmp_path)
    found = facts(training, config)
    assert (found.samples, found.jpeg) == (COUNT, 1.0)
    assert (found.source_hw, found.input_hw) == (HW, (CROP, CROP))
    assert found.decoded_mb == pytest.approx(HW[0] * HW[1] * 3 / 1e6, rel=0.01)
    assert found.scalable == 0.5
    assert set(found.refusals) <= {"shards", "cache_resized"}


def test_facts_leave_the_generators_and_broken_files_alone(tmp_path: Path) -> None:
    training, config = job(tmp_path)
    (tmp_path / "000.jpg").write_bytes(b"")
    torch.manual_seed(3)
    wanted = torch.rand(1)
    torch.manual_seed(3)
    found = facts(training, config)
    assert torch.rand(1) == wanted and found.jpeg == 1.0
    assert "normalize_on_device" not in found.refusals


class Random:
    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return np.random.default_rng().random((3, 8, 8), np.float32), index


def test_facts_say_why_not(tmp_path: Path) -> None:
    training, config = job(
        tmp_path, dataset=lambda split: Random(), transforms=None, collate=lambda samples: samples
    )
    reasons = facts(training, config).refusals
    assert "another sample each time" in reasons["cache"]
    assert "decodes images itself" in reasons["fast_decode"]
    assert "itself" in reasons["vectorized_collate"]
    assert set(reasons) >= {"thread_loader", "dali", "normalize_on_device", "scaled_decode"}


def test_the_same_tensors_may_be_kept(tmp_path: Path) -> None:
    """Although they are pickled with their addresses."""
    training, config = job(tmp_path, dataset=Pictures, transforms=None)
    assert "cache" not in facts(training, config).refusals


def test_places_in_pixels_are_not_scaled(tmp_path: Path) -> None:
    training, config = job(tmp_path)
    pairs = training.dataset("train")

    class Boxes:
        def __len__(self) -> int:
            return len(pairs)

        def __getitem__(self, index: int) -> Any:
            return pairs[index][0], np.zeros((2, 4), np.float32)

    def transforms(split: str) -> Any:
        composed = v2.Compose([v2.Resize((CROP, CROP)), v2.ToDtype(torch.float32, scale=True)])
        return lambda sample: (composed(torch.from_numpy(sample[0]).permute(2, 0, 1)), sample[1])

    boxes = replace(training, dataset=lambda split: Boxes(), transforms=transforms)
    reasons = facts(boxes, config).refusals
    assert "places in pixels" in reasons["scaled_decode"]


def test_the_first_workers_stay_for_the_next_epoch(tmp_path: Path) -> None:
    context = next(iter(example_contexts(tmp_path)))
    assert context.config.loader.workers == 0
    assert LoaderWorkers(2).apply(context).loader.persistent
    assert not LoaderWorkers(2).apply(replace(context, epochs=1)).loader.persistent
    own = replace(context, config=context.config.with_loader(workers=1))
    assert not LoaderWorkers(2).apply(own).loader.persistent
