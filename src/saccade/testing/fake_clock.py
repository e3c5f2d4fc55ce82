"""A clock that only moves when told to, so that tests of timing neither sleep nor flake."""

from __future__ import annotations


class FakeClock:
    """A callable like ``time.perf_counter`` under the test's control.

    Args:
        start_s: what the clock reads at first, in seconds.
        tick_s: how far every reading moves it, in seconds; lets loops that wait for a deadline
            end without any other hand on the clock.
    """

    def __init__(self, start_s: float = 0.0, tick_s: float = 0.0) -> None:
        self._now = start_s
        self._tick = tick_s

    def __call__(self) -> float:
        """The time in seconds."""
        now = self._now
        self._now += self._tick
        return now

    def advance(self, seconds: float) -> None:
        """Move the clock forward.

        Raises:
            ValueError: ``seconds`` is negative; a monotonic clock never goes back.
        """
        if seconds < 0:
            raise ValueError(f"A clock cannot go back by {-seconds} s; advance by zero or more.")
        self._now += seconds

    def sleep(self, seconds: float) -> None:
        """Stands in for ``time.sleep``: the time passes at once."""
        self.advance(seconds)
