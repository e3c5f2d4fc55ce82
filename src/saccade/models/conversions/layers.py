"""Which layer a conversion got wrong, from the values of both forms of a model. Pure.

A converter renames, fuses and reorders layers, so most formats leave no names to go by. Their
values are looked for instead: a value of the original that the converted model has somewhere was
computed rightly, whatever it is called there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.models.equivalence import TOLERANCE, difference

NO_NAMES = "No single layer could be named: their names were lost in the conversion."
ALL_FOUND = (
    "Run layer by layer it has every value of the original, so what differs are the kernels that "
    "the runtime fuses them into."
)


@dataclass(frozen=True, eq=False)
class Layer:
    """One step of the original and its value.

    Attributes:
        name: in the original.
        value: what it computed.
        reads: names of the layers whose values it takes.
    """

    name: str
    value: NDArray[Any]
    reads: tuple[str, ...] = ()


def by_name(mine: Mapping[str, NDArray[Any]], theirs: Mapping[str, NDArray[Any]]) -> str:
    """A sentence on the layers that differ, where both forms call them the same.

    Args:
        mine: the original's values, in the order of execution.
        theirs: those of the converted model.
    """
    off = {name: difference(mine[name], theirs[name]) for name in mine if name in theirs}
    wrong = [name for name, value in off.items() if value > TOLERANCE]
    if not wrong:
        return NO_NAMES
    worst = max(wrong, key=lambda name: off[name])
    return f"The first layer to differ is '{wrong[0]}', the worst '{worst}' ({off[worst]:.1%})."


def by_value(layers: Sequence[Layer], found: Sequence[NDArray[Any]]) -> str:
    """A sentence on the layers whose values the converted model does not have.

    A layer that was fused into the next one is missing as well, but what comes after it is not. So
    a layer is wrong if neither its own value nor that of any layer after it is found.

    Args:
        layers: of the original, in the order of execution.
        found: every value that the converted model computed, images in NCHW or NHWC.
    """
    values = _by_size(found)
    off = {layer.name: _nearest(layer.value, values) for layer in layers}
    right = _leading_to(layers, {name for name, value in off.items() if value <= TOLERANCE})
    wrong = [layer.name for layer in layers if layer.name not in right and _tells(layer.value)]
    if not wrong:
        return ALL_FOUND
    finite = [name for name in wrong if np.isfinite(off[name])]
    if not finite:
        return f"The first layer whose value it lacks is '{wrong[0]}'."
    worst = max(finite, key=lambda name: off[name])
    return (
        f"The first layer whose value it lacks is '{wrong[0]}', the worst '{worst}' "
        f"({off[worst]:.1%} from the nearest)."
    )


def _leading_to(layers: Sequence[Layer], found: set[str]) -> set[str]:
    """The layers in ``found``, and all that those read, directly or not."""
    right = set(found)
    for layer in reversed(layers):
        if layer.name in right:
            right.update(layer.reads)
    return right


def _tells(value: NDArray[Any]) -> bool:
    """Whether a value is one that could be looked for: floats that are not all the same."""
    return bool(value.size > 1 and np.issubdtype(value.dtype, np.floating) and np.ptp(value))


def _by_size(found: Sequence[NDArray[Any]]) -> dict[int, list[NDArray[Any]]]:
    """Flat values by their number of elements, those of images with their channels first, too."""
    values: dict[int, list[NDArray[Any]]] = {}
    for value in found:
        forms = [value] if value.ndim != 4 else [value, value.transpose(0, 3, 1, 2)]
        values.setdefault(value.size, []).extend(form.ravel() for form in forms)
    return values


def _nearest(value: NDArray[Any], values: Mapping[int, list[NDArray[Any]]]) -> float:
    """Smallest difference from any value of its size; infinite where it cannot be looked for."""
    if not _tells(value):
        return float("inf")
    flat = value.ravel()
    return min((difference(flat, other) for other in values.get(value.size, [])), default=np.inf)
