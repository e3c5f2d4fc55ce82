"""Processes that train one model together: each a part of every batch, gradients averaged.

Ranks find each other through the environment that torchrun sets (``RANK``, ``WORLD_SIZE``,
``MASTER_ADDR``, ``MASTER_PORT``); over gloo on CPUs, over NCCL on GPUs.

A step of ``world`` processes has ``batch.size * batch.accumulation * world`` samples. The gradient
is the mean over processes of the gradient of each one's loss: for a loss that is a mean over
samples, exactly that of the whole batch; for one that is a mean over something samples have
unequally much of (pixels that are not ignored, objects), each process counts the same.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from saccade.errors import RuntimeFailure
from saccade.train.config import TrainingConfig
from saccade.train.sharding import shard

# How long ranks wait for each other at the beginning, and later, where one may write a checkpoint
# or compile while the others are done. That one died is noticed by who started them, at once.
JOIN_TIMEOUT, WAIT_TIMEOUT = timedelta(seconds=180), timedelta(minutes=30)


def rank_here() -> int:
    """This process's rank; 0 where it trains alone."""
    return int(os.environ.get("RANK", "0"))


def is_rank() -> bool:
    """Whether this process was started as one of several, by torchrun, by Ray or by saccade."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def join(config: TrainingConfig) -> None:
    """Join the group of processes, where the configuration has one and it was not joined yet.

    Raises:
        RuntimeFailure: the environment is not that of a rank, or the others cannot be reached.
    """
    from torch import distributed

    if config.scale.strategy == "single":
        return
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world != config.scale.world:
        raise RuntimeFailure(
            f"The configuration trains in {config.scale.world} processes and this is one of "
            f"{world}. Start it with `saccade train run`, which starts all of them."
        )
    cuda = config.compute.device.startswith("cuda")
    if cuda:
        _take_device()
    if distributed.is_initialized():
        return
    try:
        _meet("cpu:gloo,cuda:nccl" if cuda else "gloo")
    except (RuntimeError, ValueError) as error:
        raise RuntimeFailure(
            f"Rank {rank_here()} of {world} could not join the others: {error}. Check that every "
            "machine reaches MASTER_ADDR and that the port is free."
        ) from error


def _take_device() -> None:
    """The GPU of this rank; "cuda" then means that one."""
    import torch

    local, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if local >= count:
        raise RuntimeFailure(
            f"Rank {rank_here()} has no GPU: there are {count} here and it is the "
            f"{local + 1}th process. Train in at most {count} processes on each machine."
        )
    torch.cuda.set_device(local)


def _meet(backend: str) -> None:
    from torch import distributed
    from torch.distributed.rendezvous import rendezvous

    # Meeting has a shorter patience than working, so the store is made here.
    store, rank, world = next(rendezvous("env://", timeout=JOIN_TIMEOUT))
    store.set_timeout(WAIT_TIMEOUT)
    distributed.init_process_group(
        backend,
        store=distributed.PrefixStore("saccade", store),
        rank=rank,
        world_size=world,
        timeout=WAIT_TIMEOUT,
    )


def leave() -> None:
    """Leave the group. Calling it twice, or without one, is allowed."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def shared(model: Any, config: TrainingConfig) -> Any:
    """What is called in a step: the model, a replica that averages gradients, or its shards.

    ``"ddp"`` keeps a copy of the model in each process (Li et al., "PyTorch Distributed", VLDB
    2020); ``"fsdp"`` keeps a share of parameters, gradients and optimizer state each, in place
    (Zhao et al., "PyTorch FSDP", VLDB 2023), for models that do not fit.
    """
    if config.scale.strategy == "ddp":
        from torch.nn.parallel import DistributedDataParallel

        return DistributedDataParallel(model)
    if config.scale.strategy == "fsdp":
        shard(model, config)
    return model
