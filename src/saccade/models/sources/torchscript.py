"""TorchScript files."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import Any, ClassVar

from saccade.errors import MissingExtraError, ModelError, first_line
from saccade.models.conversions.values import script_layers
from saccade.models.files import model_file
from saccade.models.script_onnx import script_onnx
from saccade.models.sources.contract import ResolvedModel, SourceRequest
from saccade.models.sources.hub import refuse_random
from saccade.models.torch_module import ExportError, LoadedModule, resolve_module
from saccade.models.torch_program import tensors
from saccade.models.torch_weights import load_weights

_ENDINGS = (".pt", ".pth", ".ts", ".torchscript")


class TorchScriptSource:
    """A path to a file that ``torch.jit.save`` wrote."""

    looks_for: ClassVar[str] = "a TorchScript .pt file (torch.jit.save)"

    @staticmethod
    def recognizes(reference: str) -> bool:
        """By the ending."""
        return Path(reference).suffix.lower() in _ENDINGS

    @staticmethod
    def resolve(request: SourceRequest) -> ResolvedModel:
        """Make an exported program from it; ONNX alone where that is refused.

        Raises:
            ModelError: the file holds no TorchScript, the weights do not fit, or it can be
                exported in neither way.
            MissingExtraError: torch is not installed.
        """
        path = Path(request.reference)
        refuse_random(request)
        module = _load(path)
        note = f"{path.name} is TorchScript"
        if request.weights is not None:
            load_weights(module, request.weights)
            note += f", with the weights in {request.weights.name}"
        side = request.input_size or request.usual_size
        loaded = LoadedModule(module, (side, side), note, export=_export, layers=script_layers)
        try:
            return resolve_module(loaded, request)
        except ExportError as error:
            return _as_onnx(loaded, request, error)


def _as_onnx(loaded: LoadedModule, request: SourceRequest, refused: ExportError) -> ResolvedModel:
    """The model as ONNX, for a program that PyTorch's newer exporter does not take.

    Raises:
        ModelError: the older one refuses it too; both reasons are given.
    """
    inputs = tensors(request.images(loaded.hw))
    try:
        graph = script_onnx(loaded, request.folder, inputs)
    except ModelError as error:
        raise ModelError(f"{refused} The older exporter was tried as well. {error}") from error
    note = (
        f"{loaded.note}; torch.export refuses it, so it runs as ONNX, which answers the same: what "
        "needs a PyTorch program, such as pruning and training, is not open to it"
    )
    return ResolvedModel(model_file(graph), graph, loaded.hints, notes=(note,))


def _load(path: Path) -> Any:
    if not path.is_file():
        raise ModelError(f"The model file {path} does not exist. Check the path.")
    _refuse_pickles(path)
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError("torch", "torch", "A TorchScript model") from error
    try:
        return torch.jit.load(str(path), map_location="cpu").eval()
    except Exception as error:
        raise ModelError(
            f"PyTorch cannot load {path.name}: {first_line(error)}. "
            "Save it again with torch.jit.save."
        ) from error


def _refuse_pickles(path: Path) -> None:
    """A state dict or a pickled module is not a program; loading the latter would run any code."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any("/code/" in name for name in archive.namelist()):
                return
    raise ModelError(
        f"{path.name} holds no program: it is a state dict or a pickled module. Name what builds "
        "the module as the model (package.module:factory, file.py:factory, torchvision:NAME) and "
        "give the state dict as 'weights'; or save TorchScript or a .pt2."
    )


def _export(module: Any, example: Any) -> Any:
    """TorchScript as an exported program, by PyTorch's own converter."""
    from torch._export.converter import TS2EPConverter

    with warnings.catch_warnings():
        # Buffers that only training uses are reported one by one.
        warnings.simplefilter("ignore")
        return TS2EPConverter(module, (example,)).convert()
