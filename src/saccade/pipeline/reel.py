"""`Reel`: a source that is looked at piece by piece, each from where it is asked for."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

from saccade.pipeline.engine import Emission
from saccade.pipeline.frames import Frame

# Runs so many frames from a position on, counted from the first; None goes on where the last ended.
Excerpts = Callable[[int | None, int], Iterator[Emission]]


class Reel:
    """The frames of a source that starts again when it ends.

    Going forward decodes what is passed over; going back opens the source anew.

    Args:
        opened: the frames from the first on, without end.
    """

    def __init__(self, opened: Callable[[], Iterator[Frame]]) -> None:
        self._opened = opened
        self._frames = opened()
        self._position = 0

    def frames(self, start: int | None, count: int) -> Iterator[Frame]:
        """``count`` frames from ``start``, or from where the last excerpt ended."""
        if start is not None and start < self._position:
            self._frames, self._position = self._opened(), 0
        first = self._position if start is None else start
        passed = first - self._position
        self._position = first + count
        return itertools.islice(self._frames, passed, passed + count)
