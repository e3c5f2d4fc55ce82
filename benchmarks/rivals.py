"""The best that the `ultralytics` package reaches on the same video and weights, in the same run.

Every configuration is tried shortly; the fastest few then run in turns with the bundle. All of
them, the bundle included, go from the video file to a result object per frame.
"""

from __future__ import annotations

import json
import select
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import rivals_venv
from benchmarks.pairs import median
from benchmarks.setting import REPOSITORY, Setting, note
from benchmarks.table import Row
from saccade.optimize.race import Runner
from saccade.playbook.judge import config_at
from saccade.statistics import ratio_of_blocks

BAR = 1.3
FINALISTS = 3
WARMUP, BLOCK_WARMUP = 48, 8
TIMEOUT_S = 240.0


@dataclass(frozen=True)
class Configuration:
    """One way to run the package.

    Attributes:
        model: file or folder below the exports.
        batch: frames that it infers together.
        dnn: whether OpenCV runs the ONNX file.
    """

    name: str
    model: str
    batch: int = 1
    dnn: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of the package's ``predict``."""
        return {"imgsz": 640, "batch": self.batch, "dnn": self.dnn, "device": "cpu"}


CONFIGURATIONS = (
    Configuration("ONNX Runtime, dynamic shape", "yolo11n.onnx"),
    Configuration("ONNX Runtime, dynamic shape, batch 4", "yolo11n.onnx", batch=4),
    Configuration("ONNX Runtime int8", "yolo11n_int8.onnx"),
    Configuration("OpenCV DNN", "yolo11n.onnx", dnn=True),
    Configuration("OpenVINO 640x640", "static_openvino_model"),
    Configuration("OpenVINO 384x640", "rect_openvino_model"),
    Configuration("OpenVINO, dynamic shape", "dynamic_openvino_model"),
    Configuration("OpenVINO, dynamic shape, batch 4", "dynamic_openvino_model", batch=4),
    Configuration("OpenVINO, dynamic shape, batch 8", "dynamic_openvino_model", batch=8),
    Configuration("OpenVINO int8 640x640", "static_int8_openvino_model"),
    Configuration("OpenVINO int8 384x640", "rect_int8_openvino_model"),
    Configuration("OpenVINO int8, dynamic shape", "dynamic_int8_openvino_model"),
    Configuration("OpenVINO int8, dynamic shape, batch 4", "dynamic_int8_openvino_model", batch=4),
)


class RivalError(RuntimeError):
    """A rival could not be started, ended, or did not answer."""


class Rival:
    """One configuration of the package in a process of its own."""

    def __init__(self, configuration: Configuration, exports: Path, video: Path) -> None:
        self.configuration = configuration
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        command = [
            str(rivals_venv.PYTHON),
            str(REPOSITORY / "benchmarks" / "rival_worker.py"),
            str(exports / configuration.model),
            str(video),
            json.dumps(configuration.options),
        ]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=exports,
            env=rivals_venv.environment(exports / "settings"),
        )

    def block(self, frames: int, warmup: int) -> dict[str, float]:
        """Measure a block: ``fps``, ``core_ms`` and ``boxes`` per frame.

        Raises:
            RivalError: there was no answer.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"frames": frames, "warmup": warmup}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise RivalError(self._last_words()) from None
        if not select.select([self._process.stdout], [], [], TIMEOUT_S)[0]:
            raise RivalError(f"no answer within {TIMEOUT_S:.0f} s")
        answer = self._process.stdout.readline()
        if not answer:
            raise RivalError(self._last_words())
        found: dict[str, float] = json.loads(answer)
        return found

    def _last_words(self) -> str:
        self._process.wait()
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:160] if lines else f"ended with {self._process.returncode}"

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._log.close()


def measure(setting: Setting) -> list[Row]:
    """Install, export, try everything, race the fastest against the bundle."""
    bundle = setting.bundle()
    rivals_venv.install()
    exports = setting.folder / "rivals"
    try:
        _export(setting, exports)
        tried = {c: _screen(c, exports, setting) for c in CONFIGURATIONS}
        fastest = sorted(tried, key=lambda c: -tried[c])[:FINALISTS]
        finalists = [c for c in fastest if tried[c] > 0]
        if not finalists:
            raise RivalError("no configuration of the rival runs; see the notes above")
        ours, theirs = _race(setting, bundle, finalists, exports)
    finally:
        shutil.rmtree(exports, ignore_errors=True)
    return [_row(ours, theirs, tried)]


def _row(
    ours: list[float],
    theirs: dict[Configuration, list[float]],
    tried: dict[Configuration, float],
) -> Row:
    ranked = sorted(theirs, key=lambda c: -median(theirs[c]))
    ratio = ratio_of_blocks(ours, theirs[ranked[0]])
    raced = ", ".join(f"{c.name} {median(theirs[c]):.1f} FPS" for c in ranked)
    short = ", ".join(f"{c.name} {fps:.0f}" for c, fps in tried.items())
    return Row(
        "end-to-end throughput over the best of ultralytics",
        ratio.value,
        ratio.interval.low,
        ratio.interval.high,
        "x",
        BAR,
        detail=f"ours {median(ours):.1f} FPS against {raced}; tried shortly: {short} "
        f"({rivals_venv.declaration()})",
    )


def _export(setting: Setting, out: Path) -> None:
    """Make the files that the package loads, in its venv."""
    note("exporting the rival's models")
    calibration = setting.inputs.data.parent / "images" / "calibration"
    script = REPOSITORY / "benchmarks" / "rival_export.py"
    with tempfile.TemporaryFile() as log:
        done = subprocess.run(
            [str(rivals_venv.PYTHON), str(script), setting.inputs.model, calibration, out],
            env=rivals_venv.environment(out / "settings"),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        log.seek(0)
        if done.returncode != 0:
            raise RivalError(log.read().decode(errors="replace")[-2000:])


def _screen(configuration: Configuration, exports: Path, setting: Setting) -> float:
    """Frames per second in one short block; 0 where the configuration does not run."""
    rival = Rival(configuration, exports, setting.inputs.video)
    try:
        found = rival.block(setting.sizes.rival_frames, WARMUP)
    except RivalError as failure:
        note(f"rival: {configuration.name} does not run: {failure}")
        return 0.0
    finally:
        rival.close()
    note(
        f"rival: {configuration.name}: {found['fps']:.1f} FPS, {found['core_ms']:.1f} core-ms, "
        f"{found['boxes']:.1f} boxes per frame"
    )
    return found["fps"]


def _race(
    setting: Setting, bundle: Path, finalists: list[Configuration], exports: Path
) -> tuple[list[float], dict[Configuration, list[float]]]:
    """Frames per second of every block, ours and theirs, round by round."""
    frames = setting.sizes.rival_frames
    runner = Runner(config_at(bundle), str(setting.inputs.video))
    rivals: list[Rival] = []
    try:
        for configuration in finalists:
            rivals.append(Rival(configuration, exports, setting.inputs.video))
            rivals[-1].block(frames, WARMUP)
        ours: list[float] = []
        theirs: dict[Configuration, list[float]] = {c: [] for c in finalists}
        turns: list[Callable[[], None]] = [lambda: ours.append(runner.block(frames).block.fps)]
        for rival in rivals:
            turns.append(_turn(rival, theirs[rival.configuration], frames))
        for number in range(setting.sizes.rival_rounds):
            note(f"round {number + 1} against the rivals")
            # Everyone begins in turn, so that drift within a round favours nobody.
            first = number % len(turns)
            for turn in turns[first:] + turns[:first]:
                turn()
    finally:
        for rival in rivals:
            rival.close()
        runner.close()
    return ours, theirs


def _turn(rival: Rival, found: list[float], frames: int) -> Callable[[], None]:
    return lambda: found.append(rival.block(frames, BLOCK_WARMUP)["fps"])
