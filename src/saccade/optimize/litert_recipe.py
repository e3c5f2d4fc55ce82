"""`LiteRtRecipe`: how a LiteRT model is quantized. A value, and part of a cache key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from saccade.optimize.quantization.recipe import Sensitive

Ranges = Literal["mean", "inner", "widest"]
Ports = Literal["int8", "float"]


@dataclass(frozen=True)
class LiteRtRecipe:
    """How a ``.tflite`` model is quantized.

    Attributes:
        ports: type of the model's input and outputs.
        ranges: how the ranges of single images make the range of a tensor.
        sensitive: what happens to the layers that int8 disturbs most, as in `Recipe`.
    """

    ports: Ports = "float"
    ranges: Ranges = "mean"
    sensitive: Sensitive = "none"

    @property
    def label(self) -> str:
        """What is special about it, for people."""
        said = {"none": "", "skip": ", float most sensitive layers", "mixed": ", mixed precision"}
        return f"{self.ranges} ranges{said[self.sensitive]}, {self.ports} input and outputs"
