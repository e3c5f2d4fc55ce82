"""What a model source is: from what the user wrote to files that a runtime takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from saccade.errors import ModelError
from saccade.models.files import model_file
from saccade.pipeline.config import ModelFile

# Real images of a height and width, ``(N, H, W, 3)`` RGB uint8.
Images = Callable[[tuple[int, int]], NDArray[np.uint8]]


def noise(hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Two images of noise, where there is nothing real to look at."""
    return np.random.default_rng(0).integers(0, 256, (2, *hw, 3), np.uint8)


@dataclass(frozen=True)
class SourceRequest:
    """What the user asks for.

    Attributes:
        reference: a path, ``package.module:factory``, or a name such as ``torchvision:resnet50``.
        folder: where files that have to be made go.
        weights: a state dict to load into the module that the reference makes.
        random_weights: the user wants the architecture without training.
        input_size: side of the input in pixels, where the user chose one.
        usual_size: side that models of the task usually have.
        images: real images, for comparing a converted model with the original.
    """

    reference: str
    folder: Path
    weights: Path | None = None
    random_weights: bool = False
    input_size: int | None = None
    usual_size: int = 224
    images: Images = noise


@dataclass(frozen=True)
class ResolvedModel:
    """A model that can be run and described.

    Attributes:
        model: the file, in the form nearest to what the user brought; the baseline runs it.
        graph: the same model as ONNX, which is what descriptions are read from.
        hints: settings of `saccade.models.overrides` that the source knows; the user's come first.
        trained: False where the weights are random.
        notes: sentences on what was done.
        outline: ``graph`` is for reading only (`saccade.models.ir_outline`), since the model cannot
            be made into ONNX.
    """

    model: ModelFile
    graph: Path
    hints: Mapping[str, Any] = field(default_factory=dict)
    trained: bool = True
    notes: tuple[str, ...] = ()
    outline: bool = False

    @property
    def nearest_onnx(self) -> ModelFile:
        """The model as ONNX, or as the user brought it where it cannot be that."""
        return self.model if self.outline else model_file(self.graph)

    @property
    def onnx(self) -> ModelFile:
        """The model as ONNX.

        Raises:
            ModelError: it cannot be that.
        """
        if self.outline:
            raise ModelError(
                f"{Path(self.model.path).name} cannot be made into ONNX, which estimates and files "
                "for other machines start from. Give the ONNX or PyTorch model that it was made "
                "from."
            )
        return model_file(self.graph)


class ModelSource(Protocol):
    """One kind of reference.

    Attributes:
        looks_for: what it takes, for messages.
    """

    looks_for: ClassVar[str]

    @staticmethod
    def recognizes(reference: str) -> bool:
        """Whether the reference is of this kind; looks at no more than it must."""
        ...

    @staticmethod
    def resolve(request: SourceRequest) -> ResolvedModel:
        """Load the model and make the files.

        Raises:
            ModelError: the model cannot be found, loaded or converted.
            MissingExtraError: it needs a library that is not installed.
        """
        ...


@runtime_checkable
class LibrarySource(ModelSource, Protocol):
    """A source of models that a library knows by name.

    Attributes:
        prefix: what stands before the name, with the colon.
    """

    prefix: ClassVar[str]

    @staticmethod
    def names() -> tuple[str, ...]:
        """What the library knows; nothing where it is not installed."""
        ...
