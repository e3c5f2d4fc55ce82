"""Whether calibration images are of the kind that the model is used on. Pure.

Ranges come from calibration images, so images of another kind (blank, noise, another camera) give
ranges that clip what the model will see, or leave it a few of the 255 levels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from saccade.optimize.quantization.activations import Ranges

# Ranges of equal domains differ from image to image by a tenth or two.
GROSS = 1.6
# Fewer images than this give ranges that others leave.
FEW = 8


@dataclass(frozen=True)
class DomainGap:
    """How much the ranges of activations differ.

    Attributes:
        factor: in the typical layer, the wider of both ranges over the other.
        wider: whether it is the calibration images' ranges that are wider.
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
            f"layer their activations range {self.factor:.1f} times {how} than those of the "
            f"selection images ({self.layers} layers compared), so that the latter would be "
            f"{what}. Calibrate on images from the same source as those to be judged on."
        )


def domain_gap(calibration: Ranges, used: Ranges) -> DomainGap:
    """Compare the median range of every layer.

    Args:
        calibration: of the calibration images.
        used: of images as the model will see them.
    """
    logs = [
        float(np.log(_typical(calibration, name) / _typical(used, name)))
        for name in calibration.low
        if name in used
    ]
    if not logs:
        return DomainGap(1.0, False, 0)
    middle = float(np.median(logs))
    return DomainGap(float(np.exp(np.median(np.abs(logs)))), middle > 0, len(logs))


def _typical(ranges: Ranges, tensor: str) -> float:
    return float(max(np.median(ranges.width(tensor)), 1e-9))
