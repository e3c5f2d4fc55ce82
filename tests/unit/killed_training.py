"""A training that is killed again and again, each time in a process of its own.

Run as ``python killed_training.py FOLDER KILL [KILL ...]``; each KILL is ``step:N``, within the
N-th step that this process takes, or ``save:N``, while the N-th file is being written. After the
last of them a process trains to the end. Processes are forked from one that has imported PyTorch
but not used it, so that no threads are lost.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch._inductor.config  # what deterministic trainings import, once instead of in each
from tiny_training import tiny_config, tiny_job

from saccade.train.run_options import RunOptions
from saccade.train.running import TrainingRun


def dying(function: Callable[..., Any], count: int) -> Callable[..., Any]:
    """The same function, but its ``count``-th call is the end of the process."""
    calls = 0

    def counted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments)

    return counted


def train(folder: Path, kill: str) -> None:
    job = tiny_job()
    where, _, count = kill.partition(":")
    if where == "step":
        job = tiny_job(loss=dying(job.loss, int(count)))
    if where == "save":
        os.fsync = dying(os.fsync, int(count))
    config = tiny_config(deterministic=True)
    # A checkpoint after every second step or so, as far as one may be timed.
    TrainingRun(job, config, job.epochs, folder, RunOptions(save_every_s=0.0)).run()


def in_a_process(folder: Path, kill: str) -> int:
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        train(folder, kill)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    place = Path(sys.argv[1])
    codes = [in_a_process(place, kill) for kill in [*sys.argv[2:], ""]]
    print(codes)
    sys.exit(0 if codes == [-signal.SIGKILL] * (len(codes) - 1) + [0] else 1)
