"""A model in shards (FSDP2): what is gathered at a time, and how its state is written whole.

What is saved is the same whatever the strategy, so that a training that was begun on shards can be
gone on with in one process, and the other way round.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from saccade.train.config import TrainingConfig

# A part that is gathered at a time holds at most this share of the model, where it can be divided.
UNIT_SHARE = 1 / 8


def shard(model: Any, config: TrainingConfig) -> None:
    """Shard a module in place, part by part; each part is gathered when it is called.

    Parts are moved to the device one by one, so that the model need not fit it. Gradients are
    scattered after every backward pass, also where they are accumulated: keeping them whole until
    the last would send less and take the memory that sharding is there to save.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import CPUOffloadPolicy, OffloadPolicy, fully_shard

    cuda = config.compute.device.startswith("cuda")
    mesh = init_device_mesh("cuda" if cuda else "cpu", (config.scale.world,))
    # On a CPU there is no device to take the parameters off.
    policy = CPUOffloadPolicy() if config.scale.offload and cuda else OffloadPolicy()
    for unit in units(model):
        fully_shard(unit, mesh=mesh, offload_policy=policy)
    fully_shard(model, mesh=mesh, offload_policy=policy)


def units(model: Any) -> list[Any]:
    """The modules that are gathered one at a time; none contains another."""
    import torch

    most = UNIT_SHARE * _size(model)
    # These are called by their owner's forward pass and never by themselves, or use their
    # children's weights without calling them.
    lists = (torch.nn.ModuleList, torch.nn.ModuleDict)
    whole = (torch.nn.MultiheadAttention, torch.nn.RNNBase)

    def below(module: Any) -> Iterator[Any]:
        for child in module.children():
            if not _size(child):
                continue
            small = _size(child) <= most or isinstance(child, whole) or _is_leaf(child)
            if small and not isinstance(child, lists):
                yield child
            else:
                yield from below(child)

    return list(below(model))


def _is_leaf(module: Any) -> bool:
    """Whether no part of it has parameters of its own."""
    return not any(_size(child) for child in module.children())


def _size(module: Any) -> int:
    return sum(int(parameter.numel()) for parameter in module.parameters())


def model_state(model: Any) -> dict[str, Any]:
    """The model's whole state dict; on shards every process has to ask, and the first has it."""
    return {name: _whole(value) for name, value in model.state_dict().items()}


def load_model_state(model: Any, state: Mapping[str, Any]) -> None:
    """The inverse of `model_state`; every process gives the whole state."""
    own = model.state_dict()
    model.load_state_dict({name: _like(own.get(name), value) for name, value in state.items()})


def optimizer_state(optimizer: Any) -> dict[str, Any]:
    """The optimizer's whole state dict, as `model_state`."""
    found = optimizer.state_dict()
    whole = {
        number: {name: _whole(value) for name, value in values.items()}
        for number, values in found["state"].items()
    }
    return {**found, "state": whole}


def load_optimizer_state(optimizer: Any, state: Mapping[str, Any]) -> None:
    """The inverse of `optimizer_state`; every process gives the whole state."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    own = {
        number: {
            name: _like(parameters[number], value) if _of_one_shape(parameters[number], value)
            else value
            for name, value in values.items()
        }
        for number, values in state["state"].items()
    }  # fmt: skip
    optimizer.load_state_dict({**state, "state": own})


def _of_one_shape(parameter: Any, value: Any) -> bool:
    return bool(getattr(value, "shape", None) == parameter.shape)


def _whole(value: Any) -> Any:
    """A tensor put together from its shards; anything else as it is.

    In the CPU's memory, and of the first process only: the others had no room or use for it.
    """
    from torch import distributed

    gather = getattr(value, "full_tensor", None)
    if gather is None:
        return value
    whole = gather().detach()
    return whole.cpu() if distributed.get_rank() == 0 else None


def _like(own: Any, value: Any) -> Any:
    """``value`` in shards, where ``own`` is; each process has the whole and takes its part."""
    mesh = getattr(own, "device_mesh", None)
    if mesh is None or hasattr(value, "full_tensor"):
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(
        value.to(mesh.device_type), mesh, own.placements, src_data_rank=None
    ).to(own.device)
