"""Processes that train one model together: each a part of every batch, gradients averaged.

Ranks find each other through the environment that torchrun sets (``RANK``, ``WORLD_SIZE``,
``MASTER_ADDR``, ``MASTER_PORT``); over gloo on CPUs, over NCCL on GPUs.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from saccade.errors import RuntimeFailure
from saccade.train.config import TrainingConfig

# The others wait in a step while the first rank judges and saves after an epoch.
TIMEOUT = timedelta(minutes=30)


def rank_here() -> int:
    """This process's rank; 0 where it trains alone."""
    return int(os.environ.get("RANK", "0"))


def join(config: TrainingConfig) -> None:
    """Join the group of processes, where the configuration has one and it was not joined yet.

    Raises:
        RuntimeFailure: the environment is not that of a rank, or the others cannot be reached.
    """
    import torch
    from torch import distributed

    if config.scale.strategy == "single" or distributed.is_initialized():
        return
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world != config.scale.world:
        raise RuntimeFailure(
            f"The configuration trains in {config.scale.world} processes and this is one of "
            f"{world}. Start it with `saccade train run`, which starts all of them."
        )
    cuda = config.compute.device.startswith("cuda")
    if cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    try:
        distributed.init_process_group("nccl" if cuda else "gloo", timeout=TIMEOUT)
    except (RuntimeError, ValueError) as error:
        raise RuntimeFailure(
            f"Rank {rank_here()} of {world} could not join the others: {error}"
        ) from error


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
        _shard(model)
    return model


def _shard(model: Any) -> None:
    """Shard each direct child that has parameters, then what is left of the model."""
    from torch.distributed.fsdp import fully_shard

    for child in model.children():
        if any(True for _ in child.parameters()):
            fully_shard(child)
    fully_shard(model)


def full_state(model: Any, config: TrainingConfig) -> dict[str, Any]:
    """The model's whole state dict, gathered from all shards where it is in shards."""
    if config.scale.strategy != "fsdp":
        return dict(model.state_dict())
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    return dict(get_model_state_dict(model, options=StateDictOptions(full_state_dict=True)))


def load_full_state(model: Any, state: dict[str, Any], config: TrainingConfig) -> None:
    """The inverse of `full_state`; every process gives the whole state."""
    if config.scale.strategy != "fsdp":
        model.load_state_dict(state)
        return
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

    set_model_state_dict(model, state, options=StateDictOptions(full_state_dict=True))
