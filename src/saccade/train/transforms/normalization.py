"""Splits conversion and normalization off the end of the transforms, to be done on the device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from saccade.train.transforms.chain import Chain, Transform, found_chain, step_name


@dataclass(frozen=True)
class Normalization:
    """``(x / full - mean) / std`` of ``(N, C, H, W)`` uint8, on whichever device it stands.

    Attributes:
        mean: per channel, of values 0-1.
        std: per channel.
        full: the pixel value that counts as 1.
        contiguous: the result has planes of channels also where pixels come with their channels
            side by side; False leaves the layout as it is.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    full: float = 255.0
    contiguous: bool = False

    def __call__(self, pixels: Any) -> Any:
        """Normalized fp32 of ``pixels``; floating point is taken as done."""
        import torch

        if pixels.is_floating_point():
            return pixels
        if self.contiguous:
            pixels = pixels.contiguous()
        shape = (1, -1, 1, 1)
        mean = torch.tensor(self.mean, device=pixels.device).view(shape)
        std = torch.tensor(self.std, device=pixels.device).view(shape)
        # One multiplication and one addition; the constants are folded in double precision.
        factor, offset = 1.0 / (self.full * std.double()), -mean.double() / std.double()
        return torch.addcmul(offset.float(), pixels.float(), factor.float())


def split_normalization(transform: Any) -> tuple[Transform, Normalization] | str:
    """``transform`` without its last steps, and what they do; or why that cannot be done."""
    chain = found_chain(transform)
    if chain is None:
        return "no list of transforms can be found in what transforms(split) returns"
    split = SPLITS[chain.library](chain)
    if split is None:
        names = ", ".join(step_name(step) for step in chain.steps)
        return f"the transforms do not end in a conversion to floating point ({names})"
    steps, normalization = split
    return chain.rebuilt(steps), normalization


def _torchvision(chain: Chain) -> tuple[list[Any], Normalization] | None:
    steps, tail = list(chain.steps), []
    if steps and step_name(steps[-1]) == "ToPureTensor":
        tail = [steps.pop()]
    mean, std = (0.0,), (1.0,)  # type: tuple[float, ...], tuple[float, ...]
    if steps and step_name(steps[-1]) == "Normalize":
        normalize = steps.pop()
        mean, std = tuple(map(float, normalize.mean)), tuple(map(float, normalize.std))
    convert = steps.pop() if steps else None
    instead = _without_floats(convert)
    if instead is None:
        return None
    full = 255.0 if getattr(convert, "scale", True) else 1.0
    return [*steps, *instead, *tail], Normalization(mean, std, full)


def _without_floats(convert: Any) -> list[Any] | None:
    """What of a conversion stays: masks become integers still, images stay bytes."""
    import torch
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    name = step_name(convert)
    if name == "ToTensor":
        return [v2.PILToTensor()]
    if name not in ("ToDtype", "ConvertImageDtype"):
        return None
    dtype = convert.dtype
    if not isinstance(dtype, dict):
        return [] if dtype == torch.float32 else None
    if dtype.get(tv_tensors.Image, dtype.get("others")) != torch.float32:
        return None
    kept = {**dtype, tv_tensors.Image: torch.uint8}
    return [v2.ToDtype(kept, scale=convert.scale)]


def _albumentations(chain: Chain) -> tuple[list[Any], Normalization] | None:
    steps, tail = list(chain.steps), []
    if steps and step_name(steps[-1]) == "ToTensorV2":
        tail = [steps.pop()]
    if not tail or not steps or step_name(steps[-1]) != "Normalize":
        return None
    last = steps[-1]
    if getattr(last, "normalization", "standard") != "standard" or last.p < 1:
        return None
    made = Normalization(
        tuple(map(float, last.mean)), tuple(map(float, last.std)), float(last.max_pixel_value)
    )
    return [*steps[:-1], *tail], made


SPLITS = {"torchvision": _torchvision, "albumentations": _albumentations}
