"""Measures the roofline of this machine: peak arithmetic by precision, bandwidth, dispatch cost.

The peaks are what the installed runtimes reach in large products whose tensors fit the caches,
all usable cores together; a data sheet's figure would count clock rates and units that a
shared machine does not give.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.environment import usable_cores
from saccade.profile.records import Roofline
from saccade.runtimes.openvino_core import openvino_core

SCHEMA_VERSION = 1

# About a millisecond each: long enough to time, short enough to find a moment in which nothing
# else runs. No power of two for the matrices: their rows would fall into the same cache sets.
MATRIX_SIDE = 768
# Channels and sides of a detector's typical convolutions, early and late: runtimes reach more
# in these than in plain products, and which one they do best differs.
CONVS = ((64, 64), (256, 32))
CONV_KERNEL = 3
# Longer than any private cache; four buffers of this size at most are held at once.
COPY_MB = 128
TINY_NODES = 200
TINY_ELEMENTS = 16
# A precision has a fast path only if it beats fp32 by more than timing noise.
FAST_PATH_GAIN = 1.15
# Shares of the time budget; the remainder goes to compiling and loading libraries.
PEAK_SHARE, COPY_SHARE, DISPATCH_SHARE = 0.035, 0.12, 0.03
OPENVINO_PRECISIONS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
EXECUTED_AS = {"fp32": ("f32",), "bf16": ("bf16",), "int8": ("u8", "i8")}

Clock = Callable[[], float]


def measure_roofline(budget_s: float = 3.0, clock: Clock = time.perf_counter) -> Roofline:
    """Measure this machine with all usable cores, in about ``budget_s`` seconds.

    Each peak is the best of those that can: fp32 of NumPy, ONNX Runtime and OpenVINO, int8 of
    ONNX Runtime and OpenVINO, bf16 of OpenVINO. A precision that no installed runtime executes
    faster than fp32 is absent.
    """
    cores = usable_cores()
    slice_s = budget_s * PEAK_SHARE
    found = [("fp32", _numpy_peak(slice_s, clock))]
    found += _onnxruntime_peaks(cores, slice_s, clock)
    found += _openvino_peaks(cores, slice_s, clock)
    return Roofline(
        peak_gflops=fast_paths(found),
        bandwidth_gbs=_bandwidth_gbs(cores, budget_s * COPY_SHARE, clock),
        dispatch_us=_dispatch_us(budget_s * DISPATCH_SHARE, clock),
    )


def fast_paths(found: Iterable[tuple[str, float]]) -> dict[str, float]:
    """The best peak per precision; lower precisions only where they beat fp32. Pure.

    Args:
        found: precision and 10^9 operations per second, any number of each.
    """
    best: dict[str, float] = {}
    for precision, gflops in found:
        best[precision] = max(gflops, best.get(precision, 0.0))
    floor = FAST_PATH_GAIN * best["fp32"]
    return {name: value for name, value in best.items() if name == "fp32" or value > floor}


def to_dict(roofline: Roofline) -> dict[str, Any]:
    """A JSON-ready document; `from_dict` is its inverse."""
    return {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(roofline)}


def from_dict(document: dict[str, Any]) -> Roofline:
    """The inverse of `to_dict`; keys it does not know are ignored."""
    known = {field.name for field in dataclasses.fields(Roofline)}
    return Roofline(**{key: value for key, value in document.items() if key in known})


def best_time_s(run: Callable[[], object], seconds: float, clock: Clock) -> float:
    """Shortest of repeated timings: whatever else the machine does only ever adds to it.

    Runs once to warm up, then for ``seconds`` and at least three times.
    """
    run()
    best = float("inf")
    end = clock() + seconds
    repeats = 0
    while repeats < 3 or clock() < end:
        start = clock()
        run()
        best = min(best, clock() - start)
        repeats += 1
    return best


def _numpy_peak(seconds: float, clock: Clock) -> float:
    left = _random(MATRIX_SIDE, MATRIX_SIDE)
    out = np.empty_like(left)
    elapsed = best_time_s(lambda: np.matmul(left, left, out=out), seconds, clock)
    return _matrix_flops() / elapsed / 1e9


def _onnxruntime_peaks(cores: int, seconds: float, clock: Clock) -> list[tuple[str, float]]:
    from onnx import TensorProto

    side = (MATRIX_SIDE, MATRIX_SIDE)
    found = []
    for precision, kind, weights, image, types in (
        ("fp32", "MatMul", _random(*side), np.ones(side, np.float32), (TensorProto.FLOAT,) * 2),
        (
            "int8",
            "MatMulInteger",
            np.ones(side, np.int8),
            np.ones(side, np.uint8),
            (TensorProto.UINT8, TensorProto.INT32),
        ),
    ):
        session = _onnx_session([(kind, "x", "w", "y")], {"w": weights}, types, cores)
        run = partial(session.run, None, {"x": image})
        found.append((precision, _matrix_flops() / best_time_s(run, seconds, clock) / 1e9))
    return found


def _openvino_peaks(cores: int, seconds: float, clock: Clock) -> list[tuple[str, float]]:
    try:
        import openvino as ov
    except ImportError:
        return []
    core = openvino_core()
    offered = {"FP32", *core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")}
    found = []
    for precision in (name for name in OPENVINO_PRECISIONS if name.upper() in offered):
        int8 = precision == "int8"
        models = [(_matrix_model(ov, int8), _matrix_flops())]
        models += [(_conv_model(ov, *size, int8), _conv_flops(*size)) for size in CONVS]
        for model, flops in models:
            elapsed = _openvino_kernel_s(ov, core, model, precision, cores, seconds, clock)
            if elapsed:
                found.append((precision, flops / elapsed / 1e9))
    return found


def _openvino_kernel_s(
    ov: Any, core: Any, model: Any, precision: str, cores: int, seconds: float, clock: Clock
) -> float | None:
    """Shortest time of the product itself, conversions before and after it left out.

    None where the product was not executed in ``precision``.
    """
    settings = {
        "INFERENCE_PRECISION_HINT": OPENVINO_PRECISIONS[precision],
        "INFERENCE_NUM_THREADS": cores,
        "NUM_STREAMS": 1,
        "PERF_COUNT": True,
    }
    compiled = core.compile_model(model, "CPU", settings)
    kernel = _product_node(compiled)
    if kernel is None or kernel[1] not in EXECUTED_AS[precision]:
        return None
    request = compiled.create_infer_request()
    request.set_input_tensor(ov.Tensor(_random(*compiled.input(0).shape)))
    times: list[float] = []

    def run() -> None:
        request.infer()
        infos = [info for info in request.profiling_info if info.node_name == kernel[0]]
        times.extend(info.real_time.total_seconds() for info in infos)

    best_time_s(run, seconds, clock)
    return min((value for value in times if value > 0), default=None)


def _product_node(compiled: Any) -> tuple[str, str] | None:
    """Name and runtime precision of the one product in the compiled graph."""
    for node in compiled.get_runtime_model().get_ordered_ops():
        info = node.get_rt_info()
        if info["layerType"].astype(str) in ("MatMul", "FullyConnected", "Convolution"):
            return node.get_friendly_name(), info["runtimePrecision"].astype(str)
    return None


def _matrix_model(ov: Any, int8: bool) -> Any:
    from openvino import opset13 as ops

    side = [MATRIX_SIDE, MATRIX_SIDE]
    image = ops.parameter(side, np.float32, "x")
    left, right = _operands(ops, image, _random(*side), int8)
    product = ops.matmul(left, right, False, True)
    # Reduced, so that writing a large fp32 output is no part of what is timed.
    return ov.Model([ops.reduce_max(product, np.array([0, 1]), False)], [image], "matrix_product")


def _conv_model(ov: Any, channels: int, side: int, int8: bool) -> Any:
    from openvino import opset13 as ops

    image = ops.parameter([1, channels, side, side], np.float32, "x")
    weights = _random(channels, channels, CONV_KERNEL, CONV_KERNEL)
    left, right = _operands(ops, image, weights, int8)
    pad = [CONV_KERNEL // 2] * 2
    product = ops.convolution(left, right, [1, 1], pad, pad, [1, 1])
    axes = np.array([0, 1, 2, 3])
    return ov.Model([ops.reduce_max(product, axes, False)], [image], "convolution")


def _operands(ops: Any, image: Any, weights: NDArray[np.float32], int8: bool) -> tuple[Any, Any]:
    """Both factors, wrapped in fake quantization where they shall run as 8-bit integers."""
    constant = ops.constant(weights)
    if not int8:
        return image, constant
    low, high = np.float32(0), np.float32(1)
    unsigned = ops.fake_quantize(image, low, high, low, high, 256)
    signed = ops.fake_quantize(constant, -high, high, -high, high, 255)
    return unsigned, signed


def _bandwidth_gbs(cores: int, seconds: float, clock: Clock) -> float:
    source = np.ones(COPY_MB * 1_000_000 // 4, np.float32)
    target = np.zeros_like(source)
    parts = list(zip(np.array_split(target, cores), np.array_split(source, cores), strict=True))
    with ThreadPoolExecutor(cores) as pool:
        # np.copyto releases the interpreter lock, so the parts are copied at the same time.
        elapsed = best_time_s(
            lambda: list(pool.map(lambda part: np.copyto(*part), parts)), seconds, clock
        )
    return 2 * source.nbytes / elapsed / 1e9


def _dispatch_us(seconds: float, clock: Clock) -> float:
    """Time per node of a chain of additions too small to take any time themselves."""
    from onnx import TensorProto

    chain = [("Add", _link(i), "w", _link(i + 1)) for i in range(TINY_NODES)]
    weights = {"w": np.ones(TINY_ELEMENTS, np.float32)}
    session = _onnx_session(chain, weights, (TensorProto.FLOAT, TensorProto.FLOAT), threads=1)
    feed = {"x": np.zeros(TINY_ELEMENTS, np.float32)}
    return best_time_s(lambda: session.run(None, feed), seconds, clock) / TINY_NODES * 1e6


def _link(index: int) -> str:
    return {0: "x", TINY_NODES: "y"}.get(index, f"t{index}")


def _onnx_session(
    nodes: list[tuple[str, str, str, str]],
    weights: dict[str, NDArray[Any]],
    types: tuple[int, int],
    threads: int,
) -> Any:
    """A session of binary nodes ``(kind, left, right, result)`` from ``x`` to ``y``."""
    import onnxruntime as ort
    from onnx import helper, numpy_helper

    shape = next(iter(weights.values())).shape
    graph = helper.make_graph(
        [helper.make_node(kind, [left, right], [result]) for kind, left, right, result in nodes],
        "roofline",
        [helper.make_tensor_value_info("x", types[0], shape)],
        [helper.make_tensor_value_info("y", types[1], shape)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    # The oldest versions that have these operators, so that any runtime takes them.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])


def _random(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).random(shape, np.float32)


def _matrix_flops() -> float:
    return 2.0 * MATRIX_SIDE**3


def _conv_flops(channels: int, side: int) -> float:
    return 2.0 * (channels * side * CONV_KERNEL) ** 2
