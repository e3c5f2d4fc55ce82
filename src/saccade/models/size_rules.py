"""What a change of the input size means for the constants of one node.

One rule per operator that can carry the input size in a constant. A rule returns the new value
for each input (by position) that has to change, and raises `Refusal` where the meaning of a
constant is not understood. Shapes are taken from shape inference, before and after.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from math import prod

import numpy as np
import onnx
from numpy.typing import NDArray

from saccade.models.anchor_grids import HW, find_levels, regrid, regrid_maps
from saccade.models.anchor_grids import Refusal as Refusal
from saccade.models.families import STRIDE_SETS
from saccade.models.graph_constants import Constants

Array = NDArray[np.generic]
Shape = tuple[int, ...]
Edits = dict[int, Array]
# Smaller factors may be strides rather than sides of the input.
_LARGEST_STRIDE = 128


@dataclass(frozen=True)
class Change:
    """The change of size, and all shapes that are known.

    Attributes:
        old: input ``(H, W)`` before.
        new: input ``(H, W)`` after.
        before: tensor shapes at the old size.
        after: tensor shapes at the new size, as far as the graph has been rewritten.
        constants: of the graph.
    """

    old: HW
    new: HW
    before: Mapping[str, Shape]
    after: Mapping[str, Shape]
    constants: Constants

    def shapes(self, name: str) -> tuple[Shape, Shape] | None:
        """Shape of a computed tensor before and after, where both are known."""
        if name in self.before and name in self.after and name not in self.constants:
            return self.before[name], self.after[name]
        return None

    def scaled(self, size: int, side: int) -> int:
        """A size in cells along the height (``side=0``) or width (``1``), at the new input."""
        cells = size * self.new[side]
        if cells % self.old[side]:
            raise Refusal(f"a feature map of {size} cells would not have a whole number of cells")
        return cells // self.old[side]


def edits_for(node: onnx.NodeProto, change: Change) -> Edits:
    """New values for the constant inputs of ``node``, by input position; empty where it is fine.

    Raises:
        Refusal: a constant depends on the input size in a way that is not understood.
    """
    rule = _RULES.get(node.op_type)
    return rule(node, change) if rule is not None else {}


def map_dim(size: int, change: Change) -> set[int]:
    """What the length of an output axis may become: the same, or in step with the grid."""
    options = {size}
    for per_cell in (1, 3):
        levels = find_levels(size // per_cell, change.old, change.new, STRIDE_SETS)
        if size % per_cell == 0 and levels is not None:
            options.add(per_cell * levels.count(change.new))
    for old, new in zip(change.old, change.new, strict=True):
        if size * new % old == 0:
            options.add(size * new // old)
    return options


def _title(node: onnx.NodeProto) -> str:
    return f"{node.op_type} {node.name or node.output[0]!r}"


def _reshape(node: onnx.NodeProto, change: Change) -> Edits:
    shapes = change.shapes(node.input[0])
    target_old = change.before.get(node.output[0])
    if shapes is None or node.input[1] not in change.constants or target_old is None:
        return {}
    target = [int(v) for v in change.constants.array(node.input[1]).astype(np.int64)]
    resolved = _resolve(target, shapes[0])
    try:
        new = _regroup(*shapes, resolved, change)
    except Refusal as refusal:
        raise Refusal(f"{_title(node)} has the constant target {target}: {refusal}") from None
    kept = [t if t in (-1, 0) else size for t, size in zip(target, new, strict=True)]
    # A copied (0) dimension is copied from the same position, where it may have become another.
    kept = [
        size if t == 0 and (i >= len(shapes[1]) or shapes[1][i] != size) else t
        for i, (t, size) in enumerate(zip(kept, new, strict=True))
    ]
    return {} if kept == target else {1: np.array(kept, np.int64)}


def _resolve(target: list[int], data: Shape) -> Shape:
    sizes = [data[i] if size == 0 and i < len(data) else size for i, size in enumerate(target)]
    known = prod(size for size in sizes if size != -1)
    return tuple(prod(data) // max(known, 1) if size == -1 else size for size in sizes)


def _regroup(before: Shape, after: Shape, target: Shape, change: Change) -> list[int]:
    """The target at the new size: dimensions that were joined or split stay so.

    Both shapes are cut into the shortest runs with equal products; each run is then carried
    over on its own.
    """
    result: list[int] = []
    for (i, j), (k, m) in _runs(before, target):
        run, size = target[k:m], prod(after[i:j])
        if before[i:j] == after[i:j]:
            result += run
        elif sum(length > 1 for length in run) <= 1:
            whole = run.index(max(run))
            result += [size if n == whole else 1 for n in range(len(run))]
        elif len(run) == j - i and run == before[i:j]:
            result += after[i:j]
        else:
            result += _unflatten(run, size, change)
    return result


def _runs(before: Shape, target: Shape) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    i = k = 0
    while i < len(before) or k < len(target):
        j, m = min(i + 1, len(before)), min(k + 1, len(target))
        while prod(before[i:j]) != prod(target[k:m]):
            if prod(before[i:j]) < prod(target[k:m]) and j < len(before):
                j += 1
            elif m < len(target):
                m += 1
            else:
                raise Refusal("it does not agree with the shape of its input")
        yield (i, j), (k, m)
        i, k = j, m


def _unflatten(run: Shape, size: int, change: Change) -> list[int]:
    """A run that ends in the rows and columns of a feature map."""
    height, width = change.scaled(run[-2], 0), change.scaled(run[-1], 1)
    new = [*run[:-2], height, width]
    if prod(new) != size:
        raise Refusal(f"{size} values at the new size do not fill {new}")
    return new


def _resize(node: onnx.NodeProto, change: Change) -> Edits:
    if len(node.input) < 4 or node.input[3] not in change.constants:
        return {}
    shapes = change.shapes(node.input[0])
    sizes = change.constants.array(node.input[3]).astype(np.int64)
    if shapes is None or len(sizes) != 4:
        return {}
    new = np.array([shapes[1][0], sizes[1], change.scaled(int(sizes[2]), 0), 0], np.int64)
    new[3] = change.scaled(int(sizes[3]), 1)
    return {} if np.array_equal(new, sizes) else {3: new}


def _slice(node: onnx.NodeProto, change: Change) -> Edits:
    shapes = change.shapes(node.input[0])
    if shapes is None or any(name not in change.constants for name in node.input[1:] if name):
        return {}
    starts, ends = (change.constants.array(name).astype(np.int64) for name in node.input[1:3])
    axes = _optional(node, 3, change, np.arange(len(starts)))
    steps = _optional(node, 4, change, np.ones(len(starts), np.int64))
    new_starts, new_ends = starts.copy(), ends.copy()
    for n, axis in enumerate(axes):
        old, new = shapes[0][axis], shapes[1][axis]
        if old == new:
            continue
        # Every second row or column, as in a focus layer: the offset is not a size.
        if not 0 <= starts[n] < abs(steps[n]):
            new_starts[n] = _position(int(starts[n]), old, new, node, change)
        new_ends[n] = _position(int(ends[n]), old, new, node, change)
    edits: Edits = {1: new_starts} if not np.array_equal(starts, new_starts) else {}
    return edits if np.array_equal(ends, new_ends) else {**edits, 2: new_ends}


def _optional(node: onnx.NodeProto, index: int, change: Change, default: Array) -> Array:
    given = len(node.input) > index and node.input[index]
    return change.constants.array(node.input[index]) if given else default


def _position(value: int, old: int, new: int, node: onnx.NodeProto, change: Change) -> int:
    """Where a cut of an axis of length ``old`` lies when its length is ``new``."""
    if value <= 0 or value > old:
        return value
    if value == old:
        return new
    levels = find_levels(old, change.old, change.new, STRIDE_SETS)
    if levels is not None and levels.count(change.new) == new:
        cells = [h * w for h, w in levels.maps(change.old)]
        ends = list(np.cumsum(cells))
        if value in ends:
            return sum(h * w for h, w in levels.maps(change.new)[: ends.index(value) + 1])
    raise Refusal(
        f"{_title(node)} cuts an axis of {old} at the constant {value}, "
        "which is no border between feature maps"
    )


def _split(node: onnx.NodeProto, change: Change) -> Edits:
    shapes = change.shapes(node.input[0])
    if shapes is None or len(node.input) < 2 or node.input[1] not in change.constants:
        return {}
    axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
    old, new = shapes[0][axis], shapes[1][axis]
    sizes = change.constants.array(node.input[1]).astype(np.int64)
    if old == new:
        return {}
    if len(set(sizes.tolist())) == 1 and new % len(sizes) == 0:
        return {1: np.full(len(sizes), new // len(sizes), np.int64)}
    ends = [_position(int(end), old, new, node, change) for end in np.cumsum(sizes)]
    return {1: np.diff([0, *ends]).astype(np.int64)}


def _expand(node: onnx.NodeProto, change: Change) -> Edits:
    if node.input[1] not in change.constants:
        return {}
    target = [int(v) for v in change.constants.array(node.input[1]).astype(np.int64)]
    shapes = change.shapes(node.input[0])
    if shapes is None:
        return {}
    before, after = shapes
    for end in range(1, min(len(before), len(target)) + 1):
        if before[-end] != after[-end] and target[-end] == before[-end]:
            target[-end] = after[-end]
    new = np.array(target, np.int64)
    return {} if np.array_equal(new, change.constants.array(node.input[1])) else {1: new}


def _elementwise(node: onnx.NodeProto, change: Change) -> Edits:
    """Constants that are broadcast against tensors whose size changes: anchor grids or nothing."""
    others = [shapes for name in node.input if (shapes := change.shapes(name)) is not None]
    edits: Edits = {}
    for index, name in enumerate(node.input):
        if name not in change.constants or not change.constants.shape(name):
            continue
        shape = change.constants.shape(name)
        axes = {axis for other in others for axis in _changed_axes(shape, *other)}
        if axes:
            edits[index] = _grid(node, change.constants.array(name), axes, change)
    return edits


def _scaling(node: onnx.NodeProto, change: Change) -> Edits:
    """A factor may be the input's sides, by which pixels become shares; it does not tell which."""
    for name in node.input:
        if name in change.constants and _is_sides(change.constants.array(name), change):
            raise Refusal(
                f"{_title(node)} scales by the constant {change.constants.array(name).tolist()}, "
                "which is the input size"
            )
    return _elementwise(node, change)


def _is_sides(array: Array, change: Change) -> bool:
    """Whether all values are sides that change, or their reciprocals."""
    sides = [old for old, new in zip(change.old, change.new, strict=True) if old != new]
    if array.size not in (1, 2, 4) or not np.issubdtype(array.dtype, np.floating):
        return False
    values = np.unique(array.astype(np.float64))
    if not sides or min(sides) <= _LARGEST_STRIDE or not (values > 0).all():
        return False
    return any(
        bool(np.isclose(form[:, None], change.old, rtol=1e-5).any(axis=1).all())
        and bool(np.isclose(form[:, None], sides, rtol=1e-5).any())
        for form in (values, 1 / values)
    )


def _changed_axes(shape: Shape, before: Shape, after: Shape) -> Iterator[tuple[int, int]]:
    """Axes of a constant that no longer fit, with the length they need (broadcasting rules)."""
    for end in range(1, min(len(shape), len(before)) + 1):
        old, new = before[-end], after[-end]
        if shape[-end] == old != new and old > 1:
            yield len(shape) - end, new


def _concat(node: onnx.NodeProto, change: Change) -> Edits:
    joined = next(a.i for a in node.attribute if a.name == "axis")
    others = [shapes for name in node.input if (shapes := change.shapes(name)) is not None]
    edits: Edits = {}
    for index, name in enumerate(node.input):
        if name not in change.constants or not others:
            continue
        shape = change.constants.shape(name)
        axes = {
            (axis, new)
            for axis, new in _changed_axes(shape, *others[0])
            if axis != joined % len(shape)
        }
        if axes:
            edits[index] = _grid(node, change.constants.array(name), axes, change)
    return edits


def _grid(
    node: onnx.NodeProto, array: Array, changed: set[tuple[int, int]], change: Change
) -> Array:
    """The constant on the cells of the new size."""
    reasons = []
    for attempt in _attempts(array, changed, change):
        try:
            made = attempt()
        except Refusal as refusal:
            reasons.append(str(refusal))
            continue
        if all(made.shape[axis] == length for axis, length in changed):
            return made
    why = f" ({reasons[0]})" if reasons else ""
    raise Refusal(
        f"a constant of shape {list(array.shape)} in node {_title(node)} depends on the input "
        f"size and is not an anchor grid{why}"
    )


def _attempts(
    array: Array, changed: set[tuple[int, int]], change: Change
) -> Iterator[Callable[[], Array]]:
    """Readings of a constant: cells along one axis, rows and columns, or only one of them."""
    axes = sorted(axis for axis, _ in changed)
    first = axes[0]
    if len(axes) == 1:
        levels = find_levels(array.shape[first], change.old, change.new, STRIDE_SETS)
        if levels is not None:
            yield partial(regrid, array, first, levels)
    pairs = [(first, first + 1)] if len(axes) == 2 else [(first - 1, first), (first, first + 1)]
    for stride in (8, 16, 32, 64, 4):
        old = (change.old[0] // stride, change.old[1] // stride)
        new = (change.new[0] // stride, change.new[1] // stride)
        for pair in pairs:
            if pair[0] >= 0 and array.shape[pair[0] : pair[1] + 1] == old:
                yield partial(regrid_maps, array, pair, stride, old, new)
        for (axis, length), side in ((pair, side) for pair in changed for side in (0, 1)):
            if len(changed) == 1 and (array.shape[axis], length) == (old[side], new[side]):
                yield partial(_one_side, array, axis, stride, old[side], new[side])


def _one_side(array: Array, axis: int, stride: int, old: int, new: int) -> Array:
    """A constant over the rows, or the columns, of one feature map."""
    column_like = np.expand_dims(array, axis + 1)
    made = regrid_maps(column_like, (axis, axis + 1), stride, (old, 1), (new, 1))
    return np.squeeze(made, axis + 1)


def _weights(node: onnx.NodeProto, change: Change) -> Edits:
    """A matrix product with a constant: its length cannot be continued."""
    shapes = change.shapes(node.input[0])
    if shapes is not None and node.input[1] in change.constants and shapes[0][-1] != shapes[1][-1]:
        raise Refusal(
            f"{_title(node)} multiplies {shapes[0][-1]} values, whose number depends on the "
            f"input size, with weights of shape {list(change.constants.shape(node.input[1]))}"
        )
    return {}


_RULES: dict[str, Callable[[onnx.NodeProto, Change], Edits]] = {
    "Reshape": _reshape,
    "Resize": _resize,
    "Slice": _slice,
    "Split": _split,
    "Expand": _expand,
    "Concat": _concat,
    "MatMul": _weights,
    "Gemm": _weights,
    **dict.fromkeys(("Mul", "Div"), _scaling),
    **dict.fromkeys(("Add", "Sub", "Pow", "Min", "Max", "Where"), _elementwise),
}
