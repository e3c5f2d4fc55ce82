"""One candidate in a process of its own: loaded, checked, and measured block by block."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from saccade.deploy.kit.script.gpu import TensorRt
from saccade.deploy.kit.script.runtimes import (
    HERE,
    ExecuTorch,
    Ncnn,
    OnnxRuntime,
    OpenVino,
    Skipped,
    TfLite,
    Torch,
)

WARMUP_S, WARMUP_FRAMES, BLOCK_WARMUP = 1.0, 10, 2
MOST_WARMUP = 200
# Largest value of a channel from which it counts in the check.
SIGNIFICANT = 0.05
# The error of outputs of another shape, or that are not finite.
WRONG = 1e9
RUNTIMES: dict[str, Any] = {
    "onnxruntime": OnnxRuntime,
    "onnxruntime-cuda": OnnxRuntime,
    "onnxruntime-tensorrt": OnnxRuntime,
    "openvino": OpenVino,
    "litert": TfLite,
    "edgetpu": TfLite,
    "ncnn": Ncnn,
    "executorch": ExecuTorch,
    "torch": Torch,
    "tensorrt": TensorRt,
}


class Subject:
    """One candidate, loaded; measured block by block."""

    def __init__(self, kit: dict[str, Any], candidate: dict[str, Any], threads: int) -> None:
        file = kit["files"][candidate["file"]]
        files = [HERE / name for name in file["paths"]]
        # Another model, or another size, has frames of its own.
        self.frames = [np.load(HERE / name) for name in file.get("frames", kit["frames"])]
        began = time.perf_counter()
        try:
            self.runtime = RUNTIMES[candidate["runtime"]](candidate, files, threads)
        except ImportError as error:
            raise Skipped(f"{candidate['runtime']} is not installed ({error})") from None
        self.load_s = time.perf_counter() - began
        self.next = 0

    def step(self) -> float:
        """Milliseconds of one inference, results on the host included."""
        frame = self.frames[self.next % len(self.frames)]
        self.next += 1
        began = time.perf_counter()
        self.runtime.run(frame)
        return 1e3 * (time.perf_counter() - began)

    def error(self, expected: Path, count: int) -> float:
        """How far the outputs on the first frames are from what is expected."""
        kept = np.load(expected)
        return max(
            output_error(got, kept[f"{frame}_{index}"])
            for frame in range(count)
            for index, got in enumerate(self.runtime.run(self.frames[frame]))
            if f"{frame}_{index}" in kept
        )

    def open(self, expected: Path, count: int) -> dict[str, Any]:
        """Check and warm up."""
        found = {"error": self.error(expected, count), "load_s": self.load_s}
        warmup: list[float] = []
        while len(warmup) < WARMUP_FRAMES or (
            sum(warmup) < 1e3 * WARMUP_S and len(warmup) < MOST_WARMUP
        ):
            warmup.append(self.step())
        return {**found, "version": self.runtime.version, "warmup_ms": warmup}

    def block(self, frames: int) -> dict[str, Any]:
        """Latencies of consecutive inferences."""
        warmup = [self.step() for _ in range(BLOCK_WARMUP)]
        cpu = time.process_time()
        latencies = [self.step() for _ in range(frames)]
        return {
            "warmup_ms": warmup,
            "latency_ms": latencies,
            "cpu_s": time.process_time() - cpu,
            "peak_rss_mb": peak_rss_mb(),
        }


def output_error(got: Any, expected: Any) -> float:
    """Root mean square over channels of each channel's error relative to its own size.

    Each channel counts alike, so scores next to boxes in pixels are not drowned. Channels without
    any sizeable value say nothing and are left out.
    """
    if tuple(got.shape) != tuple(expected.shape):
        return WRONG
    a = np.asarray(got, np.float64)
    b = np.asarray(expected, np.float64)
    if not np.isfinite(a).all():
        return WRONG
    axes = [axis for axis in range(1, b.ndim) if b.shape[axis] > 1]
    axis = min(axes, key=lambda i: b.shape[i]) if axes else 0
    a = np.moveaxis(a, axis, 0).reshape(b.shape[axis] if b.ndim else 1, -1)
    b = np.moveaxis(b, axis, 0).reshape(a.shape)
    kept = np.abs(b).max(axis=1) >= SIGNIFICANT
    if not kept.any():
        kept = np.ones(len(b), bool)
        a, b = a.reshape(1, -1), b.reshape(1, -1)
        kept = kept[:1]
    off = np.sqrt(np.mean((a - b) ** 2, axis=1))[kept]
    size = np.sqrt(np.mean(b**2, axis=1))[kept]
    return float(np.sqrt(np.mean((off / np.maximum(size, 1e-12)) ** 2)))


def peak_rss_mb() -> float:
    """Highest resident memory of this process so far, 10^6 bytes."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        line = next(x for x in lines if x.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024 / 1e6
    except (OSError, StopIteration):
        pass  # not Linux; there, ru_maxrss would remember the parent's memory as well
    try:
        import resource
    except ImportError:
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6)


def serve(kit: dict[str, Any], name: str, threads: int) -> None:
    """What a worker process does: answer commands on stdin, one JSON document a line."""
    # Libraries print to stdout; answers go through a copy of it that they do not know.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    candidate = next(c for c in kit["candidates"] if c["id"] == name)
    subject = None
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            if subject is None:
                subject = Subject(kit, candidate, threads)
                expected = HERE / kit["files"][candidate["file"]]["expected"]
                answer: dict[str, Any] = subject.open(expected, kit["check_frames"])
            else:
                answer = subject.block(asked["frames"])
        except Skipped as error:
            answer = {"skipped": str(error)}
        except Exception as error:
            said = str(error).strip().splitlines() or [""]
            answer = {"failed": f"{type(error).__name__}: {said[0][:300]}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
