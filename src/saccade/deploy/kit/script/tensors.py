"""Inputs and outputs of a TensorRT engine, by name or, before TensorRT 8.5, by number."""

from __future__ import annotations

from typing import Any

import numpy as np

# TensorRT 8's own table does not load with NumPy 1.24 and newer.
NUMPY_TYPES = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT8": np.int8,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
    "BOOL": np.bool_,
}


class NamedTensors:
    """TensorRT 8.5 and newer."""

    def __init__(self, engine: Any, context: Any) -> None:
        self.engine, self.context = engine, context
        self.names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        modes = [str(engine.get_tensor_mode(name)) for name in self.names]
        self.inputs = [n for n, m in zip(self.names, modes) if m.endswith("INPUT")]  # noqa: B905

    def empty(self, name: str) -> Any:
        """An array for the values of a tensor."""
        kind = numpy_type(self.engine.get_tensor_dtype(name))
        return np.empty(tuple(self.engine.get_tensor_shape(name)), kind)

    def place(self, name: str, address: int) -> None:
        """Say where on the GPU a tensor lies."""
        self.context.set_tensor_address(name, address)

    def start(self, stream: Any) -> bool:
        """Start an inference; whether that worked."""
        return bool(self.context.execute_async_v3(stream))


class NumberedTensors:
    """TensorRT 8.4 and older, which calls them bindings: Jetson Nano has 8.2."""

    def __init__(self, engine: Any, context: Any) -> None:
        self.engine, self.context = engine, context
        count = range(engine.num_bindings)
        self.names = [engine.get_binding_name(i) for i in count]
        self.inputs = [self.names[i] for i in count if engine.binding_is_input(i)]
        self.addresses = [0 for _ in count]

    def empty(self, name: str) -> Any:
        """An array for the values of a tensor."""
        index = self.names.index(name)
        kind = numpy_type(self.engine.get_binding_dtype(index))
        return np.empty(tuple(self.engine.get_binding_shape(index)), kind)

    def place(self, name: str, address: int) -> None:
        """Say where on the GPU a tensor lies."""
        self.addresses[self.names.index(name)] = address

    def start(self, stream: Any) -> bool:
        """Start an inference; whether that worked."""
        return bool(self.context.execute_async_v2(self.addresses, stream))


def tensors_of(engine: Any, context: Any) -> Any:
    """The tensors of an engine, by what this TensorRT has."""
    kind: Any = NamedTensors if hasattr(engine, "num_io_tensors") else NumberedTensors
    return kind(engine, context)


def numpy_type(kind: Any) -> Any:
    """NumPy's type for one of TensorRT's."""
    name = str(kind).rpartition(".")[2]
    if name not in NUMPY_TYPES:
        raise RuntimeError(f"NumPy has no type for TensorRT's {name}")
    return NUMPY_TYPES[name]
