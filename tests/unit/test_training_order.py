"""The k-th batch is a pure function of seed and step."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade.train.order import SampleOrder, ticket_seed


@given(st.integers(1, 60), st.integers(1, 9), st.integers(0, 100), st.integers(0, 40))
def test_going_on_is_the_same_as_not_stopping(count: int, batch: int, seed: int, stop: int) -> None:
    order = SampleOrder(count, batch, seed)
    whole = list(islice(order.from_step(0), stop + 3))
    assert list(islice(order.from_step(stop), 3)) == whole[stop:]


@given(st.integers(8, 60), st.integers(1, 8), st.integers(0, 100))
def test_an_epoch_takes_no_sample_twice(count: int, batch: int, seed: int) -> None:
    order = SampleOrder(count, batch, seed)
    seen = [t.index for b in islice(order.from_step(0), order.batches) for t in b]
    assert len(seen) == len(set(seen)) == count // batch * batch


@given(st.integers(16, 60), st.integers(1, 4), st.integers(2, 4))
def test_ranks_share_a_batch_without_overlap(count: int, batch: int, world: int) -> None:
    whole = SampleOrder(count, batch * world).batch_at(3)
    parts = [SampleOrder(count, batch, rank=r, world=world).batch_at(3) for r in range(world)]
    assert [t for part in parts for t in part] == whole


def test_another_epoch_is_another_order_with_other_randomness() -> None:
    order = SampleOrder(20, 4)
    first, second = order.batch_at(0), order.batch_at(order.batches)
    assert {t.epoch for t in first} == {0} and {t.epoch for t in second} == {1}
    assert [t.index for t in first] != [t.index for t in second]
    assert {t.seed for t in first}.isdisjoint({t.seed for t in second})


def test_judging_takes_every_sample_once_and_in_order() -> None:
    order = SampleOrder(10, 4, shuffle=False)
    found = [[t.index for t in b] for b in islice(order.from_step(0), order.batches)]
    assert found == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_seeds_are_mixed_and_the_same_everywhere() -> None:
    assert ticket_seed(0, 1, 2) == ticket_seed(0, 1, 2) != ticket_seed(0, 2, 1)
    assert 0 <= ticket_seed(7) < 2**32


@pytest.mark.parametrize("count", [1, 3, 7])
def test_a_data_set_smaller_than_a_batch_fills_it(count: int) -> None:
    assert len(SampleOrder(count, 8).batch_at(0)) == 8


@given(st.integers(5, 60), st.integers(1, 9), st.integers(1, 9), st.integers(0, 100))
def test_a_part_to_judge_on_is_the_same_for_every_batch_and_seed(
    part: int, first: int, second: int, seed: int
) -> None:
    orders = [
        SampleOrder(60, first, shuffle=False, part=part),
        SampleOrder(60, second, seed, shuffle=False, part=part),
    ]
    a, b = ([t.index for b in islice(o.from_step(0), o.batches) for t in b] for o in orders)
    assert a == b == sorted(set(a)) and len(a) == part
