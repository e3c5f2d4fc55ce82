"""A job's transforms as a plan: all random parameters of a sample are drawn before its pixels.

What is known before decoding can decide how to decode. The parameters are the same that
torchvision draws from the same seed (v0.20 to v0.29, ``transforms/v2/_geometry.py`` and
``_color.py``), so that a planned sample shows what the job's own transforms would have shown.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from saccade.train.transforms.chain import Chain, found_chain, step_name
from saccade.train.transforms.normalization import Normalization, split_normalization
from saccade.train.transforms.pixel_steps import Crop, Flip, Jitter, PixelStep, ResizeTo
from saccade.train.transforms.source_size import FRACTIONS

Size = tuple[int, int]
# Step and generator and size of the image by now → what is done, and the size after it.
Draw = Callable[[Any, Any, Size], tuple[list[PixelStep], Size]]

# These only say how pixels are kept, which the plan decides for itself.
FORMS = frozenset(
    {"ToImage", "ToPILImage", "PILToTensor", "ToDtype", "RGB", "ToPureTensor", "Identity"}
)
_TRIES = 10


@dataclass(frozen=True)
class PixelPlan:
    """What a job's transforms do to a sample.

    Attributes:
        steps: the job's, without forms and normalization.
        normalization: what is left to be done on the batch.
    """

    steps: tuple[Any, ...]
    normalization: Normalization

    def drawn(self, seed: int, hw: Size) -> list[PixelStep]:
        """The steps of the sample with this seed, whose image is of size ``hw``."""
        import torch

        generator = torch.Generator().manual_seed(seed)
        found: list[PixelStep] = []
        for step in self.steps:
            taken, hw = DRAWS[step_name(step)](step, generator, hw)
            found += taken
        return found


def plan_of(transform: Any) -> PixelPlan | str:
    """The plan of a job's transforms, or why they cannot be planned."""
    chain = found_chain(transform)
    if chain is None or chain.library != "torchvision":
        return "the transforms are not a Compose of torchvision"
    split = split_normalization(transform)
    if isinstance(split, str):
        return split
    inner = found_chain(split[0])
    assert inner is not None  # it is the same with fewer steps
    steps = tuple(step for step in inner.steps if step_name(step) not in FORMS)
    reason = _refused(chain, steps)
    return reason or PixelPlan(steps, split[1])


def _refused(chain: Chain, steps: Sequence[Any]) -> str:
    for step in steps:
        name = step_name(step)
        if name not in DRAWS:
            return f"{name} cannot be planned"
        if getattr(step, "antialias", True) is False or _mode(step) is None:
            return f"{name} resizes without anti-aliasing, or in a mode that cannot be planned"
        if name == "RandomCrop" and (step.padding is not None or step.pad_if_needed):
            return "RandomCrop with padding cannot be planned"
        if name == "Resize" and getattr(step, "max_size", None) is not None:
            return "Resize with max_size cannot be planned"
    return ""


def _mode(step: Any) -> str | None:
    mode = getattr(getattr(step, "interpolation", None), "value", "bilinear")
    return mode if mode in ("bilinear", "bicubic") else None


def decode_fraction(steps: Sequence[PixelStep], hw: Size) -> float:
    """The smallest size to decode at, 1/8 to 1, from which these steps enlarge nothing."""
    source, target = hw, None
    for step in steps:
        if isinstance(step, Crop):
            source = (step.height, step.width)
        elif isinstance(step, ResizeTo):
            target = (step.height, step.width)
            break
        elif isinstance(step, Jitter):
            break
    if target is None:
        return 1.0
    least = max(target[0] / source[0], target[1] / source[1])
    return next((fraction for fraction in FRACTIONS if fraction >= least), 1.0)


def _random_resized_crop(step: Any, generator: Any, hw: Size) -> tuple[list[PixelStep], Size]:
    import torch

    def uniform(low: Any, high: Any) -> Any:
        return torch.empty(1).uniform_(float(low), float(high), generator=generator)

    log_ratio = torch.log(torch.tensor(step.ratio))
    crop = None
    for _ in range(_TRIES):
        area = hw[0] * hw[1] * uniform(*step.scale).item()
        aspect = torch.exp(uniform(*log_ratio)).item()
        width, height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < width <= hw[1] and 0 < height <= hw[0]:
            top = _below(hw[0] - height + 1, generator)
            crop = Crop(top, _below(hw[1] - width + 1, generator), height, width)
            break
    size = _pair(step.size)
    return [crop or _central(step.ratio, hw), ResizeTo(*size, _mode(step) or "")], size


def _central(ratio: Sequence[float], hw: Size) -> Crop:
    height, width = hw
    if width / height < min(ratio):
        height = round(width / min(ratio))
    elif width / height > max(ratio):
        width = round(height * max(ratio))
    return Crop((hw[0] - height) // 2, (hw[1] - width) // 2, height, width)


def _resize(step: Any, generator: Any, hw: Size) -> tuple[list[PixelStep], Size]:
    sizes = [step.size] if isinstance(step.size, int) else list(step.size)
    if len(sizes) == 2:
        size = (int(sizes[0]), int(sizes[1]))
    else:
        short = int(sizes[0])
        long = int(short * max(hw) / min(hw))
        size = (long, short) if hw[1] <= hw[0] else (short, long)
    return [ResizeTo(*size, _mode(step) or "")], size


def _center_crop(step: Any, generator: Any, hw: Size) -> tuple[list[PixelStep], Size]:
    height, width = size = _pair(step.size)
    if height > hw[0] or width > hw[1]:
        raise ValueError(f"CenterCrop of {size} from an image of {hw} would need padding")
    return [Crop(round((hw[0] - height) / 2.0), round((hw[1] - width) / 2.0), *size)], size


def _random_crop(step: Any, generator: Any, hw: Size) -> tuple[list[PixelStep], Size]:
    height, width = size = _pair(step.size)
    if height > hw[0] or width > hw[1]:
        raise ValueError(f"RandomCrop of {size} from an image of {hw} would need padding")
    top = _below(hw[0] - height + 1, generator) if hw[0] > height else 0
    left = _below(hw[1] - width + 1, generator) if hw[1] > width else 0
    return [Crop(top, left, *size)], size


def _flip(axis: int) -> Draw:
    def draw(step: Any, generator: Any, hw: Size) -> tuple[list[PixelStep], Size]:
        import torch

        flipped = torch.rand(1, generator=generator) < step.p
        return ([Flip(axis)] if flipped else []), hw

    return draw


def _jitter(step: Any, generator: Any, hw: Size) -> tuple[list[PixelStep], Size]:
    import torch

    order = torch.randperm(4, generator=generator).tolist()
    names = ("brightness", "contrast", "saturation", "hue")
    amounts: dict[str, float] = {}
    for name in names:
        limits = getattr(step, name)
        if limits is not None:
            amounts[name] = torch.empty(1).uniform_(*limits, generator=generator).item()
    changes = tuple((names[i], amounts[names[i]]) for i in order if names[i] in amounts)
    return [Jitter(changes)], hw


DRAWS: dict[str, Draw] = {
    "RandomResizedCrop": _random_resized_crop,
    "Resize": _resize,
    "CenterCrop": _center_crop,
    "RandomCrop": _random_crop,
    "RandomHorizontalFlip": _flip(1),
    "RandomVerticalFlip": _flip(0),
    "ColorJitter": _jitter,
}


def _below(count: int, generator: Any) -> int:
    import torch

    return int(torch.randint(0, count, (1,), generator=generator).item())


def _pair(size: Any) -> Size:
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[-1]))
