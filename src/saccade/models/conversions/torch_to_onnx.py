"""Exported PyTorch programs to ONNX, by ``torch.onnx``."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from saccade.errors import MissingExtraError, ModelError
from saccade.models.conversions.contract import (
    ConversionRequest,
    converted_path,
    drafted,
    made_from,
)
from saccade.models.conversions.layers import by_name
from saccade.models.conversions.values import onnx_layers, program_layers
from saccade.models.equivalence import check_same
from saccade.models.onnx_file import read_onnx
from saccade.models.onnx_run import run_once
from saccade.models.onnx_save import save_onnx
from saccade.models.torch_program import read_program, run_program
from saccade.pipeline.config import ModelFile

INPUT = "images"


class TorchToOnnx:
    """``.pt2`` to ``.onnx``."""

    source: ClassVar[str] = "torch_export"
    target: ClassVar[str] = "onnx"

    @staticmethod
    def why_not() -> str | None:
        """It needs torch and onnxscript."""
        from importlib.util import find_spec

        missing = [name for name in ("torch", "onnxscript") if find_spec(name) is None]
        return f"{' and '.join(missing)} not installed" if missing else None

    @staticmethod
    def convert(model: ModelFile, request: ConversionRequest) -> ModelFile:
        """See `saccade.models.conversions.contract.Conversion`."""
        path = converted_path(model, request, ".onnx")
        if path.exists():
            return made_from(model, path)
        program = read_program(model.path)
        request.folder.mkdir(parents=True, exist_ok=True)
        with drafted(path) as draft:
            save_onnx(_onnx(program, Path(model.path).name), draft)
            _compare(program, draft, request.inputs)
        return made_from(model, path)


def _onnx(program: Any, name: str) -> Any:
    try:
        import onnxscript  # noqa: F401  # torch.onnx needs it and says so less clearly
        import torch
    except ImportError as error:
        raise MissingExtraError("onnxscript", "torch", "Making ONNX from PyTorch") from error
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            # What the exporter says about its own insides helps nobody who converts a model.
            warnings.simplefilter("ignore")
            made = torch.onnx.export(
                program, dynamo=True, input_names=[INPUT], verbose=False, external_data=False
            )
        assert made is not None
        return made.model_proto
    except Exception as error:
        raise ModelError(
            f"{name} cannot be made into ONNX: {_reason(error)}. It still runs in PyTorch; bring "
            "ONNX, or replace that operator."
        ) from error


def _reason(error: BaseException) -> str:
    """The innermost cause's first line: torch.onnx wraps what went wrong in a page of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


def _compare(program: Any, path: Path, inputs: NDArray[np.float32]) -> None:
    model, module = read_onnx(path), program.module()
    for tensor in inputs:
        check_same(
            run_program(module, tensor[None]),
            run_once(model, {INPUT: tensor[None]}),
            "The ONNX made from it",
            lambda tensor=tensor: worst_layer(program, path, tensor[None]),  # type: ignore[misc]
        )


def worst_layer(program: Any, path: Path, tensor: NDArray[np.float32]) -> str:
    """A sentence on the layers whose outputs differ, found by running both with all of them.

    ``torch.onnx`` gives the values of a graph the names that the program's nodes have.

    Args:
        program: the original.
        path: ONNX made from it.
        tensor: the input, ``(1, 3, H, W)``.
    """
    mine = {layer.name: layer.value for layer in program_layers(program.module(), tensor)}
    theirs = {layer.name: layer.value for layer in onnx_layers(read_onnx(path), tensor)}
    return by_name(mine, theirs)
