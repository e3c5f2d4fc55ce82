"""What a quantizer is: one file per library and runtime, one line in `saccade.plugins`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray

from saccade.optimize.quantization.recipe import Estimator, Recipe
from saccade.optimize.quantization.rounding import WEIGHT_STEPS

# Calibration inputs, ``(1, 3, H, W)`` float32 each, as the model sees them.
Samples = Sequence[NDArray[np.float32]]


@dataclass(frozen=True)
class Scheme:
    """Where a quantizer rounds, so that one layer's share can be simulated alone.

    Attributes:
        rounds_outputs: it also rounds what a convolution gives, not only what it takes.
        depthwise_per_channel: inputs of depthwise convolutions have a range per channel.
        mean_ranges: a tensor's one range ends where samples do on average, so that what only few of
            them hold is cut off; else where the widest does. Ranges per channel are the widest.
        halves_depthwise: recipes with halved weights halve those of depthwise layers too; else not,
            because these add no pairs of products.
    """

    rounds_outputs: bool
    depthwise_per_channel: bool
    mean_ranges: bool
    halves_depthwise: bool

    def weight_steps(self, recipe: Recipe, depthwise: bool) -> int:
        """Steps of a weight's range on either side of zero."""
        halved = recipe.halved and (self.halves_depthwise or not depthwise)
        return WEIGHT_STEPS // 2 if halved else WEIGHT_STEPS


class Quantizer(Protocol):
    """Makes int8 files for one runtime, which may have several quantizers.

    Attributes:
        runtime: that the files are for.
        suffix: of the file it writes.
        extra: the saccade extra that brings its library.
        estimators: of ranges, its default first.
        scheme: where it rounds.
    """

    runtime: ClassVar[str]
    suffix: ClassVar[str]
    extra: ClassVar[str]
    estimators: ClassVar[tuple[Estimator, ...]]
    scheme: ClassVar[Scheme]

    @staticmethod
    def missing() -> str | None:
        """The package that is not installed, None where nothing is missing."""
        ...

    @staticmethod
    def quantize(
        model: onnx.ModelProto,
        samples: Samples,
        recipe: Recipe,
        kept_float: Sequence[str],
        target: Path,
    ) -> None:
        """Write the int8 file, whole or not at all.

        Args:
            model: float, every node named.
            samples: to calibrate on.
            recipe: how; equalizing and choosing sensitive layers was done before.
            kept_float: names of layers (nodes with weights) that stay float besides the outputs'.
            target: the file to write.

        Raises:
            RuntimeFailure: the library refused the model.
        """
        ...
