"""Give a detector another input size by rewriting its graph.

A model exported at a fixed size holds that size in constants: targets of Reshape, anchor points,
strides, sizes of Resize. The rewriting walks the graph in order, compares every tensor's shape
before and after the change, and rewrites each constant that no longer fits, until shape inference
agrees from end to end. ONNX Runtime then runs the result once. Trained weights are never touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

from saccade.errors import ModelError
from saccade.models import graph_reading as graph
from saccade.models.anchor_grids import HW
from saccade.models.description import InputSpec
from saccade.models.families import STRIDE_SETS, strides_for
from saccade.models.graph_constants import Constants, drop_unused_constants, fold_constants
from saccade.models.onnx_model import image_input
from saccade.models.onnx_run import run_once
from saccade.models.size_rules import Change, Refusal, Shape, edits_for, map_dim

# Each pass settles everything up to the next rewritten node; detectors need fewer than ten.
_MAX_PASSES = 64


def reshape(
    model: onnx.ModelProto, hw: tuple[int, int] | None, *, batch: int | None = None
) -> onnx.ModelProto:
    """A copy of ``model`` whose input is ``hw`` pixels; the original is not changed.

    Args:
        model: a detector with its weights, of fixed or dynamic size.
        hw: height and width, multiples of the model's stride; None for a dynamic size.
        batch: images per call; None leaves it as it is.

    Raises:
        ModelError: the model cannot be rewritten, with the reason.
    """
    try:
        return _reshaped(model, hw, batch)
    except Refusal as refusal:
        wanted = "a dynamic size" if hw is None else f"{hw[0]}x{hw[1]}"
        raise ModelError(
            f"The model cannot be reshaped to {wanted}: {refusal}. "
            "Export it again at that size, or with dynamic axes."
        ) from refusal


def at_size(model: onnx.ModelProto, hw: tuple[int, int]) -> onnx.ModelProto:
    """The model itself where it takes that size, else a rewritten copy.

    Raises:
        ModelError: it cannot be rewritten, with the reason.
    """
    spec, _ = image_input(model)
    return model if spec.dynamic or (spec.height, spec.width) == hw else reshape(model, hw)


def can_reshape(model: onnx.ModelProto, hw: tuple[int, int] | None) -> str | None:
    """None where `reshape` works, else the reason why it does not. Tries it, including a run."""
    try:
        _reshaped(model, hw, None)
    except (Refusal, ModelError) as refusal:
        return str(refusal)
    return None


def _reshaped(model: onnx.ModelProto, hw: HW | None, batch: int | None) -> onnx.ModelProto:
    spec, _ = image_input(model)
    if spec.height is None or spec.width is None:
        return _from_dynamic(model, spec, hw, batch)
    old = (spec.height, spec.width)
    strides = _strides(model, old)
    if hw is None:
        return _to_dynamic(model, spec, old, strides, batch)
    if min(hw) < 1 or any(side % strides[-1] for side in hw):
        raise Refusal(f"its sides must be multiples of the stride {strides[-1]}")
    images = batch or spec.shape[0] or 1
    rewritten, change, _ = _rewrite(model, spec, old, hw, images)
    _check(rewritten, spec, images, hw, _expected(model, change))
    if batch is None and spec.shape[0] is None:
        _declare(rewritten, spec, "batch", hw)
    _note_size(rewritten, hw)
    return rewritten


def _from_dynamic(
    model: onnx.ModelProto, spec: InputSpec, hw: HW | None, batch: int | None
) -> onnx.ModelProto:
    sizes = hw or tuple(
        side or name
        for side, name in zip((spec.height, spec.width), ("height", "width"), strict=True)
    )
    copy = graph.with_input_shape(model, spec.name, _shape(spec, batch or spec.shape[0], sizes))
    _declare(copy, spec, batch or spec.shape[0] or "batch", sizes)
    if hw is not None:
        _check(copy, spec, batch or spec.shape[0] or 1, hw, None)
        _note_size(copy, hw)
    return copy


def _to_dynamic(
    model: onnx.ModelProto,
    spec: InputSpec,
    old: HW,
    strides: tuple[int, ...],
    batch: int | None,
) -> onnx.ModelProto:
    """Possible only where no constant knows the size: then naming the axes is enough."""
    images = batch or spec.shape[0] or 1
    larger = (old[0] + strides[-1], old[1] + 2 * strides[-1])
    copy, change, edited = _rewrite(model, spec, old, larger, images)
    if edited:
        raise Refusal(f"constants in {len(edited)} nodes ({edited[0]}, ...) hold the size")
    _declare(copy, spec, batch or spec.shape[0] or "batch", ("height", "width"))
    _check(copy, spec, images, larger, _expected(model, change))
    return copy


def _rewrite(
    model: onnx.ModelProto, spec: InputSpec, old: HW, new: HW, images: int
) -> tuple[onnx.ModelProto, Change, list[str]]:
    """Rewrite a copy for size ``new``; also the last change and the names of edited nodes."""
    copy = graph.with_input_shape(model, spec.name, _shape(spec, spec.shape[0] or 1, old))
    fold_constants(copy)
    before = _known(graph.inferred_shapes(copy))
    copy = graph.with_input_shape(copy, spec.name, _shape(spec, images, new))
    constants = Constants(copy)
    edited: list[str] = []
    done: set[str] = set()
    for _ in range(_MAX_PASSES):
        change = Change(old, new, before, _known(graph.inferred_shapes(copy)), constants)
        fresh = _pass(copy, change, done)
        if not fresh:
            break
        edited += fresh
    drop_unused_constants(copy)
    _declare(copy, spec, images, new)
    return copy, change, edited


def _pass(model: onnx.ModelProto, change: Change, done: set[str]) -> list[str]:
    """Edit every node whose inputs have final shapes; what follows an edit waits for the next."""
    stale: set[str] = set()
    edited = []
    for node in model.graph.node:
        if stale.intersection(node.input):
            stale.update(node.output)
            continue
        if node.output[0] in done:
            continue
        edits = edits_for(node, change)
        for index, array in edits.items():
            node.input[index] = change.constants.add(f"{node.input[index]}_resized", array)
        if edits:
            done.add(node.output[0])
            stale.update(node.output)
            edited.append(node.name or node.op_type)
    return edited


def _strides(model: onnx.ModelProto, old: HW) -> tuple[int, ...]:
    """The strides that the outputs speak of, else the usual ones that the old size allows.

    Outputs of classifiers and of segmenters speak of none; a segmenter at 360 pixels shows that
    multiples of 8 will do.
    """
    for output in model.graph.output:
        for size in graph.dims(output):
            for per_cell in (1, 3):
                found = size and strides_for(size, old, per_cell, STRIDE_SETS)
                if found:
                    return found
    usual = STRIDE_SETS[0]
    fitting = [s for s in usual if not any(side % s for side in old)]
    return tuple(fitting) or (1,)


def _expected(model: onnx.ModelProto, change: Change) -> list[list[set[int]]]:
    """For each output the lengths that each axis but the first may have."""
    return [
        [map_dim(size, change) for size in change.before.get(output.name, ())[1:]]
        for output in model.graph.output
    ]


def _check(
    model: onnx.ModelProto,
    spec: InputSpec,
    images: int,
    hw: HW,
    expected: list[list[set[int]]] | None,
) -> None:
    """Run once on noise: it must run, with the outputs expected, all finite."""
    for index, output in enumerate(_run(model, spec, _shape(spec, images, hw))):
        name = model.graph.output[index].name
        if np.issubdtype(output.dtype, np.floating) and not np.isfinite(output).all():
            raise Refusal(f"its output {name!r} is not finite at that size")
        axes = expected[index] if expected else []
        if not all(n in options for n, options in zip(output.shape[1:], axes, strict=False)):
            raise Refusal(f"its output {name!r} has shape {output.shape} at that size")


def _run(model: onnx.ModelProto, spec: InputSpec, shape: Sequence[int | str]) -> list[Any]:
    noise = np.random.default_rng(0).random([int(size) for size in shape])
    try:
        return run_once(model, {spec.name: noise.astype(spec.dtype)})
    except ModelError as error:
        raise Refusal(str(error)) from error


def _shape(spec: InputSpec, images: int | str | None, hw: Sequence[int | str]) -> list[int | str]:
    sizes: dict[str, int | str] = {"N": images or "batch", "C": 3, "H": hw[0], "W": hw[1]}
    return [sizes[axis] for axis in spec.layout]


def _declare(
    model: onnx.ModelProto, spec: InputSpec, images: int | str, hw: Sequence[int | str]
) -> None:
    """Declare the input's shape, and the outputs' as far as they follow from it, in place."""
    shape = _shape(spec, images, hw)
    graph.set_dims(next(v for v in model.graph.input if v.name == spec.name), shape)
    # A copy without the outputs' former shapes, which inference would take for given.
    inferred = graph.inferred_shapes(graph.with_input_shape(model, spec.name, shape))
    for output in model.graph.output:
        if output.name in inferred:
            sizes = [
                size if size is not None else f"{output.name}_{axis}"
                for axis, size in enumerate(inferred[output.name])
            ]
            graph.set_dims(output, sizes)


def _known(shapes: dict[str, tuple[int | None, ...]]) -> dict[str, Shape]:
    return {
        name: tuple(size for size in shape if size is not None)
        for name, shape in shapes.items()
        if None not in shape
    }


def _note_size(model: onnx.ModelProto, hw: HW) -> None:
    """Keep the exporter's own note of the size true."""
    for entry in model.metadata_props:
        if entry.key == "imgsz":
            entry.value = str(list(hw))
