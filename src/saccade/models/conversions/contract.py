"""What a conversion is: one model file in, the same model in another format out."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from saccade import plugins
from saccade.models.files import model_file
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


@dataclass(frozen=True)
class Route:
    """Several conversions, one after the other; each is checked against the one before.

    Attributes:
        steps: in order.
    """

    steps: tuple[Conversion, ...]

    @property
    def source(self) -> str:
        """Format that the first step takes."""
        return self.steps[0].source

    def why_not(self) -> str | None:
        """None where every step can be done here, else what the first lacks."""
        return next((reason for step in self.steps if (reason := step.why_not())), None)

    def convert(self, model: ModelFile, request: ConversionRequest) -> ModelFile:
        """Make the last file by way of the others."""
        for step in self.steps:
            model = step.convert(model, request)
        return model


def conversion_to(source: str, targets: Collection[str]) -> Conversion | Route | None:
    """The shortest way from ``source`` to one of ``targets`` that can be gone here.

    Where none can, the shortest that there is, which says what it lacks; None where there is none.
    """
    every = [plugins.load("conversions", name) for name in plugins.names("conversions")]
    ways: list[tuple[Conversion, ...]] = [(step,) for step in every if step.source == source]
    found: list[Conversion | Route] = []
    for way in ways:  # grows while it is read: shorter ways come first
        if way[-1].target in targets:
            found.append(way[0] if len(way) == 1 else Route(way))
            continue
        seen = {source, *(step.target for step in way)}
        onward = (s for s in every if s.source == way[-1].target and s.target not in seen)
        ways += [(*way, step) for step in onward]
    return next((way for way in found if way.why_not() is None), found[0] if found else None)


def way_from(model: ModelFile, targets: Collection[str]) -> Conversion | Route | None:
    """The best way to one of ``targets``: from the program behind a model, else from the model.

    A program is nearer to what the user brought, and leads further. Where its way cannot be gone
    here and the model's can, that one is taken.
    """
    formats = ["torch_export"] if model.program is not None else []
    ways = [conversion_to(kind, targets) for kind in (*formats, model.format)]
    found = [way for way in ways if way is not None]
    return next((way for way in found if way.why_not() is None), found[0] if found else None)


def start_of(model: ModelFile, way: Conversion | Route) -> ModelFile:
    """The file that a way of `way_from` starts with.

    Raises:
        ModelError: the program behind the model is no longer there.
    """
    if way.source == model.format:
        return model
    assert model.program is not None  # `way_from` found no other start
    return model_file(model.program)


@contextlib.contextmanager
def drafted(path: Path) -> Iterator[Path]:
    """Where to write a file until it has been compared: one that is there counts as right.

    The draft takes the name ``path`` at the end, and is gone where something fails.
    """
    draft = path.with_suffix(f".draft{path.suffix}")
    try:
        yield draft
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    draft.replace(path)


def program_of(model: ModelFile) -> str | None:
    """The exported PyTorch program behind a model file; None where there is none."""
    return model.path if model.format == "torch_export" else model.program


def made_from(model: ModelFile, path: Path) -> ModelFile:
    """A file that was made from a model, whose program it remembers."""
    return replace(model_file(path), program=program_of(model))


def converted_path(model: ModelFile, request: ConversionRequest, ending: str) -> Path:
    """Where the converted file goes: named by the original's content, so that it is made once."""
    height, width = request.hw
    return request.folder / f"{model.sha256[:12]}-{height}x{width}{ending}"
