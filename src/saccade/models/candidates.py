"""What the user calls a candidate, and whether it can take the model's place."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from saccade.errors import ModelError
from saccade.model_reference import is_word, path_in
from saccade.models.sources.bare_names import full_name

_UNNAMED = re.compile(r"class_\d+")
# Lists of the same classes spell some of them differently: 'tvmonitor', 'tv'.
_SPELLINGS = 0.2


def full_reference(reference: str) -> str:
    """What a candidate is called in full; a path must lead to a file.

    A single word is the name of a model that one of the installed libraries has. Names with their
    library are looked up when the model is loaded.

    Raises:
        ModelError: there is no such file, or no library knows the word.
    """
    if is_word(reference) and not Path(reference).is_file():
        return full_name(reference)
    _, file, _ = path_in(reference)
    if file and not Path(file).is_file():
        raise ModelError(f"There is no candidate model at '{reference}'. Check the path.")
    return reference


def candidate_name(reference: str) -> str:
    """What to call it: ``yolo11n`` of ``models/yolo11n.onnx`` and of ``ultralytics:yolo11n``."""
    return Path(reference.rpartition(":")[2]).stem


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
