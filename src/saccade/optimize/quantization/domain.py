"""Whether calibration images are of the kind that the model is used on. Pure.

Ranges come from calibration images, so images of another kind (blank, noise, another camera) give
ranges that clip what the model will see, or leave it a few of the 255 levels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saccade.optimize.quantization.activations import Ranges

# On a MobileNetV2, two to fifty images of one kind were within 1.12 of twelve others, another
# camera's at 1.16; noise, blank images and a wrong scale began at 1.6.
GROSS = 1.4
# A channel narrower than this share of the layer's typical one counts as that wide.
LEAST_CHANNEL = 0.05
# Fewer images than this give ranges that others leave.
FEW = 8


@dataclass(frozen=True)
class DomainGap:
    """How much the ranges of activations differ.

    Attributes:
        factor: in the typical layer, the wider of both ranges over the other, averaged over
            channels.
        wider: whether it is the calibration images' ranges that are wider on the whole.
        layers: compared.
    """

    factor: float
    wider: bool
    layers: int

    @property
    def gross(self) -> bool:
        """Whether the images are of another kind."""
        return self.factor > GROSS

    @property
    def reason(self) -> str:
        """What is wrong, and what to do."""
        how = "wider" if self.wider else "narrower"
        what = "left few of the 255 levels" if self.wider else "clipped"
        return (
            "The calibration images are not of the kind that the model is used on: in the typical "
            f"layer the ranges of channels differ {self.factor:.1f} times from those of the "
            f"selection images ({self.layers} layers compared), and on the whole they are "
            f"{how}, so that the latter would be {what}. Calibrate on images from the same source "
            "as those to be judged on."
        )


def domain_gap(calibration: Ranges, used: Ranges) -> DomainGap:
    """Compare the typical range of every channel of every layer.

    Whole tensors would not do: noise fills about as wide a range as photographs, but in other
    channels.

    Args:
        calibration: of the calibration images.
        used: of images as the model will see them.
    """
    logs = [_log_ratios(calibration, used, name) for name in calibration.low if name in used]
    if not logs:
        return DomainGap(1.0, False, 0)
    factor = np.exp(np.median([np.abs(channels).mean() for channels in logs]))
    wider = np.median([channels.mean() for channels in logs]) > 0
    return DomainGap(float(factor), bool(wider), len(logs))


def _log_ratios(calibration: Ranges, used: Ranges, tensor: str) -> NDArray[np.float64]:
    """``(C,)`` log of the channels' typical ranges, calibration over used."""
    first, second = (
        np.median(ranges.high[tensor] - ranges.low[tensor], axis=0).astype(np.float64)
        for ranges in (calibration, used)
    )
    least = LEAST_CHANNEL * float(np.median(second)) + 1e-9
    ratios: NDArray[np.float64] = np.log((first + least) / (second + least))
    return ratios
