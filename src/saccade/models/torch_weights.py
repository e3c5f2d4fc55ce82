"""Load a state dict into a module, safely and completely."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from saccade.errors import ModelError, first_line

# Under which names training scripts put the state dict in a checkpoint.
_NESTED = ("state_dict", "model_state_dict", "model", "ema")
# What wrappers put in front of every name.
_PREFIXES = ("module.", "model.", "_orig_mod.")
_SHOWN = 3


def load_weights(module: Any, path: Path) -> None:
    """Load the state dict in ``path`` into ``module``; nothing may be left over.

    Raises:
        ModelError: the file is no state dict, or belongs to another architecture.
    """
    state = _without_prefix(_state_dict(path), module.state_dict())
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        missing = [name for name in module.state_dict() if name not in state]
        extra = [name for name in state if name not in module.state_dict()]
        parts = [
            f"{len(names)} {what} ({', '.join(names[:_SHOWN])})"
            for names, what in ((missing, "missing"), (extra, "too many"))
            if names
        ]
        why = "; ".join(parts) or str(error).strip().splitlines()[-1].strip()
        raise ModelError(
            f"The weights in {path.name} do not fit the model: {why}. Check that they belong to "
            "this architecture and number of classes."
        ) from error


def _state_dict(path: Path) -> Mapping[str, Any]:
    import torch

    try:
        # A pickle can run any code; this way of loading admits tensors only.
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ModelError(
            f"The weights {path} cannot be loaded: {first_line(error)}. "
            "Expected a state dict, saved with torch.save(module.state_dict(), path)."
        ) from error
    for name in _NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    if not isinstance(content, Mapping) or not all(isinstance(key, str) for key in content):
        raise ModelError(
            f"The weights {path} are {type(content).__name__}, not a state dict. Save them with "
            "torch.save(module.state_dict(), path)."
        )
    return content


def _without_prefix(state: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    for prefix in _PREFIXES:
        if state and all(name.startswith(prefix) for name in state):
            shorter = {name.removeprefix(prefix): value for name, value in state.items()}
            if len(shorter.keys() & wanted.keys()) > len(state.keys() & wanted.keys()):
                return shorter
    return dict(state)
