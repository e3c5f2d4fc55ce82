"""What both ways to LiteRT need: whether it is here, and every value that a model computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.environments.tool_environment import ToolEnvironment
from saccade.runtimes.litert import LiteRt, Port


def why_not_litert(environment: ToolEnvironment) -> str | None:
    """None where LiteRT's format can be made and compared here, else what is missing.

    Args:
        environment: of the tool that makes it.
    """
    offered = LiteRt.availability()
    if not offered.ok:
        return f"litert is {offered.detail} (pip install 'saccade[litert]')"
    return environment.why_not()


def tflite_values(path: Path, tensor: NDArray[np.float32]) -> list[NDArray[Any]]:
    """Outputs of all operators on one input, run one by one without XNNPACK, which fuses them.

    Args:
        path: a float ``.tflite`` file of one image input, NHWC or NCHW.
        tensor: ``(1, 3, H, W)``.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        str(path),
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    port = Port.of(interpreter.get_input_details()[0])
    order = (0, 2, 3, 1) if port.channels_last else (0, 1, 2, 3)
    interpreter.set_tensor(port.index, np.ascontiguousarray(tensor.transpose(order)))
    interpreter.invoke()
    made = [index for op in interpreter._get_ops_details() for index in op["outputs"]]
    return [interpreter.get_tensor(index) for index in made]
