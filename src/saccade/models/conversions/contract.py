"""What a conversion is: one model file in, the same model in another format out."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from saccade import plugins
from saccade.pipeline.config import ModelFile


@dataclass(frozen=True, eq=False)
class ConversionRequest:
    """What a conversion needs beside the model.

    Attributes:
        folder: where the new file goes.
        hw: height and width of the input, pixels.
        inputs: real inputs ``(N, 3, H, W)`` float32 to compare both forms on.
    """

    folder: Path
    hw: tuple[int, int]
    inputs: NDArray[np.float32]


class Conversion(Protocol):
    """From one format to another.

    Attributes:
        source: format that it takes, as in `ModelFile.format`.
        target: format that it makes.
    """

    source: ClassVar[str]
    target: ClassVar[str]

    @staticmethod
    def why_not() -> str | None:
        """None where it can be done here, else what is missing."""
        ...

    @staticmethod
    def convert(model: ModelFile, request: ConversionRequest) -> ModelFile:
        """Make the file, or take the one that an earlier call made.

        Raises:
            ModelError: the model cannot be converted (the operator is named), or the result
                answers differently on ``request.inputs`` (the worst layer is named).
            MissingExtraError: a library is not installed.
        """
        ...


def conversion_to(source: str, targets: Collection[str]) -> Conversion | None:
    """The first conversion from ``source`` to one of ``targets``; None where there is none."""
    for name in plugins.names("conversions"):
        found: Conversion = plugins.load("conversions", name)
        if found.source == source and found.target in targets:
            return found
    return None


def converted_path(model: ModelFile, request: ConversionRequest, ending: str) -> Path:
    """Where the converted file goes: named by the original's content, so that it is made once."""
    height, width = request.hw
    return request.folder / f"{model.sha256[:12]}-{height}x{width}{ending}"
