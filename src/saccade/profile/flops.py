"""Arithmetic and memory traffic of every node of an ONNX graph, from its shapes.

One multiply-accumulate counts as two operations, as in the roofline model of Williams,
Waterman and Patterson, "Roofline: an insightful visual performance model" (2009).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from saccade.errors import ModelError, first_line

Shape = tuple[int, ...]

# Bytes per element assumed here; `saccade.profile.operators` rescales to the precision run in.
ELEMENT_BYTES = 4

# Where the weights stand among the inputs of convolutions and products.
CONV_WEIGHT = {"Conv": 1, "FusedConv": 1, "ConvInteger": 1, "QLinearConv": 3}
MATMUL_OPERANDS = {"MatMul": (0, 1), "MatMulInteger": (0, 1), "QLinearMatMul": (0, 3)}
COMPUTE_KINDS = frozenset({*CONV_WEIGHT, *MATMUL_OPERANDS, "ConvTranspose", "Gemm"})

# Nodes that only describe shapes or rename a tensor: runtimes do not touch the data for them.
FREE_KINDS = frozenset(
    {"Shape", "Size", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Constant"}
)
# Nodes that move data without arithmetic.
MOVING_KINDS = frozenset(
    {
        "Cast",
        "Concat",
        "ConstantOfShape",
        "DepthToSpace",
        "Expand",
        "Gather",
        "GatherElements",
        "GatherND",
        "Pad",
        "Range",
        "Resize",
        "ScatterND",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Tile",
        "Transpose",
        "Upsample",
    }
)
POOLING_KINDS = frozenset({"MaxPool", "AveragePool", "LpPool"})
REDUCING_KINDS = frozenset({"GlobalAveragePool", "GlobalMaxPool", "ArgMax", "ArgMin"})


@dataclass(frozen=True)
class Work:
    """What one node has to do in one inference.

    Attributes:
        kind: ONNX operator type.
        flops: operations; a multiply-accumulate is two.
        bytes: inputs, weights and outputs, each touched once, at four bytes per element.
        inputs: names of the node's input tensors, weights included.
        outputs: names of the node's output tensors; some runtimes name operators after these.
    """

    kind: str
    flops: float
    bytes: float
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


def operator_work(model: Any, input_hw: tuple[int, int]) -> dict[str, Work]:
    """Operations and bytes of every node when the image input is ``input_hw``.

    Args:
        model: an ``onnx.ModelProto``; it is not changed.
        input_hw: height and width of the image input in pixels; batch size is one.

    Returns:
        Node name → work, in graph order. A node without a name goes by its first output's.

    Raises:
        ModelError: the shapes at that input size cannot be determined.
    """
    shapes = tensor_shapes(model, input_hw)
    work = {}
    for node in model.graph.node:
        name = node.name or next((out for out in node.output if out), node.op_type)
        outputs = tuple(out for out in node.output if out)
        inputs = tuple(value for value in node.input if value)
        flops = _flops(node, shapes)
        work[name] = Work(node.op_type, flops, _bytes(node, shapes), inputs, outputs)
    return work


def tensor_shapes(model: Any, input_hw: tuple[int, int]) -> dict[str, Shape]:
    """Shapes of all tensors at ``input_hw``: inferred, or where that fails, observed in a run.

    Raises:
        ModelError: the model has a fixed size other than ``input_hw``, or neither way works.
    """
    import onnx

    from saccade.models.onnx_save import light

    sized = with_input_size(model, input_hw)
    try:
        inferred = onnx.shape_inference.infer_shapes(light(sized), data_prop=True)
    except Exception:  # custom operators and broken annotations; the run below decides
        inferred = sized
    shapes = {init.name: tuple(init.dims) for init in sized.graph.initializer}
    graph = inferred.graph
    for value in [*graph.input, *graph.value_info, *graph.output]:
        shape = _static_shape(value)
        if shape is not None:
            shapes[value.name] = shape
    missing = [out for node in graph.node for out in node.output if out and out not in shapes]
    if missing:
        shapes.update(_observed_shapes(sized, missing))
    return shapes


def with_input_size(model: Any, input_hw: tuple[int, int]) -> Any:
    """A copy whose image input is fixed at ``input_hw`` and whose batch is one.

    Raises:
        ModelError: the model has another fixed size.
    """
    import onnx

    sized = onnx.ModelProto()
    sized.CopyFrom(model)
    # Annotations of the exporter name dynamic sizes; inference writes concrete ones afresh.
    del sized.graph.value_info[:]
    weights = {init.name for init in sized.graph.initializer}
    images = [value for value in sized.graph.input if value.name not in weights]
    for value in images:
        dims = value.type.tensor_type.shape.dim
        _set_dims(dims, _target_dims(dims, input_hw))
    return sized


def _target_dims(dims: Any, input_hw: tuple[int, int]) -> list[int]:
    """Sizes for one input: batch 1, then height and width where an image has them."""
    sizes = [dim.dim_value for dim in dims]
    if len(sizes) != 4:
        return [size or 1 for size in sizes]
    channels_last = sizes[3] in (1, 3, 4) and sizes[1] not in (1, 3, 4)
    rows, columns = (1, 2) if channels_last else (2, 3)
    fixed = (sizes[rows] or input_hw[0], sizes[columns] or input_hw[1])
    if fixed != tuple(input_hw):
        raise ModelError(
            f"The model has a fixed input of {fixed[0]}×{fixed[1]} pixels, so its work at "
            f"{input_hw[0]}×{input_hw[1]} is not defined. Ask for the model's own size."
        )
    sizes[rows], sizes[columns] = input_hw
    sizes[3 if channels_last else 1] = sizes[3 if channels_last else 1] or 3
    return [size or 1 for size in sizes]


def _set_dims(dims: Any, sizes: list[int]) -> None:
    for dim, size in zip(dims, sizes, strict=True):
        dim.Clear()
        dim.dim_value = size


def _static_shape(value: Any) -> Shape | None:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    dims = tensor.shape.dim
    if any(not dim.HasField("dim_value") for dim in dims):
        return None
    return tuple(dim.dim_value for dim in dims)


def _observed_shapes(model: Any, names: list[str]) -> dict[str, Shape]:
    """Shapes that inference cannot know because they are computed: one run tells."""
    import numpy as np
    import onnx
    import onnxruntime as ort

    from saccade.models.onnx_save import loadable

    probed = onnx.ModelProto()
    probed.CopyFrom(model)
    del probed.graph.output[:]
    probed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        with loadable(probed) as source:
            session = ort.InferenceSession(source, options, ["CPUExecutionProvider"])
        feed = {
            value.name: np.zeros(value.shape, _numpy_dtype(value.type))
            for value in session.get_inputs()
        }
        outputs = session.run(names, feed)
    except Exception as error:
        raise ModelError(
            f"The shapes inside the model cannot be determined: {first_line(error)}. "
            "Expected an ONNX model that ONNX Runtime can run; check it with onnx.checker."
        ) from error
    return {name: np.shape(out) for name, out in zip(names, outputs, strict=True)}


def _numpy_dtype(ort_type: str) -> str:
    names = {"float": "float32", "double": "float64"}
    inner = ort_type.removeprefix("tensor(").removesuffix(")")
    return names.get(inner, inner)


def _flops(node: Any, shapes: Mapping[str, Shape]) -> float:
    kind = node.op_type
    out = _elements(shapes, node.output[0])
    if kind in CONV_WEIGHT:
        # Weights are (M, C / groups, kh, kw): every output element sums over all but M.
        return 2.0 * out * _per_first_axis(shapes, node.input[CONV_WEIGHT[kind]])
    if kind == "ConvTranspose":
        # Weights are (C, M / groups, kh, kw): every input element is spread over all but C.
        return 2.0 * _elements(shapes, node.input[0]) * _per_first_axis(shapes, node.input[1])
    if kind in MATMUL_OPERANDS:
        return 2.0 * out * _inner_size(shapes, node.input[MATMUL_OPERANDS[kind][0]])
    if kind == "Gemm":
        return 2.0 * out * _gemm_inner_size(node, shapes)
    if kind in POOLING_KINDS:
        return out * math.prod(_ints(node, "kernel_shape"))
    if kind in FREE_KINDS or kind in MOVING_KINDS:
        return 0.0
    if kind in REDUCING_KINDS or kind.startswith("Reduce"):
        return float(_elements(shapes, node.input[0]))
    return float(out)


def _bytes(node: Any, shapes: Mapping[str, Shape]) -> float:
    if node.op_type in FREE_KINDS:
        return 0.0
    names = [name for name in (*node.input, *node.output) if name]
    return float(ELEMENT_BYTES * sum(_elements(shapes, name) for name in names))


def _elements(shapes: Mapping[str, Shape], name: str) -> int:
    return math.prod(shapes[name]) if name in shapes else 0


def _per_first_axis(shapes: Mapping[str, Shape], name: str) -> int:
    return math.prod(shapes.get(name, (0, 0))[1:])


def _inner_size(shapes: Mapping[str, Shape], name: str) -> int:
    shape = shapes.get(name, ())
    return shape[-1] if shape else 0


def _gemm_inner_size(node: Any, shapes: Mapping[str, Shape]) -> int:
    shape = shapes.get(node.input[0], (0, 0))
    transposed = any(a.name == "transA" and a.i for a in node.attribute)
    return shape[0] if transposed else shape[-1]


def _ints(node: Any, attribute: str) -> list[int]:
    return next((list(a.ints) for a in node.attribute if a.name == attribute), [1])
