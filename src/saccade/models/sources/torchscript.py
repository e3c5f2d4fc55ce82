"""TorchScript files."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import Any, ClassVar

from saccade.errors import MissingExtraError, ModelError
from saccade.models.sources.contract import ResolvedModel, SourceRequest
from saccade.models.torch_module import LoadedModule, resolve_module

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
        """Make an exported program from it.

        Raises:
            ModelError: the file holds no TorchScript, or it cannot be exported.
            MissingExtraError: torch is not installed.
        """
        path = Path(request.reference)
        side = request.input_size or request.usual_size
        loaded = LoadedModule(
            module=_load(path),
            hw=(side, side),
            note=f"{path.name} is TorchScript",
            export=_export,
        )
        return resolve_module(loaded, request)


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
            f"PyTorch cannot load {path.name}: {str(error).strip().splitlines()[0][:200]}. "
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
