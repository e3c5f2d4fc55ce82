"""U-Net on CamVid, killed ten times: it ends with the weights of a training that was left alone."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.setting import REPOSITORY, Setting, note
from benchmarks.table import Row
from saccade.study import RunFolder
from saccade.train.loggers.files import LOSSES

JOB = Path(__file__).parent / "jobs" / "unet_small.py"
KILLS = 10
SAVE_EVERY_S = 1.0
SAVE_BAR = 0.02
SACCADE = (sys.executable, "-c", "from saccade.cli import main; main()")
PATIENCE_S = 600.0


def measure(setting: Setting) -> list[Row]:
    """One training to the end, one killed with signal 9 at random moments, bit by bit the same."""
    folder = setting.folder / "train_kill"
    note("a training that is left alone")
    whole = folder / "whole"
    began = time.monotonic()
    _ended(_started(whole))
    alone_s = time.monotonic() - began
    chance = random.Random(0)
    killed = folder / "killed"
    steps: list[int] = []
    while len(steps) < KILLS:
        steps.append(_killed_at(killed, chance))
        note(f"kill {len(steps)} of {KILLS}: after step {steps[-1]}")
    _ended(_started(killed))
    result = _result(killed)
    left = _result(whole)
    return [
        Row(
            "tensors that differ after ten kills -9",
            float(_differing(whole, killed)),
            bar=0.0,
            at_least=False,
            detail=f"killed after steps {', '.join(map(str, steps))} of {left['steps']}; resumed "
            f"{sum(e['kind'] == 'resumed' for e in result['events'])} times from a checkpoint",
        ),
        Row(
            "losses that differ, of all steps",
            float(_lines(whole) != _lines(killed)),
            bar=0.0,
            at_least=False,
            detail=f"{len(_lines(whole)) - 1} steps",
        ),
        Row(
            "checkpoints, share of the time",
            left["checkpoints"]["share"],
            bar=SAVE_BAR,
            at_least=False,
            detail=f"{left['checkpoints']['written']} of "
            f"{1e3 * left['checkpoints']['save_s'] / left['checkpoints']['written']:.0f} ms, "
            f"in {alone_s:.0f} s",
        ),
    ]


def _started(folder: Path) -> subprocess.Popen[bytes]:
    options = ("--deterministic", "--device", "cpu", "--save-every", str(SAVE_EVERY_S), "--json")
    return subprocess.Popen(
        [*SACCADE, "train", "run", str(JOB), "--out", str(folder), *options],
        stdout=subprocess.DEVNULL,
        cwd=REPOSITORY,
        env={**os.environ, "SACCADE_QUIET": "1"},
        start_new_session=True,
    )


def _ended(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(PATIENCE_S)
    finally:
        process.kill()  # does nothing to one that has ended
    if process.returncode != 0:
        raise RuntimeError(f"the training ended with exit code {process.returncode}")


def _killed_at(folder: Path, chance: random.Random) -> int:
    """Start or go on, let it take one to four steps, and kill it some time within the next."""
    before = _steps(folder)
    process = _started(folder)
    wanted, deadline = chance.randint(1, 4), time.monotonic() + PATIENCE_S
    while _steps(folder) < before + wanted and process.poll() is None:
        if time.monotonic() > deadline:
            process.kill()
            raise RuntimeError("the training does not get on")
        time.sleep(0.02)
    time.sleep(chance.random())
    if process.poll() is not None:
        raise RuntimeError("the training ended before it was killed; give it more steps")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    return _steps(folder)


def _steps(folder: Path) -> int:
    return max(0, len(_lines(folder)) - 1)


def _lines(folder: Path) -> list[str]:
    path = folder / LOSSES
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def _result(folder: Path) -> dict[str, Any]:
    found = RunFolder(folder).read_json("training-result.json")
    if found is None:
        raise RuntimeError(f"there is no result in {folder}")
    return found


def _differing(first: Path, second: Path) -> int:
    """Tensors of the last and of the best weights that are not equal in every bit."""
    count = 0
    for name in ("last.pt", "model.pt"):
        a, b = (torch.load(folder / name, weights_only=True) for folder in (first, second))
        count += sum(not torch.equal(a[key], b[key]) for key in a)
    return count
