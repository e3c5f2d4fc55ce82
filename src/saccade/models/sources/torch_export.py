"""Programs saved by ``torch.export.save`` (``.pt2``)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from saccade.models.conversions.contract import ConversionRequest
from saccade.models.conversions.torch_to_onnx import TorchToOnnx
from saccade.models.files import model_file
from saccade.models.sources.contract import ResolvedModel, SourceRequest
from saccade.models.torch_program import input_hw, read_program, tensors


class TorchExportSource:
    """A path that ends in ``.pt2``."""

    looks_for: ClassVar[str] = "a .pt2 file (torch.export.save)"

    @staticmethod
    def recognizes(reference: str) -> bool:
        """By the ending."""
        return Path(reference).suffix.lower() == ".pt2"

    @staticmethod
    def resolve(request: SourceRequest) -> ResolvedModel:
        """The file itself, and ONNX made from it.

        Raises:
            ModelError: it is no exported program with one image input, or ONNX differs from it.
            MissingExtraError: torch is not installed.
        """
        path = Path(request.reference)
        hw = input_hw(read_program(path), request.input_size or request.usual_size)
        model = model_file(path)
        wanted = ConversionRequest(request.folder, hw, tensors(request.images(hw)))
        onnx = TorchToOnnx.convert(model, wanted)
        note = f"{path.name} runs in PyTorch as it is; ONNX made from it answers the same"
        return ResolvedModel(model, Path(onnx.path), notes=(note,))
