"""Exported PyTorch programs to ExecuTorch's ``.pte``."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

from saccade.errors import ModelError
from saccade.models.conversions.compared import check_converted
from saccade.models.conversions.contract import ConversionRequest, converted_path, write_origin
from saccade.models.files import model_file
from saccade.models.torch_lowering import lowered
from saccade.models.torch_program import read_program, run_program
from saccade.pipeline.config import ModelFile
from saccade.runtimes.executorch import ExecuTorch


class TorchToExecuTorch:
    """``.pt2`` to ``.pte``, delegated to XNNPACK."""

    source: ClassVar[str] = "torch_export"
    target: ClassVar[str] = "executorch"

    @staticmethod
    def why_not() -> str | None:
        """It needs executorch."""
        if find_spec("executorch") is None:
            return "executorch is not installed (pip install 'saccade[executorch]')"
        return None

    @staticmethod
    def convert(model: ModelFile, request: ConversionRequest) -> ModelFile:
        """See `saccade.models.conversions.contract.Conversion`."""
        path = converted_path(model, request, ".pte")
        if path.exists():
            return model_file(path)
        program = read_program(model.path)
        request.folder.mkdir(parents=True, exist_ok=True)
        # Under another name until it has been compared: a file that is there counts as right.
        draft = path.with_suffix(".draft.pte")
        draft.write_bytes(lowered(program, Path(model.path).name))
        module = program.module(check_guards=False)
        try:
            check_converted(
                lambda image: run_program(module, image),
                model_file(draft),
                ExecuTorch,
                request.inputs,
            )
        except ModelError:
            draft.unlink()
            raise
        write_origin(path, model)
        draft.replace(path)
        return model_file(path)
