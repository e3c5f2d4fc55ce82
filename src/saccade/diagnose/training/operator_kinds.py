"""Which operators of a step compute, and which mostly move memory. Pure."""

from __future__ import annotations

from saccade.runtimes.contract import OperatorTime
from saccade.train.profile import TrainingProfile

# In the names of PyTorch's operators and of GPU kernels that do many operations per byte.
COMPUTING = (
    "conv", "gemm", "mm", "matmul", "linear", "wgrad", "dgrad", "cudnn", "cutlass", "attention",
    "flash", "winograd", "xmma", "fprop",
)  # fmt: skip
# Memory moves at several times this rate on anything; below it calls cost more than what they do.
MIN_GB_S = 1.0
# In the names of compiled code, which may do either.
COMPILED = ("compiled", "graph_", "triton")


def computes(operator: OperatorTime) -> bool:
    """Whether an operator's time goes into arithmetic rather than into reading and writing."""
    name = operator.name.lower().rpartition("::")[2]
    return operator.kind in ("Conv", "MatMul") or any(word in name for word in COMPUTING)


def is_compiled(operator: OperatorTime) -> bool:
    """Whether it stands for code that ``torch.compile`` made."""
    return any(word in operator.name.lower() for word in COMPILED)


def light_gb_s(profile: TrainingProfile) -> float:
    """Memory that the other operators read and write, 10^9 bytes per second of their time."""
    light = [op for op in profile.operators if not computes(op) and not is_compiled(op)]
    light_ms = sum(op.wall_ms for op in light)
    return sum(op.bytes for op in light) / 1e6 / light_ms if light_ms > 0 else 0.0


def moves_memory(profile: TrainingProfile) -> bool:
    """Whether operators with little arithmetic move memory, rather than being called in vain.

    How much a GPU's kernels move is not known, but their time is their own.
    """
    return profile.device_ms is not None or light_gb_s(profile) >= MIN_GB_S


def computing_share(profile: TrainingProfile) -> float:
    """Share 0-1 of the operators' time that goes into arithmetic; all of it where none is known.

    Compiled code on the CPU does not say what it consists of and counts as arithmetic.
    """
    total = sum(op.wall_ms for op in profile.operators)
    if total <= 0:
        return 1.0
    heavy = (op for op in profile.operators if computes(op) or is_compiled(op))
    return min(1.0, sum(op.wall_ms for op in heavy) / total)
