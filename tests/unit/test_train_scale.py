"""How a step is divided, how a model is cut, who is to blame, and when changes of scale apply."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training_stand_ins import BASELINE, block_of, context_of

from saccade.errors import DataError, RuntimeFailure, SpecError, WorkerFailure
from saccade.optimize.training.group import joined_ranks
from saccade.train.agreement import Alone
from saccade.train.changes.ddp import DataParallel
from saccade.train.changes.fsdp import FullyShard
from saccade.train.config import TrainingConfig
from saccade.train.dividing import divided, spread, united
from saccade.train.launch import launch_training, to_blame
from saccade.train.order import SampleOrder
from saccade.train.sharding import load_model_state, model_state, optimizer_state, units


@given(st.integers(1, 64), st.integers(1, 8), st.integers(2, 8), st.integers(0, 20))
def test_a_divided_step_has_the_same_samples(
    size: int, accumulation: int, world: int, step: int
) -> None:
    config = BASELINE.with_batch(size=size, accumulation=accumulation)
    found = divided(config, world)
    if found is None:
        assert size % world and accumulation % world
        return
    assert _samples(found, world, step) == _samples(config, 1, step)


def _samples(config: TrainingConfig, world: int, step: int) -> list[int]:
    """Indices of a step's samples over all ranks; none is in two of them."""
    batch = config.batch
    parts = []
    for rank in range(world):
        order = SampleOrder(
            2000, batch.size, 3, rank=rank, world=world, accumulation=batch.accumulation
        )
        for number in range(batch.accumulation):
            tickets = order.batch_at(step * batch.accumulation + number)
            parts += [ticket.index for ticket in tickets]
    assert len(parts) == len(set(parts)) or len(parts) > 2000
    return sorted(parts)


def test_spreading_keeps_the_effective_batch_and_shares_the_cores() -> None:
    found = spread(BASELINE, 2, 2, cores=8)
    assert found.batch.effective * found.scale.world == BASELINE.batch.effective
    assert (found.scale.world, found.compute.threads) == (4, 4)
    assert united(found).batch.effective == BASELINE.batch.effective
    assert spread(found, 1) == united(found)
    assert united(spread(BASELINE, 4, cores=8)) == BASELINE


def test_a_batch_that_cannot_be_divided_is_refused() -> None:
    with pytest.raises(SpecError, match=r"cannot\s+be divided by 3"):
        spread(BASELINE, 3)


class Tied(torch.nn.Module):
    """A large list of blocks, attention that uses its parts' weights, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = torch.nn.ModuleList(
            torch.nn.Sequential(torch.nn.Linear(32, 32), torch.nn.ReLU()) for _ in range(12)
        )
        self.attention = torch.nn.MultiheadAttention(32, 2)
        self.head = torch.nn.Linear(32, 4)


def test_a_model_is_cut_into_parts_that_are_called() -> None:
    model = Tied()
    found = units(model)
    assert found == [*model.blocks, model.attention, model.head]
    inside = [{id(part) for part in unit.modules()} for unit in found]
    assert sum(map(len, inside)) == len(set.union(*inside))


def test_the_state_of_a_whole_model_is_its_own() -> None:
    model = Tied()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    state = model_state(model)
    other = Tied()
    load_model_state(other, state)
    pairs = zip(model.parameters(), other.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert optimizer_state(optimizer) == optimizer.state_dict()


def test_the_lost_connection_is_not_to_blame() -> None:
    lost = RuntimeFailure("Connection closed by peer")
    assert to_blame({0: lost, 1: DataError("a poem")})[0] == 1
    assert to_blame({0: lost, 2: WorkerFailure("killed")})[0] == 2
    assert to_blame({1: lost, 0: RuntimeFailure("as well")}) == (1, lost)


def test_one_process_is_called_where_it_is() -> None:
    assert launch_training(BASELINE, lambda value: value + 1, 2) == 3


def test_alone_agrees_with_itself() -> None:
    alone = Alone()
    assert alone.any([True, False]) == (True, False)
    assert alone.means([1.0, 2.0]) == [1.0, 2.0]
    assert alone.from_first(lambda: 5) == 5 and alone.gathered(5) == [5]


def test_blocks_of_ranks_add_up_and_a_slow_one_is_seen() -> None:
    """The others wait for it in their backward passes, which are longer for that."""
    fast, slow = block_of(10.0), block_of(10.0)
    step = slow.step_s[0]
    slow = replace(slow, part_s={**slow.part_s, "data": (0.5 * step,) * 4})
    waiting = tuple(s + 0.4 * step for s in fast.part_s["backward"])
    fast = replace(fast, part_s={**fast.part_s, "backward": waiting})
    both = joined_ranks([fast, slow])
    assert both.samples == fast.samples + slow.samples
    assert both.ranks_ms[1] - both.ranks_ms[0] == pytest.approx(400 * step)


def _cuda(**machine: Any) -> Any:
    config = BASELINE.with_compute(device="cuda")
    facts = {"gpu": "a GPU", "gpus": 2, "gpu_memory_mb": 10_000.0, **machine}
    return context_of(config, **facts)


def test_processes_on_a_cpu_are_tried_where_the_user_says_so() -> None:
    context = context_of(cores=4)
    assert "--allow scale" in (DataParallel(2).applies(context) or "")
    allowed = replace(context, allow=frozenset({"scale"}))
    assert DataParallel(2).applies(allowed) is None
    found = DataParallel(2).apply(allowed)
    assert (found.batch.size, found.compute.threads, found.scale.strategy) == (4, 2, "ddp")


def test_what_processes_on_a_cpu_may_win_is_what_one_leaves_idle() -> None:
    block = block_of(2.0)
    busy = replace(block, cpu_s=4 * block.wall_s)
    idle = replace(block, cpu_s=1.0 * block.wall_s)
    full = DataParallel(2).predict(context_of(block=busy, cores=4))
    free = DataParallel(2).predict(context_of(block=idle, cores=4))
    assert full.bound == pytest.approx(1.0)
    assert free.bound == pytest.approx(4.0) and 1.0 < free.gain < free.bound


def test_the_effective_batch_grows_only_where_that_is_allowed() -> None:
    context = _cuda()
    assert [change.grown for change in DataParallel.variants(context)] == [False]
    assert DataParallel(2, grown=True).applies(context) is not None
    allowed = replace(context, allow=frozenset({"batch"}))
    kept, grown = DataParallel.variants(allowed)
    assert kept.apply(allowed).batch.size * 2 == BASELINE.batch.size
    assert grown.apply(allowed).batch.size == BASELINE.batch.size
    assert kept.label != grown.label


def test_a_model_is_sharded_where_memory_is_short_and_offloaded_where_shares_are() -> None:
    def holding(megabytes: float, **more: float) -> Any:
        context = _cuda(free_memory_mb=64_000.0)
        memory = {"parameters": megabytes, "gradients": megabytes, **more}
        return replace(context, profile=replace(context.profile, memory_mb=memory))

    assert "ddp sends less" in (FullyShard(2).applies(holding(500.0)) or "")
    assert FullyShard(2).applies(holding(500.0, activations=8_500.0)) is None
    assert FullyShard(2).applies(holding(3_000.0)) is None
    assert "room" in (FullyShard(2, True).applies(holding(3_000.0)) or "")
    assert FullyShard(2, True).applies(holding(6_000.0)) is None
    assert FullyShard(2, True).apply(holding(6_000.0)).scale.offload
    assert "share" in (FullyShard(2).applies(context_of(cores=4)) or "")
