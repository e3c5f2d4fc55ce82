"""Operator times: read from a runtime's own profile, joined with FLOPs, held against the roofline.

Runtimes rename and fuse nodes, so the join goes by name first (exact, then the longest node or
tensor name that the operator's name begins with or contains) and refuses pairs of which only
one is a convolution or product: the reorder in front of a convolution often carries its name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from saccade.errors import RuntimeFailure
from saccade.profile.flops import COMPUTE_KINDS, Work
from saccade.profile.records import Roofline
from saccade.runtimes.contract import OperatorTime

# The first inference allocates buffers and picks kernels; it says nothing about the next ones.
WARMUP_RUNS = 1

KERNEL_SUFFIX = "_kernel_time"
ELEMENT_SCALE = {"fp32": 1.0, "bf16": 0.5, "fp16": 0.5, "int8": 0.25}

# OpenVINO's operator types under their ONNX names; others keep their own.
ONNX_KIND = {
    "Convolution": "Conv",
    "GroupConvolution": "Conv",
    "ConvolutionBackpropData": "ConvTranspose",
    "GroupConvolutionBackpropData": "ConvTranspose",
    "Deconvolution": "ConvTranspose",
    "FullyConnected": "MatMul",
    "FullyConnectedQuantized": "MatMul",
    "FullyConnectedQuantizedLegacy": "MatMul",
    "FullyConnectedCompressed": "MatMul",
    "VariadicSplit": "Split",
    "Interpolate": "Resize",
}
FUSED_KIND = re.compile(r"Nhwc|Fused|QLinear|Q(?=Gemm)|Transpose(?=MatMul)")
# Copies between memory layouts and precisions: no arithmetic, whatever node they are named after.
LAYOUT_KINDS = frozenset({"Reorder", "ReorderInput", "ReorderOutput", "Cast", "Convert"})
# Steps from a fused activation back to its product: bias, scale and activation at most.
FUSION_DEPTH = 3
NAME_BOUNDARY = frozenset("/_:.")
OPENVINO_PRECISION = re.compile(r"_(bf16|f16|f32|i8|u8)$", re.IGNORECASE)
PRECISION_NAME = {"f32": "fp32", "bf16": "bf16", "f16": "fp16", "i8": "int8", "u8": "int8"}


class ProfilingInfo(Protocol):
    """What is used of OpenVINO's ``ProfilingInfo``."""

    node_name: str
    node_type: str
    exec_type: str
    status: Any
    real_time: Any


@dataclass(frozen=True)
class Attained:
    """One operator held against the roofline.

    Attributes:
        gflops: 10^9 operations per second it reached.
        bandwidth_gbs: 10^9 bytes per second it would need, were every tensor in memory once.
        intensity: operations per byte.
        binding: the roof it is under: ``"compute"``, ``"memory"``, or ``"none"`` where its work
            is unknown.
        share_of_peak: reached over the machine's peak in the operator's precision.
        share_of_roof: reached over what the binding roof allows at this intensity.
        ideal_ms: time at the binding roof.
    """

    gflops: float
    bandwidth_gbs: float
    intensity: float
    binding: Literal["compute", "memory", "none"]
    share_of_peak: float
    share_of_roof: float
    ideal_ms: float


def attained(op: OperatorTime, roofline: Roofline) -> Attained:
    """How close ``op`` came to what ``roofline`` allows.

    An operator whose precision the roofline has no peak for is held against fp32.
    """
    seconds = op.wall_ms / 1e3
    compute_s = op.flops / (1e9 * peak_gflops(roofline, op.precision))
    memory_s = op.bytes / (1e9 * roofline.bandwidth_gbs)
    ideal_s = max(compute_s, memory_s)
    if seconds <= 0 or ideal_s <= 0:
        return Attained(0.0, 0.0, 0.0, "none", 0.0, 0.0, 0.0)
    return Attained(
        gflops=op.flops / seconds / 1e9,
        bandwidth_gbs=op.bytes / seconds / 1e9,
        intensity=op.flops / op.bytes if op.bytes else float("inf"),
        binding="compute" if compute_s >= memory_s else "memory",
        share_of_peak=compute_s / seconds,
        share_of_roof=ideal_s / seconds,
        ideal_ms=1e3 * ideal_s,
    )


def peak_gflops(roofline: Roofline, precision: str) -> float:
    """The peak in ``precision``, or in fp32 where this machine has none of its own."""
    return roofline.peak_gflops.get(precision, roofline.peak_gflops["fp32"])


def merge_work(
    operators: Iterable[OperatorTime], work: Mapping[str, Work]
) -> tuple[OperatorTime, ...]:
    """Fill in FLOPs and bytes by name and sort, slowest first.

    Args:
        operators: from `Session.operators`.
        work: from `operator_work` on the ONNX model that the runtime was given.

    Returns:
        One entry per operator. Bytes that the runtime reported itself are kept; others are
        scaled to the precision the operator ran in. Operators that match nothing keep zeros.
    """
    merged = [_with_work(op, item) for op, item in matched(operators, work)]
    return tuple(sorted(merged, key=lambda op: op.wall_ms, reverse=True))


def matched(
    operators: Iterable[OperatorTime], work: Mapping[str, Work]
) -> list[tuple[OperatorTime, Work | None]]:
    """Each operator with the very entry of ``work`` that it carries out, None where none fits."""
    index = {out: item for item in work.values() for out in item.outputs}
    index.update(work)
    found = [(op, _match(op, index)) for op in operators]
    taken = {id(item) for _, item in found if item is not None}
    return [(op, item or _fused(op, index, taken)) for op, item in found]


def _with_work(op: OperatorTime, work: Work | None) -> OperatorTime:
    if work is None:
        return op
    scaled = work.bytes * ELEMENT_SCALE.get(op.precision, 1.0)
    return replace(op, flops=work.flops, bytes=op.bytes or scaled)


def _match(op: OperatorTime, index: Mapping[str, Work]) -> Work | None:
    if op.kind in LAYOUT_KINDS:
        return None
    wants_compute = is_compute(op.kind)
    for name in _candidates(op.name, index, contained=wants_compute):
        if (index[name].kind in COMPUTE_KINDS) == wants_compute:
            return index[name]
    return None


def _fused(op: OperatorTime, index: Mapping[str, Work], taken: set[int]) -> Work | None:
    """The product that ``op`` computes when it is named after what was fused behind it.

    A convolution that took over its activation may carry the activation's name; the
    convolution itself is then a few steps upstream, and no other operator has claimed it.
    """
    if not is_compute(op.kind):
        return None
    level = [index[name] for name in _candidates(op.name, index, contained=False)][:1]
    for _ in range(FUSION_DEPTH):
        level = [index[tensor] for item in level for tensor in item.inputs if tensor in index]
        for item in level:
            if item.kind in COMPUTE_KINDS and id(item) not in taken:
                taken.add(id(item))
                return item
    return None


def is_compute(kind: str) -> bool:
    """Whether an operator of this kind is a convolution or product, fused or not."""
    return kind in COMPUTE_KINDS or FUSED_KIND.sub("", kind) in COMPUTE_KINDS


def _candidates(name: str, index: Mapping[str, Work], contained: bool) -> Iterator[str]:
    """Names in ``index`` that ``name`` may have been made from, the likeliest first."""
    if name in index:
        yield name
    for end in range(len(name) - 1, 0, -1):
        if name[end] in NAME_BOUNDARY and name[:end] in index:
            yield name[:end]
    if contained:
        yield from sorted((known for known in index if known in name), key=len, reverse=True)


def parse_ort_profile(path: Path) -> list[OperatorTime]:
    """Read the JSON that ONNX Runtime's ``end_profiling`` names.

    Times are means over the profiled runs, the first left out where there are more. Bytes are
    those that the runtime itself reports for inputs, weights and outputs.

    Returns:
        Operators in order of execution.

    Raises:
        RuntimeFailure: the file is not a profile or holds no complete run.
    """
    try:
        events = json.loads(path.read_text(encoding="utf-8"))
        runs = sorted(event["ts"] for event in events if event["name"] == "model_run")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RuntimeFailure(
            f"ONNX Runtime's profile cannot be read: {error}. Expected the JSON file that "
            "end_profiling() names; profile again."
        ) from error
    if not runs:
        raise RuntimeFailure(
            "ONNX Runtime's profile holds no complete run. Run the model at least once before "
            "ending the profiling."
        )
    counted = runs[WARMUP_RUNS:] or runs
    kernels = [event for event in events if _is_kernel(event) and event["ts"] >= counted[0]]
    return _aggregate((_ort_operator(event) for event in kernels), len(counted))


def _is_kernel(event: Mapping[str, Any]) -> bool:
    return event.get("cat") == "Node" and str(event.get("name", "")).endswith(KERNEL_SUFFIX)


def _ort_operator(event: Mapping[str, Any]) -> OperatorTime:
    args = event["args"]
    kind = str(args.get("op_name", ""))
    sizes = ("activation_size", "parameter_size", "output_size")
    return OperatorTime(
        name=event["name"].removesuffix(KERNEL_SUFFIX),
        kind=kind,
        wall_ms=event["dur"] / 1e3,
        precision=_ort_precision(kind, args.get("input_type_shape", [])),
        kernel=f"{args.get('provider', '')}/{kind}",
        bytes=float(sum(int(args.get(size, 0)) for size in sizes)),
    )


def _ort_precision(kind: str, inputs: Sequence[Mapping[str, Any]]) -> str:
    first = next((dtype for entry in inputs for dtype in entry), "float")
    if kind.startswith("QLinear") or "Integer" in kind or first in ("uint8", "int8"):
        return "int8"
    return {"float16": "fp16", "bfloat16": "bf16"}.get(first, "fp32")


def parse_openvino_profile(runs: Sequence[Sequence[ProfilingInfo]]) -> list[OperatorTime]:
    """Read OpenVINO's performance counters.

    Args:
        runs: ``request.profiling_info`` after each inference of a model compiled with
            ``PERF_COUNT``. The first is left out where there are more.

    Returns:
        Operators that were executed, in order of execution; times are means over the runs.

    Raises:
        RuntimeFailure: there is no run.
    """
    if not runs:
        raise RuntimeFailure(
            "OpenVINO's profile holds no run. Run the model at least once before asking for it."
        )
    counted = runs[WARMUP_RUNS:] or runs
    executed = (
        _openvino_operator(info)
        for run in counted
        for info in run
        if str(info.status).rpartition(".")[2] == "EXECUTED"
    )
    return _aggregate(executed, len(counted))


def _openvino_operator(info: ProfilingInfo) -> OperatorTime:
    found = OPENVINO_PRECISION.search(info.exec_type)
    return OperatorTime(
        name=info.node_name,
        kind=ONNX_KIND.get(info.node_type, info.node_type),
        wall_ms=1e3 * info.real_time.total_seconds(),
        precision=PRECISION_NAME[found.group(1).lower()] if found else "fp32",
        kernel=info.exec_type,
    )


def _aggregate(operators: Iterable[OperatorTime], runs: int) -> list[OperatorTime]:
    """Sum times per name over the runs and divide; an operator in a loop counts in full."""
    first: dict[str, OperatorTime] = {}
    total: dict[str, float] = {}
    for op in operators:
        first.setdefault(op.name, op)
        total[op.name] = total.get(op.name, 0.0) + op.wall_ms
    return [replace(op, wall_ms=total[name] / runs) for name, op in first.items()]
