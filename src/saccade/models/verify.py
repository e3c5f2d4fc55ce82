"""Verify the assumed preprocessing by accuracy: a mistake is found, and named in words."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.models.description import BoxOutputs, ModelDescription, Preprocessing

Score = Callable[[ModelDescription], NDArray[np.floating]]

# ImageNet's statistics of RGB values from 0 to 1, which most classification backbones use.
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)

# Below this mean score nothing that was tried finds the labelled objects.
_HOPELESS = 0.05
_LEAST_RELATIVE_GAIN = 0.05
_EXACT_UP_TO = 12
_RESAMPLES = 9999


@dataclass(frozen=True)
class Verification:
    """What the comparison found.

    Attributes:
        description: the best one; settings that the user gave are kept. Its evidence says what
            was verified.
        scores: mean score of everything tried, by label.
        mistakes: what was assumed wrongly, in words, one sentence each.
        undecided: what the images could not tell, one sentence each.
    """

    description: ModelDescription
    scores: dict[str, float]
    mistakes: tuple[str, ...] = ()
    undecided: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Alternative:
    """Another value of one factor, with words for it and for what it replaces."""

    factor: str
    label: str
    wrong: str
    preprocessing: Preprocessing
    outputs: BoxOutputs | None = None


@dataclass(frozen=True)
class _Comparison:
    """Paired scores of two settings on the same images."""

    before: float
    after: float
    images: int
    better: bool
    worse: bool


# Conventions that a detector's outputs may follow: the field and its values. Labels come before
# the order of a box's numbers: wrong labels never match, wrongly ordered boxes sometimes do.
_CONVENTIONS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "box unit": ("box_unit", ("pixels", "normalized")),
    "labels": ("first_label", (0, 1)),
    "box format": ("box_format", ("xyxy", "yxyx", "cxcywh")),
}

# The settings that each factor changes, by the names that overrides use. Outputs that are read
# wrongly hide everything else, so they come first.
_FACTORS = {
    **{factor: (name,) for factor, (name, _) in _CONVENTIONS.items()},
    "normalization": ("scale", "mean", "std"),
    "channel order": ("channel_order",),
    "aspect": ("fit",),
    "letterbox": ("anchor",),
}


def verify_preprocessing(
    description: ModelDescription,
    score: Score,
    *,
    tolerance: float = 0.02,
    alpha: float = 0.01,
    explicit: Collection[str] = (),
    metric: str = "score",
) -> Verification:
    """Compare the assumed preprocessing with its plausible alternatives, one factor at a time.

    The coarsest factor comes first (normalization), since a mistake there hides the others; the
    first alternative that wins ends its factor. An alternative wins if it is better on the same
    images by more than ``tolerance``, by more than a twentieth of the current score, and more
    consistently than chance: a one-sided sign-flip test of the paired differences (Fisher 1935)
    at ``alpha``. Swapped colour channels cost a good detector only some points, so sixteen
    images rarely decide on them; sixty-four do, with a smooth score such as
    `saccade.models.label_fit.label_fit`.

    Args:
        description: what is assumed.
        score: gives the score of each image under a description, ``(images,)``, larger is
            better, the same images in the same order each time; NaN for an image to leave out.
        tolerance: the least gain that counts, in units of the score.
        alpha: the chance to name a mistake where there is none, per alternative.
        explicit: names of the settings that the user gave; they are kept even if wrong.
        metric: what to call the score in messages.
    """
    judge = _Judge(score, tolerance, alpha, metric)
    current = description
    judge.begin(current)
    for factor, settings in _FACTORS.items():
        kept = [name for name in settings if name in explicit]
        for alternative in _alternatives(factor, current):
            candidate = replace(
                current,
                preprocessing=alternative.preprocessing,
                outputs=alternative.outputs or current.outputs,
            )
            if not judge.prefers(candidate, current, alternative, kept):
                continue
            if not kept:
                current = candidate
            break
    return judge.verdict(current)


def clearly_better(
    before: NDArray[np.float64], after: NDArray[np.float64], tolerance: float = 0.02
) -> bool:
    """Whether scores of the same images are better than others by the rule of this module.

    Args:
        before: ``(images,)``.
        after: likewise; NaN in either leaves an image out.
        tolerance: the least gain that counts.
    """
    return _compare(before, after, tolerance, 0.01).better


class _Judge:
    """Scores descriptions, each once, and collects what is found."""

    def __init__(self, score: Score, tolerance: float, alpha: float, metric: str) -> None:
        self._score = score
        self._tolerance = tolerance
        self._alpha = alpha
        self._metric = metric
        self._known: dict[Any, NDArray[np.float64]] = {}
        self._scores: dict[str, float] = {}
        self._mistakes: list[str] = []
        self._undecided: list[str] = []

    def begin(self, description: ModelDescription) -> None:
        """Score what is assumed."""
        self._scores["as described"] = _mean(self._values(description))

    def prefers(
        self,
        candidate: ModelDescription,
        current: ModelDescription,
        alternative: _Alternative,
        kept: list[str],
    ) -> bool:
        """Whether the candidate wins; either way, put on record what was seen."""
        result = _compare(
            self._values(current), self._values(candidate), self._tolerance, self._alpha
        )
        self._scores[alternative.label] = result.after
        numbers = (
            f"{self._metric} {result.before:.2f} → {result.after:.2f} on {result.images} images"
        )
        if result.better:
            note = f"; {' and '.join(kept)}, set by the user, kept all the same" if kept else ""
            self._mistakes.append(
                f"{alternative.factor}: the model reads {alternative.label}, "
                f"not {alternative.wrong} ({numbers}{note})"
            )
        elif not result.worse:
            self._undecided.append(
                f"{alternative.factor}: {result.images} images cannot tell {alternative.wrong} "
                f"from {alternative.label} ({numbers})"
            )
        return result.better

    def verdict(self, description: ModelDescription) -> Verification:
        """Everything found."""
        values = self._values(description)
        images = int(np.isfinite(values).sum())
        mean = _mean(values)
        if max(self._scores.values()) < _HOPELESS:
            self._undecided.append(
                f"no preprocessing that was tried finds the labelled objects (best {self._metric} "
                f"{max(self._scores.values()):.2f}): check the decode, the class names, the labels"
            )
        said = (
            f"Preprocessing verified on {images} labelled images: {self._metric} {mean:.2f}, "
            f"{len(self._scores) - 1} alternatives tried.",
            *(f"Corrected by accuracy: {mistake}." for mistake in self._mistakes),
            *(f"Not decided: {item}." for item in self._undecided),
        )
        return Verification(
            replace(description, evidence=description.evidence + said),
            self._scores,
            tuple(self._mistakes),
            tuple(self._undecided),
        )

    def _values(self, description: ModelDescription) -> NDArray[np.float64]:
        key = description.preprocessing, description.outputs
        if key not in self._known:
            self._known[key] = np.asarray(self._score(description), np.float64)
        return self._known[key]


def _alternatives(factor: str, description: ModelDescription) -> Iterator[_Alternative]:
    now = description.preprocessing
    if factor in _CONVENTIONS:
        yield from _conventions(factor, description)
    if factor == "normalization" and description.input.dtype != "uint8":
        wrong = _normalization(now)
        for label, other in _normalizations(now):
            if label != wrong:
                yield _Alternative(factor, label, wrong, other)
    if factor == "channel order":
        # Mean and std belong to colours, so they change places with the channels.
        swapped = replace(
            now,
            channel_order="bgr" if now.channel_order == "rgb" else "rgb",
            mean=now.mean[::-1],
            std=now.std[::-1],
        )
        names = swapped.channel_order.upper(), now.channel_order.upper()
        yield _Alternative(factor, *names, swapped)
    if factor == "aspect":
        yield from _other_aspect(description)
    if factor == "letterbox" and now.fit == "letterbox":
        moved = replace(now, anchor="top_left" if now.anchor == "center" else "center")
        words = {"center": "a centred image", "top_left": "an image at the top left"}
        yield _Alternative(factor, words[moved.anchor], words[now.anchor], moved)


def _conventions(factor: str, description: ModelDescription) -> Iterator[_Alternative]:
    """The same outputs, read by another convention."""
    outputs = description.outputs
    if outputs is None:
        return
    name, values = _CONVENTIONS[factor]
    present = getattr(outputs, name)
    for value in values:
        if value != present:
            other = replace(outputs, **{name: value})
            words = f"{name} {value}", f"{name} {present}"
            yield _Alternative(factor, *words, description.preprocessing, other)


def _other_aspect(description: ModelDescription) -> Iterator[_Alternative]:
    """Open only for detectors whose outputs do not tell the family that they are of."""
    now = description.preprocessing
    if description.outputs is None or now.fit == "center_crop":
        return
    words = "a stretched image", "an image of its own aspect"
    if now.fit == "letterbox":
        yield _Alternative("aspect", *words, replace(now, fit="stretch"))
    else:
        yield _Alternative("aspect", *words[::-1], replace(now, fit="letterbox"))


def _normalizations(now: Preprocessing) -> list[tuple[str, Preprocessing]]:
    """The usual normalizations, the likeliest first."""
    mean, std = _IMAGENET_MEAN, _IMAGENET_STD
    if now.channel_order == "bgr":
        mean, std = mean[::-1], std[::-1]
    zero, one = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return [
        ("values from 0 to 1 (scale 1/255)", replace(now, scale=1 / 255, mean=zero, std=one)),
        ("values from 0 to 255 (scale 1)", replace(now, scale=1.0, mean=zero, std=one)),
        ("values from -1 to 1", replace(now, scale=1 / 127.5, mean=one, std=one)),
        (
            "values normalized with ImageNet's mean and std",
            replace(now, scale=1 / 255, mean=mean, std=std),
        ),
    ]


def _normalization(now: Preprocessing) -> str:
    """Words for the present normalization; what gives equal tensors has equal words."""
    slope, offset = _affine(now)
    for label, other in _normalizations(now):
        other_slope, other_offset = _affine(other)
        if np.allclose(slope, other_slope, rtol=0.01) and np.allclose(
            offset, other_offset, atol=0.02 * float(np.max(other_slope)) * 255
        ):
            return label
    return f"scale {now.scale:.4g} with mean {now.mean} and std {now.std}"


def _affine(now: Preprocessing) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    std = np.asarray(now.std)
    return now.scale / std, -np.asarray(now.mean) / std


def _compare(
    before: NDArray[np.float64], after: NDArray[np.float64], tolerance: float, alpha: float
) -> _Comparison:
    both = np.isfinite(before) & np.isfinite(after)
    gain = after[both] - before[both]
    means = _mean(before[both]), _mean(after[both])
    return _Comparison(
        *means,
        images=int(both.sum()),
        better=_wins(gain, means[0], tolerance, alpha),
        worse=_wins(-gain, means[1], tolerance, alpha),
    )


def _wins(gain: NDArray[np.float64], base: float, tolerance: float, alpha: float) -> bool:
    if not len(gain) or gain.mean() <= max(tolerance, _LEAST_RELATIVE_GAIN * base):
        return False
    return _sign_flip_p(gain) <= alpha


def _sign_flip_p(gain: NDArray[np.float64]) -> float:
    """Chance of a mean this large if the sign of every difference were a coin toss."""
    moved = gain[gain != 0]
    if not len(moved):
        return 1.0
    if len(moved) <= _EXACT_UP_TO:
        signs = np.array(list(product((-1.0, 1.0), repeat=len(moved))))
        return float(np.mean(signs @ moved >= moved.sum() - 1e-12))
    signs = np.random.default_rng(0).choice((-1.0, 1.0), (_RESAMPLES, len(moved)))
    return float((1 + np.sum(signs @ moved >= moved.sum() - 1e-12)) / (1 + _RESAMPLES))


def _mean(values: NDArray[np.float64]) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else 0.0
