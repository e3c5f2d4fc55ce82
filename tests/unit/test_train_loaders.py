"""Every way of loading gives the same batches; broken files are left out and counted by all."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms import v2
from train_images import CROP, MEAN, STD, job, pair_transforms

from saccade.errors import DataError, SpecError
from saccade.train.collating import InPlaceCollate
from saccade.train.config import TrainingConfig
from saccade.train.example import example_input
from saccade.train.job import TrainingJob
from saccade.train.loaders.contract import LoaderRequest
from saccade.train.loading import open_loader
from saccade.train.loop import TrainingLoop
from saccade.train.order import SampleOrder
from saccade.train.sample_source import batch_maker
from saccade.train.samples import Loaded, LoadTimes
from saccade.train.transforms.parity import Difference, difference

STEPS = 4

EXACT: dict[str, dict[str, Any]] = {
    "workers": {"workers": 2, "prefetch": 1, "persistent": True},
    "opencv": {"decoder": "opencv"},
    "memory": {"cache": "memory"},
    "memory, workers": {"cache": "memory", "workers": 2},
    "disk": {"cache": "disk", "workers": 1},
    "shards": {"shards": True},
    "in place": {"vectorized_collate": True},
    "in place, workers": {"vectorized_collate": True, "workers": 1},
}
ROUNDED: dict[str, dict[str, Any]] = {
    "device": {"normalize": "device"},
    "all": {"normalize": "device", "vectorized_collate": True, "workers": 1, "cache": "memory"},
    "threads": {"backend": "threads", "workers": 2},
    "threads, cache": {"backend": "threads", "workers": 2, "cache": "memory"},
    "threads, shards": {"backend": "threads", "shards": True, "prefetch": 1},
}
SCALED: dict[str, dict[str, Any]] = {
    "scaled": {"decode": "scaled"},
    "scaled, disk": {"decode": "scaled", "cache": "disk", "workers": 1},
    "scaled, threads": {"backend": "threads", "decode": "scaled"},
    "scaled, threads, cache": {"backend": "threads", "decode": "scaled", "cache": "disk"},
}


def batches(
    training: TrainingJob, config: TrainingConfig, count: int = STEPS, start: int = 0
) -> list[Loaded]:
    """Finished batches, and the loader closed."""
    loader = open_loader(training, config)
    try:
        found = []
        for batch in itertools.islice(loader.batches(start), count):
            inputs, target = batch.data
            inputs = loader.finish(inputs) if loader.finish is not None else inputs
            found.append(replace(batch, data=(inputs.clone(), target.clone())))
        return found
    finally:
        loader.close()
        loader.close()


def apart(wanted: list[Loaded], got: list[Loaded]) -> Difference:
    assert len(wanted) == len(got)
    found = []
    for one, other in zip(wanted, got, strict=True):
        assert one.data[1].dtype == other.data[1].dtype
        compared = difference(one.data, other.data)
        assert not isinstance(compared, str), compared
        found.append(compared)
    return max(found, key=lambda compared: compared.mean)


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("name", [*EXACT, *ROUNDED, *SCALED])
def test_the_same_samples_with_the_same_augmentation(
    tmp_path: Path, name: str, masks: bool
) -> None:
    training, config = job(tmp_path, masks)
    settings = {**EXACT, **ROUNDED, **SCALED}[name]
    changed = config.with_loader(**settings, store=str(tmp_path / "store"))
    found = apart(batches(training, config), batches(training, changed))
    if name in EXACT:
        assert found.largest == 0.0 and found.targets == 0.0
    elif name in ROUNDED:
        assert found.mean < 1e-3 and found.targets == 0.0
    else:  # other pixels of the same crop: any other crop differs by ten times as much
        assert 0.0 < found.mean < 0.1
        assert found.targets < (0.1 if masks else 1e-9)


@pytest.mark.parametrize("backend", ["torch", "threads"])
def test_a_loader_begins_anywhere(tmp_path: Path, backend: str) -> None:
    training, config = job(tmp_path)
    config = config.with_loader(backend=backend)
    later = batches(training, config, 2, start=3)
    assert apart(batches(training, config, 5)[3:], later).largest == 0.0


@pytest.mark.parametrize("settings", [{}, {"backend": "threads"}, {"normalize": "device"}])
def test_held_out_data_comes_in_order_and_whole(tmp_path: Path, settings: dict[str, Any]) -> None:
    training, config = job(tmp_path)
    loader = open_loader(training, config.with_loader(**settings), "val")
    found = list(loader.batches(0))
    loader.close()
    assert [batch.size for batch in found] == [4, 4, 2]
    assert torch.cat([batch.data[1] for batch in found]).tolist() == [i % 4 for i in range(10)]


def test_held_out_data_that_cannot_be_planned_is_loaded_by_pytorch(tmp_path: Path) -> None:
    def augment(split: str) -> list[Any]:
        crop = [v2.RandomResizedCrop(CROP)]
        return crop if split == "train" else [v2.GaussianBlur(3), v2.Resize((CROP, CROP))]

    training, config = job(tmp_path, transforms=pair_transforms(augment))
    config = config.with_loader(backend="threads", workers=2)
    loader = open_loader(training, config, "val")
    assert sum(batch.size for batch in loader.batches(0)) == 10
    loader.close()


BROKEN: list[tuple[str, dict[str, Any]]] = [
    ("empty", {}),
    ("missing", {}),
    ("empty", {"backend": "threads"}),
    ("missing", {"backend": "threads"}),
    ("missing", {"shards": True}),
    ("cut off", {}),
    ("cut off", {"workers": 1}),
    ("cut off", {"decoder": "opencv"}),
    ("cut off", {"cache": "memory"}),
    ("cut off", {"cache": "disk"}),
    ("cut off", {"shards": True}),
    ("cut off", {"decode": "scaled", "cache": "memory"}),
    ("cut off", {"backend": "threads", "decode": "scaled"}),
    ("cut off", {"backend": "threads", "cache": "memory"}),
]


@pytest.mark.parametrize(("how", "settings"), BROKEN)
def test_a_broken_file_is_left_out_and_counted(
    tmp_path: Path, how: str, settings: dict[str, Any]
) -> None:
    training, config = job(tmp_path)
    broken = tmp_path / "004.jpg"
    if how == "missing":
        broken.unlink()
    else:
        size = broken.stat().st_size // 2 if how == "cut off" else 0
        broken.write_bytes(broken.read_bytes()[:size])
    config = config.with_loader(**settings, store=str(tmp_path / "store"))
    found = batches(training, config, 8)
    corrupt = [item for batch in found for item in batch.corrupt]
    assert {item.index for item in corrupt} == {4}
    assert all("004.jpg" in item.reason for item in corrupt)
    assert all(batch.data[0].shape == (4, 3, CROP, CROP) for batch in found)
    # 004 is seen in most of four epochs; in its place stands the next one, with its label.
    labels = torch.cat([batch.data[1] for batch in found])
    assert (labels == 0).sum() < (labels == 1).sum()


@pytest.mark.parametrize("backend", ["torch", "threads"])
def test_too_many_broken_files_are_refused(tmp_path: Path, backend: str) -> None:
    training, config = job(tmp_path)
    for number in (2, 5, 6):
        (tmp_path / f"{number:03d}.jpg").write_bytes(b"\xff\xd8 broken")
    config = replace(config.with_loader(backend=backend), max_corrupt=0.2)
    loop = TrainingLoop(training, config)
    with pytest.raises(DataError, match=r"3 of 10 samples cannot be prepared"):
        for _ in range(8):
            loop.step()
    loop.close()


def test_a_file_that_changed_is_decoded_again(tmp_path: Path) -> None:
    training, config = job(tmp_path)
    cached = config.with_loader(cache="disk", store=str(tmp_path / "store"))
    batches(training, cached)
    from saccade.train import storing

    storing._OPEN.clear()  # as in another process
    (tmp_path / "003.jpg").write_bytes((tmp_path / "007.jpg").read_bytes())
    assert apart(batches(training, config), batches(training, cached)).largest == 0.0


class Relabelled:
    """The same images with other labels; notes which samples were asked for."""

    def __init__(self, dataset: Any) -> None:
        self._dataset, self.asked = dataset, set[int]()

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Any:
        self.asked.add(index)
        image, label = self._dataset[index]
        return image, label + 1


def test_a_label_that_changed_is_seen(tmp_path: Path) -> None:
    training, config = job(tmp_path)
    cached = config.with_loader(cache="disk", store=str(tmp_path / "store"))
    batches(training, cached)
    from saccade.train import storing

    storing._OPEN.clear()  # as in another process
    other = replace(training, dataset=lambda split: Relabelled(training.dataset(split)))
    assert apart(batches(other, config), batches(other, cached)).targets == 0.0


def test_one_batch_is_read_without_filling_a_cache(tmp_path: Path) -> None:
    training, config = job(tmp_path)
    counted = Relabelled(training.dataset("train"))
    training = replace(training, dataset=lambda split: counted)
    loop = TrainingLoop(training, config.with_loader(cache="memory"))
    loop.use_cached_batch()
    assert len(counted.asked) == config.batch.size
    counted.asked.clear()
    example_input(training, config.with_loader(cache="memory"))
    assert len(counted.asked) == 2
    loop.close()


def test_training_is_the_same_by_threads(tmp_path: Path) -> None:
    training, config = job(tmp_path)
    curves = []
    for backend in ("torch", "threads"):
        loop = TrainingLoop(training, config.with_loader(backend=backend))
        curves.append([float(loop.step()) for _ in range(6)])
        loop.close()
    assert curves[0] == pytest.approx(curves[1], rel=1e-3)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"backend": "threads"}, "cannot be used"),
        ({"normalize": "device"}, "Normalizing on the device"),
        ({"decode": "scaled"}, "smaller size is not possible"),
    ],
)
def test_what_a_job_does_not_allow_is_refused(
    tmp_path: Path, settings: dict[str, Any], reason: str
) -> None:
    def transforms(split: str) -> Any:
        return lambda sample: (torch.from_numpy(sample[0].copy()).permute(2, 0, 1), sample[1])

    training, config = job(tmp_path, transforms=transforms)
    with pytest.raises(SpecError, match=reason):
        open_loader(training, config.with_loader(**settings))


def test_threads_leave_batches_to_a_job_that_makes_them(tmp_path: Path) -> None:
    training, config = job(tmp_path, collate=lambda samples: samples)
    with pytest.raises(SpecError, match="makes its batches itself"):
        open_loader(training, config.with_loader(backend="threads"))


def test_collating_in_place_gives_what_stacking_gives() -> None:
    from torch.utils.data import default_collate

    samples = [
        (torch.full((3, 2), float(i)), np.full((2,), i, np.int16), i, {"name": torch.tensor(i)})
        for i in range(3)
    ]
    wanted, got = default_collate(samples), InPlaceCollate()(samples)
    for one, other in zip(wanted[:3], got[:3], strict=True):
        assert one.dtype == other.dtype and torch.equal(one, other)
    assert torch.equal(wanted[3]["name"], got[3]["name"])
    with pytest.raises(RuntimeError, match="equal size"):
        InPlaceCollate()([(torch.zeros(2), 0), (torch.zeros(3), 0)])


def test_albumentations_follow_the_ticket(tmp_path: Path) -> None:
    albumentations = pytest.importorskip("albumentations")
    composed = albumentations.Compose(
        [albumentations.RandomResizedCrop((CROP, CROP)), albumentations.HorizontalFlip(),
         albumentations.Normalize(MEAN, STD), albumentations.pytorch.ToTensorV2()]
    )  # fmt: skip

    def transforms(split: str) -> Any:
        return lambda sample: (composed(image=sample[0])["image"], sample[1])

    training, config = job(tmp_path, transforms=transforms)
    first = batches(training, config)
    assert apart(first, batches(training, config)).largest == 0.0
    assert apart(first, batches(training, config.with_loader(workers=2))).largest == 0.0
    late = batches(training, config.with_loader(normalize="device"))
    assert apart(first, late).largest < 1e-4
    scaled = batches(training, config.with_loader(decode="scaled"))
    assert scaled[0].data[0].shape == (4, 3, CROP, CROP)


@pytest.mark.parametrize("masks", [False, True])
def test_dali_shows_the_same_crops(tmp_path: Path, masks: bool) -> None:
    pytest.importorskip("nvidia.dali")
    training, config = job(tmp_path, masks)
    (tmp_path / "004.jpg").write_bytes((tmp_path / "004.jpg").read_bytes()[:300])
    dali = config.with_loader(backend="dali")
    wanted, got = batches(training, config, 6), batches(training, dali, 6)
    found = apart(wanted, got)
    assert found.mean < 0.02 and found.targets == 0.0
    assert [b.corrupt for b in wanted] == [b.corrupt for b in got]


def test_dali_changes_colours_in_its_own_way(tmp_path: Path) -> None:
    pytest.importorskip("nvidia.dali")

    def augment(split: str) -> list[Any]:
        return [v2.RandomResizedCrop(CROP), v2.ColorJitter(0.3, 0.3)]

    training, config = job(tmp_path, transforms=pair_transforms(augment))
    wanted = batches(training, config)
    found = apart(wanted, batches(training, config.with_loader(backend="dali")))
    assert 0.02 < found.mean < 0.5


def test_dali_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    pytest.importorskip("nvidia.dali")
    training, config = job(tmp_path)
    with pytest.raises(SpecError, match="come from a cache"):
        open_loader(training, config.with_loader(backend="dali", cache="memory"))


def resizing(split: str) -> list[Any]:
    return [v2.Resize(40), v2.CenterCrop((36, 40)), v2.RandomCrop(CROP), v2.RandomHorizontalFlip()]


RESIZED: dict[str, dict[str, Any]] = {
    "memory": {"cache": "memory"},
    "disk, workers": {"cache": "disk", "workers": 2},
    "device, shards": {"cache": "memory", "normalize": "device", "shards": True},
}


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("name", RESIZED)
def test_samples_that_are_kept_resized_are_the_same(tmp_path: Path, name: str, masks: bool) -> None:
    training, config = job(tmp_path, masks, transforms=pair_transforms(resizing))
    settings = {"store": str(tmp_path / "store"), **RESIZED[name]}
    small = config.with_loader(resized=True, **settings)
    wanted, got = batches(training, config, 6), batches(training, small, 6)
    found = apart(wanted, got)
    assert found.largest < 1e-4 and found.targets == 0.0
    # Decoded ones beside them are other samples.
    assert apart(wanted, batches(training, config.with_loader(**settings), 6)).largest < 1e-4


def test_what_is_kept_is_as_small_as_it_becomes(tmp_path: Path) -> None:
    training, config = job(tmp_path, transforms=pair_transforms(resizing))
    order = SampleOrder(10, 4, 0)
    small = config.with_loader(cache="memory", resized=True)
    dataset = training.dataset("train")
    maker, _ = batch_maker(LoaderRequest(training, small, "train", order), dataset)
    kept = maker._samples.raw(0, LoadTimes())
    assert kept[0].shape == (36, 40, 3)


@pytest.mark.parametrize(
    ("augment", "said"),
    [
        (lambda split: [v2.RandomCrop(CROP)], "do not begin with a resizing"),
        (lambda split: [v2.RandomHorizontalFlip(), v2.Resize(CROP)], "do not begin with"),
        (lambda split: [v2.Resize((CROP, CROP), interpolation=0)], "."),
    ],
)
def test_what_cannot_be_kept_resized_is_refused(tmp_path: Path, augment: Any, said: str) -> None:
    training, config = job(tmp_path, transforms=pair_transforms(augment))
    with pytest.raises(SpecError, match=f"Keeping resized samples is not possible: .*{said}"):
        open_loader(training, config.with_loader(cache="memory", resized=True))


def test_resizing_through_another_library_is_not_believed(tmp_path: Path) -> None:
    """Pillow rounds in another way than PyTorch."""

    def transforms(split: str) -> Any:
        chain = v2.Compose([v2.ToPILImage(), v2.Resize(CROP), v2.CenterCrop(CROP)])
        return lambda sample: (v2.functional.to_image(chain(sample[0])).float(), sample[1])

    training, config = job(tmp_path, transforms=transforms)
    with pytest.raises(SpecError, match="resizing first does not give"):
        open_loader(training, config.with_loader(cache="memory", resized=True))
