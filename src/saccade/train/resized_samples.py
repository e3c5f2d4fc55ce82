"""Samples that are kept after the resizing with which their transforms begin.

Only what is the same each time may be kept: the leading ``Resize`` and ``CenterCrop`` of a chain,
before anything random. They are taken out of the chain and done once, when a sample is decoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from saccade.train.decoding import Decoder
from saccade.train.planned_samples import readable_tickets
from saccade.train.samples import LoadTimes, Samples, kept_randomness
from saccade.train.transforms.chain import Transform, found_chain, step_name
from saccade.train.transforms.parity import worst
from saccade.train.transforms.plan import DRAWS

# Steps that are the same each time, and those beside them that only say how pixels are kept.
SAME_EACH_TIME = frozenset({"Resize", "CenterCrop"})
FORMS = frozenset({"ToImage", "ToPILImage", "PILToTensor", "RGB", "ToPureTensor", "Identity"})


class ResizedSamples(Samples):
    """`Samples` whose images are resized as they are decoded; see `resized_samples`.

    Args:
        dataset: map-style.
        transform: the job's, without ``leading``.
        leading: steps that are done once.
    """

    def __init__(
        self, dataset: Any, transform: Transform, leading: Sequence[Any], **settings: Any
    ) -> None:
        super().__init__(dataset, transform, **settings)
        self._leading = tuple(leading)

    def opened(self, sample: Any) -> Any:
        """A sample of the data set, decoded and resized."""
        return resized(super().opened(sample), self._leading)


def resized(sample: Any, steps: Sequence[Any]) -> Any:
    """A decoded sample with its image resized, and a mask beside it likewise.

    Args:
        sample: an image ``(H, W)`` or ``(H, W, C)`` uint8, or a tuple that begins with one; other
            arrays of its height and width are masks.
        steps: of torchvision, the same each time.
    """
    if not isinstance(sample, tuple):
        return _through(sample, steps, mask=False)
    image, *rest = sample
    hw = tuple(getattr(image, "shape", ())[:2])
    beside = (
        _through(part, steps, mask=True)
        if getattr(part, "ndim", 0) == 2 and part.shape == hw
        else part
        for part in rest
    )
    return (_through(image, steps, mask=False), *beside)


def _through(pixels: Any, steps: Sequence[Any], *, mask: bool) -> Any:
    for step in steps:
        height, width = pixels.shape[:2]
        # Nothing is drawn, so that no generator is needed.
        drawn, _ = DRAWS[step_name(step)](step, None, (height, width))
        for one in drawn:
            pixels = one.mask(pixels) if mask else one.image(pixels)
    return pixels


def resized_samples(
    dataset: Any, transform: Transform | None, decode: Decoder, seed: int = 0, **settings: Any
) -> ResizedSamples | str:
    """Samples that are kept resized, or why that is impossible.

    It is not believed: on a few samples it has to give what the job's own transforms give.

    Args:
        dataset: map-style.
        transform: the job's.
        decode: who decodes whole images.
        seed: of the samples that are compared.
        settings: of `Samples`, such as its cache.
    """
    chain = found_chain(transform)
    if chain is None or chain.library != "torchvision":
        return "the transforms are not a Compose of torchvision"
    leading, rest = _divided(chain.steps)
    if not leading:
        return "the transforms do not begin with a resizing that is the same each time"
    own = Samples(dataset, transform, decode)
    late = chain.rebuilt(rest)
    trial = ResizedSamples(dataset, late, leading, decode=decode)
    tickets = readable_tickets(own, seed)
    with kept_randomness():
        found = worst(
            lambda number: own.ready(tickets[number], LoadTimes()),
            lambda number: trial.ready(tickets[number], LoadTimes()),
            range(len(tickets)),
        )
    if isinstance(found, str):
        return found
    if not found.rounding:
        return (
            "resizing first does not give what the job's transforms give (inputs differ by "
            f"{found.mean:.1%} of their spread, targets in {found.targets:.1%})"
        )
    return ResizedSamples(dataset, late, leading, decode=decode, **settings)


def leading_steps(transform: Transform | None) -> list[Any]:
    """The steps with which a job's transforms begin that are the same each time."""
    chain = found_chain(transform)
    return [] if chain is None else _divided(chain.steps)[0]


def _divided(steps: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Leading steps that are the same each time, and all others in their order."""
    leading, rest = [], []  # type: list[Any], list[Any]
    for place, step in enumerate(steps):
        name = step_name(step)
        if name not in SAME_EACH_TIME | FORMS:
            return leading, [*rest, *steps[place:]]
        (leading if name in SAME_EACH_TIME else rest).append(step)
    return leading, rest
