"""One check of calibration images for every quantizer: enough of them, and of the right kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from saccade.errors import DataError
from saccade.optimize.change import PlanContext
from saccade.optimize.quantization.activations import Ranges
from saccade.optimize.quantization.calibration import CalibrationData, compared_tensors
from saccade.optimize.quantization.contract import Samples
from saccade.optimize.quantization.domain import FEW, domain_gap
from saccade.pipeline.config import PipelineConfig

# Ranges of activations on some inputs, in whatever runs the model.
Observe = Callable[[Samples], Ranges]
# Calibration inputs that are looked at where looking is slow.
LOOKED_AT = 24


def why_not_calibrated(context: PlanContext) -> str | None:
    """None where a study has enough to calibrate on, else the reason why not."""
    return why_too_few(len(context.calibration) if context.calibration else 0, context.video)


def why_too_few(images: int, video: bool) -> str | None:
    """None where there is enough to calibrate on, else the reason why not.

    Args:
        images: how many calibrate.
        video: whether there is a video, which gives frames enough, whatever images there are.
    """
    if video or images > 1:
        return None
    if not images:
        return "there are no frames to calibrate on: no video, and no images"
    return (
        "there is a single image to calibrate on, whose ranges no other image would keep to; give "
        "some tens of images of the kind that the model will see"
    )


def check_calibration(
    config: PipelineConfig, data: CalibrationData, ranges: Ranges, observe: Observe
) -> list[str]:
    """Refuse images of another kind than those to be judged on; say where there are few.

    Args:
        config: how the model is fed.
        data: what calibrates, and what that is compared with.
        ranges: of the calibration inputs.
        observe: how they were found.

    Returns:
        Doubts, for people; none where all is well.

    Raises:
        DataError: the calibration images are not of the kind that the model is used on.
    """
    doubts = []
    few = len(next(iter(ranges.low.values()), ()))
    if few < FEW:
        doubts.append(f"only {few} images calibrate; {FEW} or more give steadier ranges")
    if data.compared:
        gap = domain_gap(ranges, observe(compared_tensors(config, data)))
        if gap.gross:
            raise DataError(gap.reason)
    return doubts


def spread(samples: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    """At most `LOOKED_AT` of the inputs, from all over them."""
    step = -(-len(samples) // LOOKED_AT)
    return list(islice(samples, 0, None, max(1, step)))
