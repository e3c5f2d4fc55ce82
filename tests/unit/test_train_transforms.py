"""Looking into transforms: the list, the size they need, the end that can wait, the plan."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2
from train_images import HW, MEAN, STD, Pairs, chain, mask, pair_transforms, picture

from saccade.train.decoding import file_bytes
from saccade.train.planned_samples import planned
from saccade.train.samples import seed_everything
from saccade.train.scaled_samples import full_size_crop, reduced_box
from saccade.train.transforms.chain import found_chain
from saccade.train.transforms.normalization import split_normalization
from saccade.train.transforms.parity import difference
from saccade.train.transforms.pixel_steps import Crop, ResizeTo
from saccade.train.transforms.plan import decode_fraction, plan_of
from saccade.train.transforms.source_size import source_fraction

COMPOSED = v2.Compose([v2.Grayscale(1), v2.Identity()])


class Holder:
    def __init__(self) -> None:
        self.chain = v2.Compose([v2.Grayscale(1), v2.Identity()])

    def __call__(self, sample: Any) -> Any:
        return self.chain(sample)

    def prepare(self, sample: Any) -> Any:
        return self.chain(sample)


def by_global(sample: Any) -> Any:
    return COMPOSED(sample)


def by_closure() -> Callable[[Any], Any]:
    inner = v2.Compose([v2.Grayscale(1), v2.Identity()])
    return lambda sample: inner(sample)


@pytest.mark.parametrize(
    "transform", [COMPOSED, by_global, by_closure(), Holder(), Holder().prepare]
)
def test_the_list_is_found_and_replaced_in_a_copy(transform: Callable[[Any], Any]) -> None:
    pixels = torch.zeros((3, 4, 4), dtype=torch.uint8)
    found = found_chain(transform)
    assert found is not None and [type(s).__name__ for s in found.steps] == [
        "Grayscale",
        "Identity",
    ]
    other = found.rebuilt(found.steps[1:])
    assert other(pixels).shape == (3, 4, 4)
    assert transform(pixels).shape == (1, 4, 4)  # what the user has is as it was


def test_two_lists_are_no_list() -> None:
    one, two = v2.Compose([v2.Identity()]), v2.Compose([v2.Identity()])
    assert found_chain(lambda sample: two(one(sample))) is None
    assert found_chain(None) is None and found_chain(3) is None


@pytest.mark.parametrize(
    ("steps", "hw", "fraction"),
    [
        ([v2.Resize((100, 100))], (800, 800), 0.125),
        ([v2.Resize((101, 101))], (800, 800), 0.25),
        ([v2.Resize(256), v2.CenterCrop(224)], (1080, 1920), 0.25),
        ([v2.Resize(256, max_size=400)], (1080, 1920), 1.0),
        # The smallest crop of 1080p is 623 high and wide: 224 of it are more than a quarter.
        ([v2.ToImage(), v2.RandomResizedCrop(224, scale=(0.25, 1.0))], (1080, 1920), 0.5),
        ([v2.RandomResizedCrop(224)], (1080, 1920), 1.0),
        ([v2.RandomCrop(32)], (1080, 1920), 1.0),
        ([v2.GaussianBlur(3), v2.Resize((100, 100))], (800, 800), 1.0),
        ([v2.RandomHorizontalFlip(), v2.Resize((900, 900))], (800, 800), 1.0),
        ([], (800, 800), 1.0),
    ],
)
def test_how_small_images_may_be(steps: list[Any], hw: tuple[int, int], fraction: float) -> None:
    assert source_fraction(steps, hw) == fraction


def test_no_crop_is_ever_smaller_than_its_target() -> None:
    crop, hw = v2.RandomResizedCrop(64, scale=(0.3, 1.0)), (301, 423)
    fraction = source_fraction([crop], hw)
    assert fraction == 0.5
    for seed in range(200):
        torch.manual_seed(seed)
        params = crop.make_params([torch.empty((3, *hw))])
        assert params["height"] * fraction >= 64 and params["width"] * fraction >= 64


def test_a_reduced_crop_shows_the_same_part() -> None:
    crop = v2.RandomResizedCrop(16, scale=(0.3, 0.6))
    reduced = full_size_crop(crop)
    reduced.full_hw = (200, 301)
    for seed in range(20):
        torch.manual_seed(seed)
        whole = crop.make_params([torch.empty((3, 200, 301))])
        torch.manual_seed(seed)
        part = reduced.make_params([torch.empty((3, 50, 76))])
        for name, size, full in (("top", 50, 200), ("left", 76, 301)):
            assert part[name] / size == pytest.approx(whole[name] / full, abs=0.51 / size)
    assert full_size_crop(v2.Identity()).__class__ is v2.Identity


def test_a_reduced_box_stays_inside() -> None:
    assert reduced_box((199, 300, 1, 1), (200, 301), (25, 38)) == (24, 37, 1, 1)
    assert reduced_box((0, 0, 200, 301), (200, 301), (25, 38)) == (0, 0, 25, 38)


@pytest.mark.parametrize(
    "ending",
    [
        [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)],
        [v2.ToDtype(torch.float32, scale=False), v2.Normalize([100.0] * 3, [50.0] * 3)],
        [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD), v2.ToPureTensor()],
        [v2.ToDtype(torch.float32, scale=True)],
    ],
)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_normalizing_later_gives_the_same(ending: list[Any], layout: Any) -> None:
    whole = v2.Compose([v2.CenterCrop(9), *ending])
    split = split_normalization(whole)
    assert not isinstance(split, str)
    early, late = split
    batch = torch.randint(0, 256, (2, 3, 12, 12), dtype=torch.uint8)
    wanted = torch.stack([whole(tv_tensors.Image(image)) for image in batch])
    pixels = torch.stack([early(tv_tensors.Image(image)) for image in batch])
    assert pixels.dtype == torch.uint8
    got = late(pixels.contiguous(memory_format=layout))
    assert got.is_contiguous(memory_format=layout)
    torch.testing.assert_close(got, wanted.as_subclass(torch.Tensor), rtol=1e-5, atol=1e-5)


def test_masks_become_integers_still() -> None:
    split = split_normalization(chain([]))
    assert not isinstance(split, str)
    image, target = split[0](
        tv_tensors.Image(torch.zeros((3, 4, 4), dtype=torch.uint8)),
        tv_tensors.Mask(torch.zeros((4, 4), dtype=torch.uint8)),
    )
    assert (image.dtype, target.dtype) == (torch.uint8, torch.int64)


def test_what_does_not_end_in_it_is_refused_by_name() -> None:
    early = v2.Compose([v2.ToDtype(torch.float32), v2.Normalize(MEAN, STD), v2.GaussianBlur(3)])
    assert "GaussianBlur" in str(split_normalization(early))
    assert "no list" in str(split_normalization(lambda sample: sample))


def test_albumentations_normalize_is_split_too() -> None:
    albumentations = pytest.importorskip("albumentations")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it looks for its newest version on the network
        whole = albumentations.Compose(
            [albumentations.HorizontalFlip(p=1.0), albumentations.Normalize(MEAN, STD),
             albumentations.pytorch.ToTensorV2()]
        )  # fmt: skip
    split = split_normalization(lambda image: whole(image=image)["image"])
    assert not isinstance(split, str)
    image = np.asarray(picture(0, (12, 16)))
    wanted = whole(image=image)["image"]
    got = split[1](split[0](image)[None])[0]
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)


AUGMENTATIONS: dict[str, list[Any]] = {
    "crop": [v2.RandomResizedCrop(32, scale=(0.1, 1.0)), v2.RandomHorizontalFlip()],
    "narrow": [v2.RandomResizedCrop((20, 30), scale=(2.0, 3.0), ratio=(2.0, 3.0))],
    "resize": [v2.Resize(48), v2.RandomCrop(32), v2.RandomVerticalFlip()],
    "center": [v2.Resize((50, 40)), v2.CenterCrop((33, 32))],
    "bicubic": [v2.RandomResizedCrop(32, interpolation=v2.InterpolationMode.BICUBIC)],
    "bright": [v2.CenterCrop(40), v2.ColorJitter(0.4, 0.4)],
    "colours": [v2.CenterCrop(40), v2.ColorJitter(0.3, 0.3, 0.3, 0.1), v2.RandomHorizontalFlip()],
}


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_a_plan_draws_and_does_what_torchvision_does(name: str) -> None:
    own = chain(AUGMENTATIONS[name])
    plan = plan_of(own)
    assert not isinstance(plan, str)
    pixels, classes = np.array(picture(3)), np.array(mask(3))
    for seed in range(12):
        seed_everything(seed)
        wanted = own(
            tv_tensors.Image(torch.from_numpy(pixels).permute(2, 0, 1)),
            tv_tensors.Mask(torch.from_numpy(classes)),
        )
        image, target = pixels, classes
        for step in plan.drawn(seed, HW):
            image, target = step.image(image), step.mask(target)
        batch = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
        apart = difference(wanted, (plan.normalization(batch)[0], target))
        assert not isinstance(apart, str), apart
        assert apart.mean < 3e-3 and apart.targets == 0.0


def test_drawing_leaves_the_global_generators_alone() -> None:
    plan = plan_of(chain(AUGMENTATIONS["colours"]))
    assert not isinstance(plan, str)
    torch.manual_seed(5)
    wanted = torch.rand(1)
    torch.manual_seed(5)
    plan.drawn(1, HW)
    assert torch.rand(1) == wanted


def test_the_drawn_crop_decides_how_small_an_image_is_decoded() -> None:
    resize = ResizeTo(100, 100)
    assert decode_fraction([Crop(0, 0, 400, 800), resize], (1000, 1000)) == 0.25
    assert decode_fraction([Crop(0, 0, 399, 800), resize], (1000, 1000)) == 0.5
    assert decode_fraction([Crop(0, 0, 90, 90), resize], (1000, 1000)) == 1.0
    assert decode_fraction([resize], (800, 800)) == 0.125
    assert decode_fraction([Crop(0, 0, 100, 100)], (1000, 1000)) == 1.0


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ([v2.GaussianBlur(3)], "GaussianBlur"),
        ([v2.RandomCrop(8, padding=2)], "padding"),
        ([v2.Resize(8, antialias=False)], "anti-aliasing"),
        ([v2.Resize(8, max_size=20)], "max_size"),
    ],
)
def test_what_cannot_be_planned_is_named(steps: list[Any], reason: str) -> None:
    assert reason in str(plan_of(chain(steps)))


def test_a_plan_that_misses_what_the_job_does_is_refused(tmp_path: Path) -> None:
    pairs = Pairs(tmp_path, masks=False)
    honest = pair_transforms()("train")
    assert not isinstance(planned(pairs, honest, file_bytes), str)

    def brighter(sample: Any) -> Any:
        x, y = honest(sample)
        return x + 0.2, y

    assert "no list" in str(planned(pairs, brighter, file_bytes)) or "Compose" in str(
        planned(pairs, brighter, file_bytes)
    )

    def secretly() -> Any:
        composed = chain([v2.RandomResizedCrop(32)])

        def apply(sample: Any) -> Any:
            image = tv_tensors.Image(torch.from_numpy(sample[0]).permute(2, 0, 1))
            return composed(image).as_subclass(torch.Tensor) + 0.2, sample[1]

        return apply

    assert "does not give" in str(planned(pairs, secretly(), file_bytes))
