"""Candidates as the session sees them: a worker process each, or runs of trtexec."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from saccade.deploy.kit.script.gpu import engine_file
from saccade.deploy.kit.script.runtimes import HERE
from saccade.deploy.kit.script.subject import WARMUP_FRAMES, WARMUP_S, output_error
from saccade.deploy.kit.script.trtexec import build_options, stamp_calibration, trtexec_help

MIN_FRAMES, MAX_FRAMES = 10, 400


class Worker:
    """A candidate in a process of its own."""

    def __init__(self, name: str, threads: int) -> None:
        command = [sys.executable, __file__, "--worker", name, "--threads", str(threads)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self.opened = self.ask({})

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """One question, one answer; a process that died has failed."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write((json.dumps(question) + "\n").encode())
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except OSError:
            line = b""
        if not line:
            return {"failed": f"its process ended with code {self.process.wait()}"}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def block(self, seconds: float) -> dict[str, Any]:
        """A block of about that length."""
        typical = float(np.median(self.opened["warmup_ms"][-WARMUP_FRAMES:])) / 1e3
        frames = int(min(MAX_FRAMES, max(MIN_FRAMES, seconds / max(typical, 1e-6))))
        return self.ask({"frames": frames})

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()


class TrtExec:
    """A candidate run by trtexec, for devices without TensorRT's Python package."""

    def __init__(self, kit: dict[str, Any], candidate: dict[str, Any], tool: str) -> None:
        self.kit, self.tool, self.engine = kit, tool, engine_file(candidate)
        # Another model, or another size, is fed and answers in its own way.
        self.fed: dict[str, Any] = {**kit, **kit["files"][candidate["file"]]}
        self.engine.parent.mkdir(exist_ok=True)
        self.opened = self._open(candidate)

    def _open(self, candidate: dict[str, Any]) -> dict[str, Any]:
        model = HERE / self.kit["files"][candidate["file"]]["paths"][0]
        cache = self.engine.parent / "timing.cache"
        began = time.perf_counter()
        try:
            if not self.engine.is_file():
                said = trtexec_help(self.tool)
                flags = [flag.replace("{kit}", str(HERE)) for flag in candidate["flags"]]
                for flag in flags:
                    if flag.startswith("--calib="):
                        stamp_calibration(Path(flag.partition("=")[2]), said)
                flags += build_options(said)
                self._run(f"--onnx={model}", f"--timingCacheFile={cache}", *flags)
            load_s = time.perf_counter() - began
            error = self._error(HERE / self.kit["files"][candidate["file"]]["expected"])
            warmup = self.block(WARMUP_S)["latency_ms"]
        except (OSError, ValueError, KeyError, subprocess.SubprocessError) as problem:
            return {"failed": f"trtexec: {problem}"}
        return {"error": error, "load_s": load_s, "version": "trtexec", "warmup_ms": warmup}

    def _run(self, *arguments: str) -> None:
        engine = "save" if arguments[0].startswith("--onnx") else "load"
        command = [self.tool, *arguments, f"--{engine}Engine={self.engine}"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            lines = [line for line in done.stdout.splitlines() if "[E]" in line]
            raise ValueError((lines or done.stdout.splitlines() or ["no output"])[-1][:300])

    def _raw(self, frame: int, folder: str) -> str:
        raw = Path(folder) / "input.bin"
        raw.write_bytes(np.ascontiguousarray(np.load(HERE / self.fed["frames"][frame])).tobytes())
        return f"--loadInputs={self.fed['input']['name']}:{raw}"

    def _error(self, expected: Path) -> float:
        kept, worst = np.load(expected), 0.0
        for frame in range(self.kit["check_frames"]):
            with tempfile.TemporaryDirectory() as folder:
                target = Path(folder) / "output.json"
                once = ("--iterations=1", "--warmUp=0", "--duration=0")
                self._run(self._raw(frame, folder), f"--exportOutput={target}", *once)
                found = {entry["name"]: entry for entry in json.loads(target.read_text())}
            for index, name in enumerate(self.fed["outputs"]):
                shape = [int(side) for side in found[name]["dimensions"].split("x")]
                got = np.array(found[name]["values"], np.float32).reshape(shape)
                worst = max(worst, output_error(got, kept[f"{frame}_{index}"]))
        return worst

    def block(self, seconds: float) -> dict[str, Any]:
        """Latencies of one run of trtexec: copy in, compute, copy out."""
        warm_ms = 200
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "times.json"
            length = (
                f"--warmUp={warm_ms}",
                f"--duration={seconds:g}",
                f"--iterations={MIN_FRAMES}",
            )
            self._run(self._raw(0, folder), f"--exportTimes={target}", *length)
            trace = json.loads(target.read_text())
        warm = [entry for entry in trace if entry["startComputeMs"] < warm_ms]
        return {
            "warmup_ms": [entry["latencyMs"] for entry in warm],
            "latency_ms": [entry["latencyMs"] for entry in trace[len(warm) :]],
            "cpu_s": None,
            "peak_rss_mb": None,
        }

    def close(self) -> None:
        """Nothing is left open."""
