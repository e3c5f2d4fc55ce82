"""From what the user calls a candidate to its model file, and whether it can take the place."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from saccade.errors import ModelError

_UNNAMED = re.compile(r"class_\d+")
# Lists of the same classes spell some of them differently: 'tvmonitor', 'tv'.
_SPELLINGS = 0.2


def resolve_candidate(reference: str) -> Path:
    """The model file that a candidate stands for; the one place that knows what may be given.

    Raises:
        ModelError: there is no such file, or it is the name of a model in a hub.
    """
    path = Path(reference)
    if path.is_file():
        return path
    library, _, name = reference.partition(":")
    if name and not path.is_absolute():
        raise ModelError(
            f"The candidate '{reference}' names the model '{name}' of {library}. Expected an ONNX "
            "file; export that model and give the file."
        )
    raise ModelError(f"There is no candidate model at '{reference}'. Check the path.")


def classes_differ(candidate: Sequence[str], model: Sequence[str]) -> str | None:
    """How a candidate's classes differ from the model's; None where they are the same.

    Names are compared class by class, since results and labels hold ids. Models without names
    are taken to have the same classes where they have as many.
    """
    if len(candidate) != len(model):
        return f"it has {len(candidate)} classes, the model has {len(model)}"
    mine, theirs = _plain(model), _plain(candidate)
    if all(map(_UNNAMED.fullmatch, candidate)) or all(map(_UNNAMED.fullmatch, model)):
        return None
    other = [k for k, (a, b) in enumerate(zip(theirs, mine, strict=True)) if a != b]
    moved = [k for k in other if theirs[k] in mine]
    if moved or len(other) > _SPELLINGS * len(model):
        first = (moved or other)[0]
        return f"class {first} is '{candidate[first]}' there and '{model[first]}' in the model"
    return None


def _plain(names: Sequence[str]) -> list[str]:
    return ["".join(ch for ch in name.casefold() if ch.isalnum()) for name in names]
