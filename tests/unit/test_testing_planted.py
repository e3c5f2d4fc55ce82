from __future__ import annotations

import pytest

from saccade.testing.fake_clock import FakeClock
from saccade.testing.planted import planted


def test_fake_clock_moves_when_told() -> None:
    clock = FakeClock(start_s=5.0)
    clock.advance(1.5)
    clock.sleep(0.5)
    assert clock() == clock() == 7.0


def test_ticking_clock_moves_with_every_reading() -> None:
    clock = FakeClock(tick_s=0.25)
    assert [clock() for _ in range(3)] == [0.0, 0.25, 0.5]


def test_fake_clock_does_not_go_back() -> None:
    with pytest.raises(ValueError, match="cannot go back"):
        FakeClock().advance(-1)


def test_an_unknown_rule_has_no_planted_system() -> None:
    with pytest.raises(KeyError):
        planted("no_such_rule")
