"""Functions that return an ``nn.Module``: ``package.module:factory`` or ``file.py:factory``."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from saccade.errors import ModelError
from saccade.models.sources.contract import ResolvedModel, SourceRequest
from saccade.models.torch_module import LoadedModule, resolve_module
from saccade.models.torch_weights import load_weights


class FactorySource:
    """A callable without arguments, with its weights file."""

    looks_for: ClassVar[str] = "package.module:factory or file.py:factory, returning an nn.Module"

    @staticmethod
    def recognizes(reference: str) -> bool:
        """By the colon."""
        module, _, name = reference.rpartition(":")
        return bool(module) and name.isidentifier()

    @staticmethod
    def resolve(request: SourceRequest) -> ResolvedModel:
        """Call the factory, load the weights, export.

        Raises:
            ModelError: the factory cannot be imported, fails, or returns no module.
            MissingExtraError: torch is not installed.
        """
        module = build_module(request.reference).eval()
        note = f"{request.reference}: the module as the factory made it"
        # A factory may load weights of its own, so only their looks tell.
        trained = False if request.random_weights else None
        if request.weights is not None:
            load_weights(module, request.weights)
            note = f"{request.reference} with the weights in {request.weights.name}"
            trained = True
        side = request.input_size or request.usual_size
        return resolve_module(
            LoadedModule(module, (side, side), note=note, trained=trained), request
        )


def build_module(reference: str) -> Any:
    """The module that a factory makes.

    Raises:
        ModelError: the factory cannot be imported, fails, or returns no module.
    """
    where, _, name = reference.rpartition(":")
    try:
        factory = getattr(_imported(where), name)
    except Exception as error:  # whatever the user's code raises
        raise ModelError(
            f"The factory '{reference}' cannot be imported: {type(error).__name__}: {error}. "
            "Expected a function in a module on PYTHONPATH, or in a .py file."
        ) from error
    try:
        module = factory()
    except Exception as error:
        raise ModelError(
            f"The factory '{reference}' failed: {type(error).__name__}: {error}. It is called "
            "without arguments and has to return an nn.Module."
        ) from error
    if not callable(getattr(module, "state_dict", None)):
        raise ModelError(
            f"The factory '{reference}' returned {type(module).__name__}, not an nn.Module."
        )
    return module


def _imported(where: str) -> ModuleType:
    if not where.endswith(".py"):
        return importlib.import_module(where)
    spec = importlib.util.spec_from_file_location(Path(where).stem, where)
    if spec is None or spec.loader is None:
        raise ImportError(f"{where} is no Python file")
    module = importlib.util.module_from_spec(spec)
    # Classes look their module up by name, for instance when they are dataclasses.
    known = sys.modules.setdefault(spec.name, module)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        if known is module:
            del sys.modules[spec.name]
        raise
    return module
