"""Put preprocessing into an ONNX graph: uint8 ``(1, H, W, 3)`` in, the model's own tensor after."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from saccade.models.description import Preprocessing


def with_preprocessing(
    model: onnx.ModelProto, input_name: str, pre: Preprocessing
) -> onnx.ModelProto:
    """A copy of ``model`` whose image input takes uint8 NHWC pixels in the model's channel order.

    The graph casts, transposes and normalizes (``pixel * scale / std - mean / std``), so that
    the caller moves a quarter of the bytes and NumPy does no arithmetic.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    image = next(value for value in graph.input if value.name == input_name)
    batch, _, height, width = image.type.tensor_type.shape.dim
    pixels = f"{input_name}_uint8"
    dims = [d.dim_value or d.dim_param or None for d in (batch, height, width)]
    new_input = helper.make_tensor_value_info(pixels, TensorProto.UINT8, [*dims, 3])
    kind = image.type.tensor_type.elem_type
    factor = np.array([pre.scale / s for s in pre.std], np.float32).reshape(1, 3, 1, 1)
    offset = np.array([-m / s for m, s in zip(pre.mean, pre.std, strict=True)], np.float32)
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    graph.initializer.extend(
        [
            numpy_helper.from_array(factor.astype(dtype), "saccade_factor"),
            numpy_helper.from_array(offset.reshape(1, 3, 1, 1).astype(dtype), "saccade_offset"),
        ]
    )
    nodes = [
        helper.make_node(
            "Transpose", [pixels], ["saccade_nchw"], "saccade_transpose", perm=[0, 3, 1, 2]
        ),
        helper.make_node("Cast", ["saccade_nchw"], ["saccade_cast"], "saccade_cast", to=kind),
        helper.make_node("Mul", ["saccade_cast", "saccade_factor"], ["saccade_mul"], "saccade_mul"),
        helper.make_node("Add", ["saccade_mul", "saccade_offset"], [input_name], "saccade_add"),
    ]
    kept = [value for value in graph.input if value.name != input_name]
    rest = list(graph.node)
    del graph.input[:], graph.node[:]
    graph.input.extend([new_input, *kept])
    graph.node.extend([*nodes, *rest])
    return result
