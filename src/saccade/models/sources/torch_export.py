"""Programs saved by ``torch.export.save`` (``.pt2``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from saccade.models.conversions.contract import ConversionRequest
from saccade.models.conversions.torch_to_onnx import TorchToOnnx
from saccade.models.files import model_file
from saccade.models.sources.contract import ResolvedModel, SourceRequest
from saccade.models.sources.hub import refuse_random
from saccade.models.torch_module import LoadedModule, save_once
from saccade.models.torch_program import input_hw, read_program, tensors
from saccade.models.torch_weights import load_weights
from saccade.pipeline.config import ModelFile


class TorchExportSource:
    """A path that ends in ``.pt2``."""

    looks_for: ClassVar[str] = "a .pt2 file (torch.export.save)"

    @staticmethod
    def recognizes(reference: str) -> bool:
        """By the ending."""
        return Path(reference).suffix.lower() == ".pt2"

    @staticmethod
    def resolve(request: SourceRequest) -> ResolvedModel:
        """The file itself, or a copy with the weights that the user gives, and ONNX made from it.

        Raises:
            ModelError: it is no exported program with one image input, the weights do not fit, or
                ONNX differs from it.
            MissingExtraError: torch is not installed.
        """
        path = Path(request.reference)
        refuse_random(request)
        program = read_program(path)
        hw = input_hw(program, request.input_size or request.usual_size)
        inputs = tensors(request.images(hw))
        note = f"{path.name} runs in PyTorch as it is"
        model = model_file(path)
        if request.weights is not None:
            note = f"{path.name} with the weights in {request.weights.name}"
            model = _with_weights(program, inputs, request)
        onnx = TorchToOnnx.convert(model, ConversionRequest(request.folder, hw, inputs))
        return ResolvedModel(
            model, Path(onnx.path), notes=(f"{note}; ONNX made from it answers the same",)
        )


def _with_weights(program: Any, inputs: NDArray[np.float32], request: SourceRequest) -> ModelFile:
    """The program with other weights, as a file of its own in the request's folder."""
    assert request.weights is not None  # asked by the caller
    module = program.module()
    load_weights(module, request.weights)
    loaded = LoadedModule(module, (inputs.shape[2], inputs.shape[3]), note="")
    # The module's tensors are those of the program, which thereby has the new ones.
    return model_file(save_once(loaded, request, inputs, lambda: program))
