"""From an ``nn.Module`` to files: an exported program, and ONNX that answers the same."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.errors import ModelError, first_line
from saccade.models.conversions.contract import ConversionRequest, drafted
from saccade.models.conversions.layers import NO_NAMES, Layer, by_value
from saccade.models.conversions.torch_to_onnx import TorchToOnnx
from saccade.models.conversions.values import module_layers, program_layers
from saccade.models.equivalence import check_same
from saccade.models.files import model_file
from saccade.models.sources.contract import ResolvedModel, SourceRequest
from saccade.models.torch_program import read_program, run_program, tensors, untouched

PROGRAM = "model.pt2"
STAMP = "model.source.json"

# From a module and one example input to an exported program.
Export = Callable[[Any, Any], Any]
# Every value that a module computes on one input.
Layers = Callable[[Any, NDArray[np.float32]], Sequence[Layer]]


class ExportError(ModelError):
    """The module cannot be made into an exported program."""


@dataclass(frozen=True, eq=False)
class LoadedModule:
    """A module in evaluation mode, and what its source knows about it.

    Attributes:
        hw: height and width of its input, pixels.
        note: one sentence on where it comes from.
        hints: settings of `saccade.models.overrides`.
        trained: False where the weights are random; None where that has to be told by looks.
        export: how it becomes an exported program; None for ``torch.export``.
        layers: what it computes on the way, for naming the layer that an export got wrong.
    """

    module: Any
    hw: tuple[int, int]
    note: str
    hints: Mapping[str, Any] = field(default_factory=dict)
    trained: bool | None = True
    export: Export | None = None
    layers: Layers = module_layers


def resolve_module(loaded: LoadedModule, request: SourceRequest) -> ResolvedModel:
    """Export the module into the request's folder, once, and compare on real images.

    Raises:
        ExportError: it cannot be exported.
        ModelError: an exported form answers differently; the worst layer is named.
    """
    inputs = tensors(request.images(loaded.hw))
    model = model_file(save_once(loaded, request, inputs, lambda: _exported(loaded, inputs[:1])))
    onnx = TorchToOnnx.convert(model, ConversionRequest(request.folder, loaded.hw, inputs))
    trained, said = _judged(loaded)
    note = f"{loaded.note}{said}; exported, and ONNX made from it answers the same"
    return ResolvedModel(model, Path(onnx.path), loaded.hints, trained, (note,))


def save_once(
    loaded: LoadedModule,
    request: SourceRequest,
    inputs: NDArray[np.float32],
    make: Callable[[], Any],
) -> Path:
    """The file of an exported program, made unless an earlier run made the same.

    Args:
        loaded: what the program has to answer like.
        request: says where it goes.
        inputs: real inputs ``(N, 3, H, W)`` to compare both on.
        make: exports it.

    Raises:
        ModelError: what was made answers differently; the worst layer is named.
    """
    import torch

    path = request.folder / PROGRAM
    stamp = {
        "reference": request.reference,
        "state": state_hash(loaded.module),
        "hw": list(loaded.hw),
        "torch": str(torch.__version__),
    }
    what = f"The exported program of {request.reference}"
    if _is_fresh(request.folder, stamp):
        # Weights are stamped and code is not, so that an old file may be of another network.
        with contextlib.suppress(ModelError):
            _compare(loaded, path, inputs, what)
            return path
    request.folder.mkdir(parents=True, exist_ok=True)
    (request.folder / STAMP).unlink(missing_ok=True)
    with drafted(path) as draft:
        torch.export.save(make(), str(draft))
        _compare(loaded, draft, inputs, what)
    (request.folder / STAMP).write_text(json.dumps(stamp), encoding="utf-8")
    return path


def _compare(loaded: LoadedModule, path: Path, inputs: NDArray[np.float32], what: str) -> None:
    module = read_program(path).module()
    for tensor in inputs:
        check_same(
            run_program(loaded.module, tensor[None]),
            run_program(module, tensor[None]),
            what,
            lambda tensor=tensor: worst_layer(loaded, module, tensor[None]),  # type: ignore[misc]
        )


def worst_layer(loaded: LoadedModule, program: Any, tensor: NDArray[np.float32]) -> str:
    """A sentence on the layers whose values an exported program does not have.

    Args:
        loaded: the original.
        program: the module of what it was exported to.
        tensor: the input, ``(1, 3, H, W)``.
    """
    found = [layer.value for layer in program_layers(program, tensor)]
    try:
        original = loaded.layers(loaded.module, tensor)
    except RuntimeError:  # a program that cannot be taken apart; that it differs is still said
        return NO_NAMES
    # What hands the image on unchanged is right.
    return by_value(original, [tensor, *found])


def _judged(loaded: LoadedModule) -> tuple[bool, str]:
    """Whether the weights are trained, and what to say where only their looks tell."""
    if loaded.trained is not None:
        return loaded.trained, ""
    if untouched(loaded.module.state_dict()):
        return False, (
            ", which looks untrained: every batch normalization still has the statistics that it "
            "was made with"
        )
    return True, ", taken for trained, since no weights were given and it does not look untrained"


def _is_fresh(folder: Path, stamp: dict[str, Any]) -> bool:
    """Whether an earlier run exported the same; a new export would have another hash."""
    try:
        known = json.loads((folder / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(known == stamp) and (folder / PROGRAM).is_file()


def state_hash(module: Any) -> str:
    """SHA-256 over the names and values of a module's state dict."""
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
        raise ExportError(
            f"torch.export refuses the module: {first_line(error)}. Its forward has to take one "
            "image (1, 3, H, W), without control flow that depends on values; or bring ONNX."
        ) from error
