"""Operator times from PyTorch's profiler, by kind: it does not say which layer called."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from saccade.runtimes.contract import OperatorTime

# PyTorch's kernels under ONNX's names; others keep their own.
KINDS = {
    "mkldnn_convolution": "Conv",
    "_convolution": "Conv",
    "convolution": "Conv",
    "conv2d": "Conv",
    "thnn_conv2d": "Conv",
    "_slow_conv2d_forward": "Conv",
    "addmm": "MatMul",
    "mm": "MatMul",
    "bmm": "MatMul",
    "linear": "MatMul",
    "qconv_pointwise": "Conv",
    "qconv2d_pointwise": "Conv",
    "qlinear_pointwise": "MatMul",
    "native_batch_norm": "BatchNormalization",
    "_native_batch_norm_legit_no_training": "BatchNormalization",
    "hardtanh": "Clip",
    "clamp": "Clip",
    "relu": "Relu",
    "cat": "Concat",
}
# What an int8 program's layers become.
_INT8 = "onednn::q"
_NAMESPACES = ("aten::", "mkldnn::", "prim::", "prepacked::", _INT8)


class Average(Protocol):
    """What is used of PyTorch's ``FunctionEventAvg``."""

    key: str
    self_cpu_time_total: float
    self_device_time_total: float


def parse_torch_profile(
    averages: Iterable[Any], runs: int, on_gpu: bool = False
) -> list[OperatorTime]:
    """Mean self time per inference of every kind of operator, slowest first.

    Args:
        averages: ``profiler.key_averages()``.
        runs: inferences that were profiled.
        on_gpu: the time of the kernels that an operator started, instead of its time on the CPU.
    """
    time = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    found = [
        OperatorTime(
            name=average.key,
            kind=kind_of(average.key),
            wall_ms=getattr(average, time) / 1e3 / max(1, runs),
            precision="int8" if average.key.startswith(_INT8) else "fp32",
            kernel=average.key,
        )
        for average in averages
        if average.key.startswith(_NAMESPACES)
    ]
    return sorted(found, key=lambda op: op.wall_ms, reverse=True)


def kind_of(key: str) -> str:
    """An operator's kind, under ONNX's name where it has one."""
    name = key.rpartition("::")[2]
    return KINDS.get(name.rstrip("_"), name)
