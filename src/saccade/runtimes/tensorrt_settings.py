"""How a TensorRT engine is built. Pure values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

# Factors on the usual side that an engine of dynamic shape is made for.
SMALLEST, LARGEST = 0.5, 2.0
STRIDE = 32
WORKSPACE_MIB = 1024


@dataclass(frozen=True)
class EngineSettings:
    """How an engine is built.

    Attributes:
        hw: height and width of the input; the usual one where the model's shape is dynamic.
        fixed: whether only that size will be asked for.
        fp16: let layers run in half precision.
        int8: let layers run in int8, by the model's own QDQ nodes or by calibration.
        timing_cache: file of kernel timings that is read and extended, so that the next build of
            a like model takes seconds; None for none.
    """

    hw: tuple[int, int]
    fixed: bool = True
    fp16: bool = False
    int8: bool = False
    timing_cache: Path | None = None

    @property
    def shapes(self) -> tuple[tuple[int, int, int, int], ...]:
        """Smallest, usual and largest input shape, NCHW."""
        usual = (1, 3, *self.hw)
        if self.fixed:
            return (usual,) * 3
        low, high = (
            tuple(max(STRIDE, round(side * factor / STRIDE) * STRIDE) for side in self.hw)
            for factor in (SMALLEST, LARGEST)
        )
        return (1, 3, low[0], low[1]), usual, (1, 3, high[0], high[1])
