"""Exported PyTorch programs to ExecuTorch's ``.pte``."""

from __future__ import annotations

from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from saccade.errors import SaccadeError
from saccade.models.conversions.compared import check_converted
from saccade.models.conversions.contract import (
    ConversionRequest,
    converted_path,
    drafted,
    made_from,
)
from saccade.models.conversions.layers import ALL_FOUND, NO_NAMES, by_name
from saccade.models.conversions.values import program_layers
from saccade.models.files import model_file
from saccade.models.torch_lowering import lowered
from saccade.models.torch_program import read_program, run_program
from saccade.pipeline.config import ModelFile, RuntimeOptions
from saccade.runtimes.contract import SessionRequest
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
            return made_from(model, path)
        program = read_program(model.path)
        request.folder.mkdir(parents=True, exist_ok=True)
        with drafted(path) as draft:
            draft.write_bytes(lowered(program, Path(model.path).name))
            module = program.module(check_guards=False)
            check_converted(
                lambda image: run_program(module, image),
                model_file(draft),
                ExecuTorch,
                request.inputs,
                lambda image: worst_layer(program, image, request.folder),
            )
        return made_from(model, path)


def worst_layer(program: Any, tensor: NDArray[np.float32], folder: Path) -> str:
    """A sentence on the layers that differ once every value is an output of the program.

    XNNPACK runs whole parts of a program and keeps what lies between to itself. So the program is
    lowered once more with all its values as outputs, which a delegate has to hand out.

    Args:
        program: the original.
        tensor: the input, ``(1, 3, H, W)``.
        folder: where the second program may be written for a moment.
    """
    layers = program_layers(program.module(check_guards=False), tensor)
    names = [layer.name for layer in layers if layer.value.dtype == np.float32]
    path = folder / "all-values.pte"
    try:
        path.write_bytes(lowered(_with_outputs(program, names, tensor), "The program"))
        request = SessionRequest(model_file(path), tensor.shape[2:], RuntimeOptions(), "images")
        with closing(ExecuTorch.open(request)) as session:
            found = [np.array(value) for value in session.infer(tensor)]
    except SaccadeError as error:
        return f"No single layer could be named: with all values as outputs, {error}"
    finally:
        path.unlink(missing_ok=True)
    theirs = dict(zip(names, found, strict=True))
    mine = {layer.name: layer.value for layer in layers}
    said = by_name(mine, theirs)
    return ALL_FOUND if said == NO_NAMES else said


def _with_outputs(program: Any, names: list[str], tensor: NDArray[np.float32]) -> Any:
    """The program with the values of the named nodes as its outputs."""
    import torch

    module = program.module(check_guards=False)
    nodes = {node.name: node for node in module.graph.nodes}
    (output,) = [node for node in module.graph.nodes if node.op == "output"]
    output.args = (tuple(nodes[name] for name in names),)
    module.graph._codegen = torch.fx.graph.CodeGen()
    wrapped = torch.fx.GraphModule(module, module.graph)
    return torch.export.export(wrapped, (torch.zeros(tensor.shape),))
