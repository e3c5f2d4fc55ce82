"""What ranks do in tests; a module, so that processes that are started afresh find it.

Run as ``python ranked_training.py``, it trains in two processes of Ray's and prints the losses.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from saccade.errors import DataError
from saccade.train.config import BatchSettings, ComputeSettings, TrainingConfig
from saccade.train.job import refer

JOB = '''"""A job without batch normalization, so that a batch can be divided."""

import os
import time

import torch
from torch import nn

batch_size = 8
epochs = 2
RANK = os.environ.get("RANK", "")
SLOW_RANK = os.environ.get("SLOW_RANK", "no")
DYING_RANK = os.environ.get("DYING_RANK", "no")
BROKEN_SAMPLE = int(os.environ.get("BROKEN_SAMPLE", "-1"))
# The second rank computes this many samples at once, after this many passes that fit.
ROOM = int(os.environ.get("ROOM", "1000"))
PASSES = [int(os.environ.get("ROOMY_PASSES", "0"))]


class Random:
    def __init__(self, split):
        self.training = split == "train"
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(32, 3, 8, 8, generator=generator)
        self.y = torch.randint(0, 4, (32,), generator=generator)

    def __len__(self):
        return 32

    def __getitem__(self, i):
        if RANK == SLOW_RANK:
            time.sleep(0.02)
        if self.training and i == BROKEN_SAMPLE:
            return float("nan") * self.x[i], self.y[i]
        return self.x[i], self.y[i]


def model():
    body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
    return nn.Sequential(body, nn.Flatten(), nn.Linear(288, 4))


def dataset(split):
    if RANK == DYING_RANK:
        os._exit(7)
    return Random(split)


def loss(output, target):
    PASSES[0] -= 1
    if RANK == "1" and len(output) > ROOM and PASSES[0] < 0 and output.requires_grad:
        raise MemoryError(f"no room for {len(output)}")
    return nn.functional.cross_entropy(output, target)


def optimizer(model):
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
'''


def alone(folder: Path) -> TrainingConfig:
    """The job in one process."""
    path = folder / "job.py"
    path.write_text(JOB)
    return TrainingConfig(
        refer(str(path)), compute=ComputeSettings(threads=1), batch=BatchSettings(8)
    )


def two(config: TrainingConfig, strategy: Any = "ddp", accumulation: int = 1) -> TrainingConfig:
    """The same samples for each step, over two processes."""
    size = config.batch.size // 2 // accumulation
    divided = config.with_batch(size=size, accumulation=accumulation)
    return divided.with_scale(processes=2, strategy=strategy)


def losses(config: TrainingConfig, steps: int) -> tuple[int, tuple[float, ...]]:
    """This rank, and the mean losses of some steps."""
    from saccade.train.ranked import RankedSubject

    subject = RankedSubject(config)
    subject.open()
    found = subject.curve(1, steps, judge=False).losses
    return int(os.environ["RANK"]), found


def failing(config: TrainingConfig, how: str) -> None:
    """The second rank comes to grief while the first one waits for it."""
    from torch import distributed

    from saccade.train.distributed import join

    join(config)
    if os.environ["RANK"] == "1" and how == "raise":
        raise DataError("Picture 7 is a poem.")
    if os.environ["RANK"] == "1" and how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    distributed.barrier()


if __name__ == "__main__":
    import ranked_training

    from saccade.train.ray_launch import launch_on_ray

    config = two(alone(Path(sys.argv[1])))
    # Processes of Ray's find functions by their module, which here is called `__main__`.
    rank, found = launch_on_ray(config, ranked_training.losses, config, 4)
    print(json.dumps({"rank": rank, "losses": found}))
