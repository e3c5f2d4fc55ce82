"""Whether the model fits this machine, asked before anything is loaded that would be killed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from saccade.environment import Environment
from saccade.errors import ModelError
from saccade.estimate.graph import read_graph
from saccade.estimate.memory import BYTES, TIGHT_SHARE
from saccade.pipeline.config import ModelFile
from saccade.targets.target import GPU_HERE

# No usual network holds as many planes of its input's size at once; below, no graph is read.
MOST_PLANES = 1000
WHAT_TO_DO = (
    "Give a smaller model or input size ('input_size' under 'overrides'), raise the limit, or use "
    "a machine with more memory."
)
SMI = ("nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits")
SMI_TIMEOUT_S = 10.0


def check_file_fits(reference: str, memory_mb: float) -> None:
    """Refuse a model file that is larger than the memory; names and folders pass.

    Args:
        reference: the model as the user names it.
        memory_mb: what this process may use, 10^6 bytes.

    Raises:
        ModelError: as said.
    """
    path = Path(reference)
    size_mb = path.stat().st_size / 1e6 if path.is_file() else 0.0
    if size_mb > memory_mb:
        raise ModelError(
            f"'{path.name}' does not fit into this machine: the file has {size_mb:.0f} MB and "
            f"{memory_mb:.0f} MB may be used (a container's limit included). {WHAT_TO_DO}"
        )


def check_fits(
    graph: ModelFile, hw: tuple[int, int], target: str, environment: Environment
) -> str | None:
    """Compare the file and the activations with the memory, of the GPU too where that is meant.

    Args:
        graph: the model as ONNX.
        hw: height and width in use.
        target: ``cpu`` or ``cuda``.
        environment: of this machine.

    Returns:
        A note where it fits and little is left, else None.

    Raises:
        ModelError: it does not fit.
    """
    memory_mb = environment.memory_mb
    on_gpu = gpu_memory_mb() if target == GPU_HERE else None
    least_mb = min(memory_mb, memory_mb if on_gpu is None else on_gpu)
    planes_mb = MOST_PLANES * hw[0] * hw[1] * BYTES["fp32"] / 1e6
    if graph.size_mb + planes_mb < TIGHT_SHARE * least_mb:
        return None
    activations_mb = _activations_mb(graph, hw)
    notes = [_judged(graph, activations_mb, hw, memory_mb, "this machine")]
    if on_gpu is not None:
        notes.append(_judged(graph, activations_mb, hw, on_gpu, "this machine's GPU"))
    return "; ".join(filter(None, notes)) or None


def _activations_mb(graph: ModelFile, hw: tuple[int, int]) -> float:
    """The most that is alive at the same time in fp32; 0 where the graph does not tell."""
    try:
        return read_graph(graph.path, hw).live * BYTES["fp32"] / 1e6
    except ModelError:  # what is wrong with it is said by whoever needs the graph
        return 0.0


def _judged(
    graph: ModelFile, activations_mb: float, hw: tuple[int, int], memory_mb: float, where: str
) -> str:
    """What to know about one memory; empty where there is enough.

    Raises:
        ModelError: there is too little.
    """
    total_mb = graph.size_mb + activations_mb
    said = (
        f"{graph.size_mb:.0f} MB of weights and {activations_mb:.0f} MB of activations at "
        f"{hw[0]}x{hw[1]} (estimate, in fp32)"
    )
    if total_mb > memory_mb:
        raise ModelError(
            f"'{Path(graph.path).name}' does not fit into {where}: {said} are more than the "
            f"{memory_mb:.0f} MB that may be used (a container's limit included). {WHAT_TO_DO}"
        )
    if total_mb > TIGHT_SHARE * memory_mb:
        return (
            f"Memory is tight on {where}: {said} of {memory_mb:.0f} MB, and a race needs them "
            "twice, so processes may be killed at the limit"
        )
    return ""


def gpu_memory_mb() -> float | None:
    """Memory of the first NVIDIA GPU, 10^6 bytes; None where nothing tells.

    A Jetson's GPU has no memory of its own, and `nvidia-smi` says so or is absent.
    """
    if shutil.which(SMI[0]) is None:
        return None
    try:
        done = subprocess.run(
            SMI, capture_output=True, text=True, timeout=SMI_TIMEOUT_S, check=False
        )
        # The tool counts in 2^20 bytes.
        return float(done.stdout.splitlines()[0]) * (1 << 20) / 1e6
    except (OSError, subprocess.SubprocessError, IndexError, ValueError):
        return None
