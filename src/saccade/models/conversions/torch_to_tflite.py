"""Exported PyTorch programs to LiteRT's ``.tflite``, by LiteRT Torch in its own environment."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

from saccade.environments.tool_environment import ToolEnvironment
from saccade.errors import ModelError, RuntimeFailure
from saccade.models.conversions.compared import check_converted
from saccade.models.conversions.contract import (
    ConversionRequest,
    converted_path,
    drafted,
    made_from,
)
from saccade.models.conversions.layers import by_value
from saccade.models.conversions.tflite_values import tflite_values, why_not_litert
from saccade.models.conversions.values import program_layers
from saccade.models.files import model_file
from saccade.models.torch_program import read_program, run_program
from saccade.pipeline.config import ModelFile
from saccade.runtimes.litert import LiteRt

ENVIRONMENT = ToolEnvironment("litert")
# How LiteRT Torch and its compiler spell the name of an operator they have no lowering for.
_OPERATOR = re.compile(r"(?:aten|torchvision|prims)(?:::|\.)[\w.]+|'tf\.\w+'|'stablehlo\.\w+'")


class TorchToTflite:
    """``.pt2`` to ``.tflite`` with its input in NHWC."""

    source: ClassVar[str] = "torch_export"
    target: ClassVar[str] = "tflite"

    @staticmethod
    def why_not() -> str | None:
        """It needs its tool environment, and the runtime to compare with."""
        return why_not_litert(ENVIRONMENT)

    @staticmethod
    def convert(model: ModelFile, request: ConversionRequest) -> ModelFile:
        """See `saccade.models.conversions.contract.Conversion`."""
        path = converted_path(model, request, ".tflite")
        if path.exists():
            return made_from(model, path)
        request.folder.mkdir(parents=True, exist_ok=True)
        with drafted(path) as draft:
            _write(model, draft, request.hw)
            module = read_program(model.path).module()
            check_converted(
                lambda image: run_program(module, image),
                model_file(draft),
                LiteRt,
                request.inputs,
                lambda image: by_value(program_layers(module, image), tflite_values(draft, image)),
            )
        return made_from(model, path)


def _write(model: ModelFile, target: Path, hw: tuple[int, int]) -> None:
    document = {"program": str(Path(model.path).resolve()), "target": str(target.resolve())}
    try:
        ENVIRONMENT.run(
            "torch_to_tflite", {**document, "hw": list(hw)}, "Making LiteRT's format from PyTorch"
        )
    except RuntimeFailure as error:
        raise ModelError(_refusal(Path(model.path).name, str(error))) from error


def _refusal(name: str, said: str) -> str:
    """What to tell people: the operator, where one is to blame."""
    found = _OPERATOR.search(said)
    lines = said.strip().splitlines() or ["no reason given"]
    cause = f"it has no lowering for the operator {found[0]}" if found else lines[0][:300]
    return (
        f"{name} cannot be made into LiteRT's format: {cause}. It still runs in PyTorch; replace "
        "that operator, or use another runtime."
    )
