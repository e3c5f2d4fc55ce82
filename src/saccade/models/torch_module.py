"""From an ``nn.Module`` to files: an exported program, and ONNX that answers the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from saccade.errors import ModelError
from saccade.models.conversions.contract import ConversionRequest
from saccade.models.conversions.torch_to_onnx import TorchToOnnx
from saccade.models.equivalence import check_same
from saccade.models.files import model_file
from saccade.models.sources.contract import ResolvedModel, SourceRequest
from saccade.models.torch_program import read_program, run_program, tensors

PROGRAM = "model.pt2"
STAMP = "model.source.json"

# From a module and one example input to an exported program.
Export = Callable[[Any, Any], Any]


@dataclass(frozen=True, eq=False)
class LoadedModule:
    """A module in evaluation mode, and what its source knows about it.

    Attributes:
        hw: height and width of its input, pixels.
        note: one sentence on where it comes from.
        hints: settings of `saccade.models.overrides`.
        trained: False where the weights are random.
        export: how it becomes an exported program; None for ``torch.export``.
    """

    module: Any
    hw: tuple[int, int]
    note: str
    hints: Mapping[str, Any] = field(default_factory=dict)
    trained: bool = True
    export: Export | None = None


def resolve_module(loaded: LoadedModule, request: SourceRequest) -> ResolvedModel:
    """Export the module into the request's folder, once, and compare on real images.

    Raises:
        ModelError: it cannot be exported, or an exported form answers differently.
    """
    import torch

    inputs = tensors(request.images(loaded.hw))
    path = request.folder / PROGRAM
    stamp = {
        "reference": request.reference,
        "state": _state_hash(loaded.module),
        "hw": list(loaded.hw),
        "torch": str(torch.__version__),
    }
    if not _is_fresh(request.folder, stamp):
        request.folder.mkdir(parents=True, exist_ok=True)
        program = _exported(loaded, inputs[:1])
        torch.export.save(program, str(path))
        (request.folder / STAMP).write_text(json.dumps(stamp), encoding="utf-8")
    module = read_program(path).module()
    for tensor in inputs:
        check_same(
            run_program(loaded.module, tensor[None]),
            run_program(module, tensor[None]),
            f"The exported program of {request.reference}",
        )
    model = model_file(path)
    onnx = TorchToOnnx.convert(model, ConversionRequest(request.folder, loaded.hw, inputs))
    note = f"{loaded.note}; exported, and ONNX made from it answers the same"
    return ResolvedModel(model, Path(onnx.path), loaded.hints, loaded.trained, (note,))


def _is_fresh(folder: Path, stamp: dict[str, Any]) -> bool:
    """Whether an earlier run exported the same; a new export would have another hash."""
    try:
        known = json.loads((folder / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(known == stamp) and (folder / PROGRAM).is_file()


def _state_hash(module: Any) -> str:
    state = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        state.update(name.encode())
        if hasattr(value, "detach"):
            state.update(value.detach().cpu().contiguous().reshape(-1).numpy().tobytes())
    return state.hexdigest()


def _exported(loaded: LoadedModule, example: Any) -> Any:
    import torch

    export = loaded.export or (lambda module, tensor: torch.export.export(module, (tensor,)))
    try:
        return export(loaded.module, torch.from_numpy(example))
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"torch.export refuses the module: {first[:300]}. Its forward has to take one image "
            "(1, 3, H, W), without control flow that depends on values; or bring ONNX."
        ) from error
