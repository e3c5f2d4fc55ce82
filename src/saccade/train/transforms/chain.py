"""Finds the list of transforms in what a job returned, and makes a copy with another list.

A job's ``transforms(split)`` may return the list itself (a ``Compose`` of torchvision or of
albumentations), or a function or object that holds one. What the user returned is never changed:
a copy is made that holds another list.
"""

from __future__ import annotations

import copy
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Transform = Callable[[Any], Any]


@dataclass(frozen=True)
class Chain:
    """A list of transforms, found.

    Attributes:
        library: ``"torchvision"`` or ``"albumentations"``.
        steps: the transforms, in order.
        rebuilt: the job's transform again, with these steps in the place of its own.
        compose: what holds the list.
    """

    library: str
    steps: tuple[Any, ...]
    rebuilt: Callable[[Sequence[Any]], Transform]
    compose: Any


def step_name(step: Any) -> str:
    """The class of a transform, by which it is recognized: importing its library is not needed."""
    return type(step).__name__


def found_chain(transform: Any) -> Chain | None:
    """The one list of transforms in ``transform``; None where there is none, or more than one."""
    library = _library(transform)
    if library:
        steps = tuple(transform.transforms)
        return Chain(library, steps, lambda new: _composed(transform, new), transform)
    for holder in (_in_method, _in_function, _in_object):
        found: Chain | None = holder(transform)
        if found is not None:
            return found
    return None


def _library(value: Any) -> str:
    module = type(value).__module__
    if type(value).__name__ != "Compose" or not hasattr(value, "transforms"):
        return ""
    if module.startswith("torchvision.transforms"):
        return "torchvision"
    return "albumentations" if module.startswith("albumentations") else ""


def _composed(compose: Any, steps: Sequence[Any]) -> Any:
    # A copy and not a new object: albumentations keeps settings beside the list.
    made = copy.copy(compose)
    made.transforms = list(steps)
    return made


def _in_method(transform: Any) -> Chain | None:
    if not isinstance(transform, types.MethodType):
        return None
    inner = _in_object(transform.__self__)
    if inner is None:
        return None
    function = transform.__func__
    return Chain(
        inner.library,
        inner.steps,
        lambda new: types.MethodType(function, inner.rebuilt(new)),
        inner.compose,
    )


def _in_function(transform: Any) -> Chain | None:
    if not isinstance(transform, types.FunctionType):
        return None
    cells = transform.__closure__ or ()
    held = [i for i, cell in enumerate(cells) if _library(_contents(cell))]
    used = [n for n in transform.__code__.co_names if _library(transform.__globals__.get(n))]
    if len(held) + len(used) != 1:
        return None
    if held:
        compose = cells[held[0]].cell_contents
        return _chain(compose, lambda made: _with_cell(transform, held[0], made))
    compose = transform.__globals__[used[0]]
    return _chain(compose, lambda made: _with_global(transform, used[0], made))


def _in_object(transform: Any) -> Chain | None:
    held = [k for k, value in getattr(transform, "__dict__", {}).items() if _library(value)]
    if len(held) != 1 or isinstance(transform, types.FunctionType | types.ModuleType):
        return None

    def rebuilt(made: Any) -> Any:
        other = copy.copy(transform)
        other.__dict__ = {**vars(transform), held[0]: made}
        return other

    return _chain(vars(transform)[held[0]], rebuilt)


def _chain(compose: Any, rebuilt: Callable[[Any], Transform]) -> Chain:
    steps = tuple(compose.transforms)
    library = _library(compose)
    return Chain(library, steps, lambda new: rebuilt(_composed(compose, new)), compose)


def _contents(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # the variable has no value yet
        return None


def _with_cell(function: types.FunctionType, place: int, value: Any) -> Transform:
    cells = list(function.__closure__ or ())
    cells[place] = types.CellType(value)
    return _copied(function, function.__globals__, tuple(cells))


def _with_global(function: types.FunctionType, name: str, value: Any) -> Transform:
    return _copied(function, {**function.__globals__, name: value}, function.__closure__)


def _copied(
    function: types.FunctionType,
    names: dict[str, Any],
    cells: tuple[types.CellType, ...] | None,
) -> Transform:
    made = types.FunctionType(
        function.__code__, names, function.__name__, function.__defaults__, cells
    )
    made.__kwdefaults__ = function.__kwdefaults__
    return made


def own_generator(transform: Any) -> Callable[[int], None] | None:
    """How to seed transforms that do not draw from the global generators; None where they do."""
    chain = found_chain(transform)
    seed: Callable[[int], None] | None = getattr(chain and chain.compose, "set_random_seed", None)
    return seed
