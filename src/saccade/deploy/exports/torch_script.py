"""TorchScript, traced from the PyTorch program that the model came from."""

from __future__ import annotations

import warnings
from dataclasses import replace
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np

from saccade.deploy.exports.contract import ExportRequest, Run
from saccade.deploy.exports.phones import COMPARED, NO_FRAMES, on_runtime
from saccade.errors import ModelError, first_line
from saccade.models.files import model_file
from saccade.pipeline.config import ModelFile, PipelineConfig


class TorchScript:
    """One file that PyTorch runs without the program's own code, at the size it was traced for."""

    name: ClassVar[str] = "torchscript"
    label: ClassVar[str] = "TorchScript"
    precision: ClassVar[str] = "fp32"
    at_any_size: ClassVar[bool] = False

    @staticmethod
    def applies(request: ExportRequest) -> str | None:
        """Needs the program, PyTorch, and frames to compare on."""
        if request.config.model.program is None:
            return "no PyTorch program is known to trace; bring the model as PyTorch"
        if find_spec("torch") is None:
            return "torch is not installed (pip install 'saccade[torch]')"
        return None if request.tensors else NO_FRAMES

    @staticmethod
    def runs(request: ExportRequest) -> tuple[Run, ...]:
        """PyTorch; in half precision only GPUs gain, and they are judged by a file in it."""
        return (
            Run("torch", "fp32"),
            Run("torch", "bf16"),
            Run("torch", "fp16", judged_as="onnx_fp16"),
        )

    @staticmethod
    def write(request: ExportRequest) -> ModelFile:
        """Trace and save.

        Raises:
            ModelError: PyTorch cannot trace the program, or the trace answers differently.
        """
        import torch

        from saccade.models.conversions.compared import check_converted
        from saccade.models.torch_program import read_program, run_program
        from saccade.runtimes.torch import Torch

        program = request.config.model.program
        assert program is not None  # `applies` has looked
        exported = read_program(program)
        target = request.work / "model.torchscript"
        try:
            torch.jit.save(_traced(exported, request.input_hw), str(target))
        except Exception as error:  # whatever an operator's tracing raises
            raise ModelError(f"PyTorch cannot trace the program: {first_line(error)}") from error
        module, made = exported.module(), model_file(target)
        inputs = np.concatenate(request.tensors[:COMPARED])
        check_converted(lambda image: run_program(module, image), made, Torch, inputs)
        return replace(made, program=program)

    @staticmethod
    def config(request: ExportRequest, model: ModelFile) -> PipelineConfig:
        """PyTorch with this file."""
        return on_runtime(request, model, "torch")


def _traced(exported: Any, input_hw: tuple[int, int]) -> Any:
    """A trace for one input size that gives a tensor, or a flat tuple of tensors.

    It is not frozen: devices that run it in half precision convert its weights.
    """
    import torch

    from saccade.models.torch_program import leaves

    # Guards look at values, which a trace would take for part of the model.
    module = exported.module(check_guards=False)

    class Flat(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, image: Any) -> Any:
            found = leaves(self.module(image))
            return found[0] if len(found) == 1 else tuple(found)

    with torch.inference_mode(), warnings.catch_warnings():
        # The program is traced for its one shape, which is what the warnings are about.
        warnings.simplefilter("ignore")
        return torch.jit.trace(Flat(), torch.zeros(1, 3, *input_hw), check_trace=False)
