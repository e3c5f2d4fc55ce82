"""Naming preprocessing mistakes by paired scores, and not naming noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from zlib import crc32

import numpy as np
import pytest

from saccade.models.description import BoxOutputs, InputSpec, ModelDescription, Preprocessing
from saccade.models.label_fit import label_fit
from saccade.models.verify import Score, verify_preprocessing

TRUTH = Preprocessing(channel_order="bgr", scale=1.0, anchor="top_left")


def description(preprocessing: Preprocessing) -> ModelDescription:
    spec = InputSpec("images", "NCHW", (1, 3, 416, 416), "float32")
    return ModelDescription(spec, preprocessing, "yolox", 416, 32, ("a",))


def scorer(
    truth: Preprocessing, images: int, swap_cost: float = 0.04, noise: float = 0.05
) -> tuple[Score, list[Preprocessing]]:
    """A detector that loses everything by wrong scale, and little by swapped channels."""
    calls: list[Preprocessing] = []
    base = np.random.default_rng(1).uniform(0.1, 0.8, images)

    def score(given: ModelDescription) -> np.ndarray:
        now = given.preprocessing
        calls.append(now)
        if (now.scale, now.std) != (truth.scale, truth.std):
            return np.zeros(images)
        jitter = np.random.default_rng(len(calls)).normal(0, noise, images)
        cost = swap_cost * (now.channel_order != truth.channel_order)
        return base + jitter - cost

    return score, calls


def test_right_guess_is_kept() -> None:
    score, calls = scorer(TRUTH, 64)
    found = verify_preprocessing(description(TRUTH), score)
    assert found.mistakes == () and found.description.preprocessing == TRUTH
    assert len(calls) == len(set(calls)) == len(found.scores)
    assert "verified on 64 labelled images" in found.description.evidence[0]


def test_swapped_channels_are_named() -> None:
    score, _ = scorer(TRUTH, 64)
    wrong = replace(TRUTH, channel_order="rgb")
    found = verify_preprocessing(description(wrong), score, metric="mAP50")
    assert found.description.preprocessing == TRUTH
    assert len(found.mistakes) == 1
    assert found.mistakes[0].startswith("channel order: the model reads BGR, not RGB (mAP50 0.")
    assert "on 64 images" in found.mistakes[0]


def test_normalization_and_channels_wrong_at_once() -> None:
    score, _ = scorer(TRUTH, 64)
    found = verify_preprocessing(
        description(Preprocessing(channel_order="rgb", scale=1 / 255, anchor="top_left")), score
    )
    assert found.description.preprocessing == TRUTH
    assert [mistake.split(":")[0] for mistake in found.mistakes] == [
        "normalization",
        "channel order",
    ]


def test_imagenet_statistics_are_found_in_the_order_of_the_channels() -> None:
    bgr = replace(TRUTH, scale=1 / 255, mean=(0.406, 0.456, 0.485), std=(0.225, 0.224, 0.229))
    score, _ = scorer(bgr, 32)
    found = verify_preprocessing(description(TRUTH), score)
    assert found.description.preprocessing == bgr
    assert "ImageNet's mean and std" in found.mistakes[0]


def test_equal_normalizations_are_not_compared() -> None:
    in_pixels = replace(
        TRUTH,
        channel_order="rgb",
        mean=(123.675, 116.28, 103.53),
        std=(58.395, 57.12, 57.375),
    )
    score, _ = scorer(in_pixels, 16)
    found = verify_preprocessing(description(in_pixels), score)
    assert not any("ImageNet" in label for label in found.scores)


@pytest.mark.parametrize("seed", range(20))
def test_noise_is_not_named(seed: int) -> None:
    def score(given: ModelDescription) -> np.ndarray:
        key = f"{given.preprocessing.channel_order} {given.preprocessing.anchor} {seed}"
        if given.preprocessing.scale != 1.0:
            return np.zeros(16)
        return 0.5 + np.random.default_rng(crc32(key.encode())).normal(0, 0.1, 16)

    assert verify_preprocessing(description(TRUTH), score, alpha=0.005).mistakes == ()


def test_too_few_images_say_so() -> None:
    score, _ = scorer(TRUTH, 4)
    found = verify_preprocessing(description(replace(TRUTH, channel_order="rgb")), score)
    assert found.mistakes == ()
    assert any("4 images cannot tell RGB from BGR" in item for item in found.undecided)


def test_explicit_setting_is_named_but_kept() -> None:
    score, _ = scorer(TRUTH, 64)
    wrong = replace(TRUTH, channel_order="rgb")
    found = verify_preprocessing(description(wrong), score, explicit=("channel_order",))
    assert found.description.preprocessing == wrong
    assert "channel_order, set by the user, kept" in found.mistakes[0]


def test_a_wrong_reading_of_the_outputs_is_named() -> None:
    """It hides everything else, so it has to be found before the normalization is judged."""
    right = BoxOutputs(box_format="yxyx", box_unit="normalized", labels=2, first_label=1)
    score, _ = scorer(TRUTH, 32)

    def read(given: ModelDescription) -> np.ndarray:
        found = given.outputs or BoxOutputs()
        names = ("box_unit", "box_format", "first_label")
        right_so_far = [getattr(found, name) == getattr(right, name) for name in names]
        return score(given) * np.mean(right_so_far)

    wrong = replace(right, box_unit="pixels", box_format="xyxy", first_label=0)
    found = verify_preprocessing(replace(description(TRUTH), outputs=wrong), read)
    assert found.description.outputs == right
    assert found.description.preprocessing == TRUTH
    assert [mistake.split(":")[0] for mistake in found.mistakes] == [
        "box unit",
        "labels",
        "box format",
    ]


def test_stretched_images_are_told_from_letterboxed_ones() -> None:
    stretch = replace(TRUTH, fit="stretch")
    base = np.random.default_rng(2).uniform(0.3, 0.8, 24)

    def score(given: ModelDescription) -> np.ndarray:
        return base - 0.2 * (given.preprocessing.fit != "stretch")

    head = replace(description(TRUTH), outputs=BoxOutputs())
    found = verify_preprocessing(head, score)
    assert found.description.preprocessing == stretch
    assert found.mistakes[0].startswith("aspect: the model reads a stretched image")
    yolox = verify_preprocessing(description(TRUTH), score)
    assert yolox.description.preprocessing == TRUTH  # its outputs tell the family


@pytest.mark.parametrize("build", [np.zeros, lambda n: np.full(n, np.nan)])
def test_hopeless_everywhere(build: Callable[[int], np.ndarray]) -> None:
    found = verify_preprocessing(description(TRUTH), lambda _: build(16))
    assert found.mistakes == ()
    assert "finds the labelled objects" in found.undecided[-1]


def test_label_fit() -> None:
    boxes = np.array([[0, 0, 10, 10], [20, 20, 40, 40]], np.float32)
    ids = np.array([0, 1])
    perfect = np.ones(2)
    assert label_fit(boxes, perfect, ids, boxes, ids) == pytest.approx(1)
    assert label_fit(boxes, perfect * 0.5, ids, boxes, ids) == pytest.approx(2 / 3)
    assert label_fit(boxes, perfect, ids[::-1], boxes, ids) == 0
    twice = np.concatenate([boxes, boxes])
    doubled = label_fit(twice, np.ones(4), np.tile(ids, 2), boxes, ids)
    assert doubled == pytest.approx(2 / 3)
    assert label_fit(boxes[:0], perfect[:0], ids[:0], boxes, ids) == 0
    assert np.isnan(label_fit(boxes, perfect, ids, boxes[:0], ids[:0]))
