"""ONNX files, taken as they are."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from saccade.errors import ModelError
from saccade.models.files import model_file
from saccade.models.onnx_file import read_onnx
from saccade.models.sources.contract import ResolvedModel, SourceRequest


class OnnxSource:
    """A path that ends in ``.onnx``; also what `resolve_model` takes any other file for."""

    looks_for: ClassVar[str] = "an .onnx file"

    @staticmethod
    def recognizes(reference: str) -> bool:
        """By the ending."""
        return Path(reference).suffix.lower() == ".onnx"

    @staticmethod
    def resolve(request: SourceRequest) -> ResolvedModel:
        """The file itself.

        Raises:
            ModelError: it cannot be read, or weights were given beside it.
        """
        if request.weights is not None:
            raise ModelError(
                f"'weights' was given, but {Path(request.reference).name} has its own. Leave "
                "'weights' out, or name the architecture that they belong to as the model."
            )
        read_onnx(request.reference, weights=False)  # says best what a file is instead
        return ResolvedModel(model_file(request.reference), Path(request.reference))
