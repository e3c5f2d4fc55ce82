"""Both engines for a dynamic resolution: a small look first, a second one where it is in doubt.

Where nothing has moved since the last second look, its result is given again instead.

The frames of a stream must not wait for a session to be opened in their midst, so the first frame
of each size is also looked at in full for nothing: that opens the session and lets the runtime
allocate what it needs.

Overlapped, the feeder decodes and submits small looks as it does with frames of one size. The
caller's thread collects them in order; where one is in doubt it submits the same frame at full
size and goes on to the next, so that second looks run beside first ones. Results still come out
in order.
"""

from __future__ import annotations

import contextlib
import queue
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from saccade.looks import Look
from saccade.pipeline.engine import Emission, Failure, Feeder, Geometry, Slot, Stages, timed
from saccade.pipeline.frames import Frame
from saccade.pipeline.geometry import Letterbox
from saccade.pipeline.stillness import LastFullLook
from saccade.runtimes.contract import Session, Ticket


@dataclass(frozen=True)
class FirstLook:
    """The small look, and what follows from it.

    Attributes:
        stages: of the small look, with a preprocessor and sessions of its own.
        doubtful: whether a small look's result asks for a second one.
        settle: turns a small look's result into the pipeline's, where none is needed.
        ahead: second looks under way at most; no more than the session takes requests.
        still_up_to: the largest change that counts as nothing having moved; 0 for none.
        rehearsed: whether full looks are rehearsed on the first frame of each size.
    """

    stages: Stages
    doubtful: Callable[[Any], bool]
    settle: Callable[[Any], Any]
    ahead: int = 1
    still_up_to: float = 0.0
    rehearsed: bool = False


class _FullLooks(Geometry):
    """Geometry of the full looks, rehearsed on the first frame of each size."""

    def __init__(self, stages: Stages, rehearsed: bool) -> None:
        super().__init__(stages)
        self._preprocessor, self._rehearsed = stages.preprocessor, rehearsed
        self._ready: tuple[int, int] | None = None

    def expect(self, frame: Frame) -> None:
        """Be ready for a full look at frames of this size, so that the first need not wait."""
        if not self._rehearsed or frame.hw == self._ready:
            return
        self._ready = frame.hw
        box, session = self.of(frame)
        session.infer(self._preprocessor.run(frame, box, self.buffer))


def run_sequential_twice(
    stages: Stages, first: FirstLook, frames: Iterator[Frame], keep_frames: bool = False
) -> Iterator[Emission]:
    """One frame after the other. A second look counts as inference up to its last output."""
    clock = stages.clock
    small, large = Geometry(first.stages), _FullLooks(stages, first.rehearsed)
    last = LastFullLook(first.still_up_to)
    last_result: Any = None
    for index, (frame, started, decoded) in enumerate(timed(frames, clock)):
        look: Look = "small"
        large.expect(frame)
        box, session = small.of(frame)
        tensor = first.stages.preprocessor.run(frame, box, small.buffer)
        prepared = clock()
        outputs = session.infer(tensor)
        inferred = clock()
        result = first.stages.postprocess(outputs, box)
        if not first.doubtful(result):
            result = first.settle(result)
        elif last.still_holds(frame):
            result, look = last_result, "as before"
        else:
            look = "full"
            box, session = large.of(frame)
            outputs = session.infer(stages.preprocessor.run(frame, box, large.buffer))
            inferred = clock()
            result = last_result = stages.postprocess(outputs, box)
        done = clock()
        times = {
            "decode": (started, decoded),
            "preprocess": (decoded, prepared),
            "infer": (prepared, inferred),
            "postprocess": (inferred, done),
        }
        kept = frame if keep_frames else None
        yield Emission(index, result, kept, started, done, times, look)


def run_overlapped_twice(
    stages: Stages,
    first: FirstLook,
    frames: Iterator[Frame],
    slots: int,
    keep_frames: bool = False,
) -> Iterator[Emission]:
    """First looks, second looks, decoding and postprocessing at the same time; in order."""
    # The frame is kept for its second look; what the caller gets is decided at the end.
    feeder = Feeder(first.stages, frames, max(2, slots), keep_frames=True)
    looks = _Looks(stages, first)
    ended: Failure | bool = False
    feeder.start()
    try:
        while True:
            while not ended and len(looks.waiting) < first.ahead:
                item = _next(feeder, wait=not looks.waiting)
                if item is _NOTHING_YET:
                    break
                ended = looks.take(item)
            if not looks.waiting:
                break
            slot, emission = looks.give(keep_frames)
            feeder.free.put(slot)
            yield emission
        if isinstance(ended, Failure):
            raise ended.error
    finally:
        looks.abandon()
        feeder.stop()


_NOTHING_YET = object()


def _next(feeder: Feeder, wait: bool) -> Any:
    """The next first look; where nothing else is to be done, the caller waits for it."""
    try:
        return feeder.ready.get(block=wait)
    except queue.Empty:
        return _NOTHING_YET


@dataclass
class _Look:
    """A frame whose first look is done; settled, under way in its second, or still as it was."""

    slot: Slot
    result: Any
    inferred: float
    settled: float
    look: Look = "small"
    box: Letterbox | None = None
    session: Session | None = None
    ticket: Ticket | None = None
    buffer: NDArray[Any] | None = None


class _Looks:
    """Frames between their first look and their place in the stream, in order."""

    def __init__(self, stages: Stages, first: FirstLook) -> None:
        self._stages = stages
        self._first = first
        self._geometry = _FullLooks(stages, first.rehearsed)
        self._last = LastFullLook(first.still_up_to)
        self._last_result: Any = None
        self._spare: list[NDArray[Any]] = []
        self._spare_box: Letterbox | None = None
        self.waiting: deque[_Look] = deque()

    def take(self, item: Slot | Failure | None) -> Failure | bool:
        """Finish a first look and, where it is in doubt, begin the second.

        Returns:
            Whether the stream has ended; what failed, where it ended by that. Frames before it
            are still to be given.
        """
        if not isinstance(item, Slot):
            return item or True
        try:
            self.waiting.append(self._looked_at(item))
        except Exception as error:
            return Failure(error)
        return False

    def _looked_at(self, slot: Slot) -> _Look:
        first, clock = self._first, self._stages.clock
        assert slot.frame is not None
        assert slot.session is not None and slot.ticket is not None and slot.box is not None
        try:
            self._geometry.expect(slot.frame)
            outputs = slot.session.collect(slot.ticket)
            inferred = clock()
            result = first.stages.postprocess(outputs, slot.box)
        finally:
            # Also after a failure: the feeder may be waiting for this very request.
            slot.session.release(slot.ticket)
            slot.ticket = None
        if not first.doubtful(result):
            return _Look(slot, first.settle(result), inferred, clock())
        if self._last.still_holds(slot.frame):
            return _Look(slot, None, inferred, clock(), "as before")
        return self._again(slot, slot.frame, inferred)

    def _again(self, slot: Slot, frame: Frame, inferred: float) -> _Look:
        """Submit the frame at full size."""
        box, session = self._geometry.of(frame)
        if box != self._spare_box:
            self._spare, self._spare_box = [], box
        preprocessor = self._stages.preprocessor
        buffer = self._spare.pop() if self._spare else preprocessor.allocate(box)
        tensor = preprocessor.run(frame, box, buffer)
        ticket = session.submit(tensor)
        return _Look(slot, None, inferred, inferred, "full", box, session, ticket, buffer)

    def give(self, keep_frames: bool) -> tuple[Slot, Emission]:
        """The oldest frame's slot, to be used again, and its emission."""
        look = self.waiting.popleft()
        if look.ticket is not None:
            self._finish(look)
        elif look.look == "as before":
            # Looks are given in order, so the one that this frame goes by is finished.
            look.result = self._last_result
        slot = look.slot
        times = dict(slot.times)
        times["infer"] = (times["preprocess"][1], look.inferred)
        times["postprocess"] = (look.inferred, look.settled)
        frame = slot.frame if keep_frames else None
        slot.frame = None
        emitted = self._stages.clock()
        began = times["decode"][0]
        return slot, Emission(slot.index, look.result, frame, began, emitted, times, look.look)

    def _finish(self, look: _Look) -> None:
        """Collect a second look, postprocess it, and give its buffers back."""
        assert look.session is not None and look.ticket is not None and look.box is not None
        assert look.buffer is not None
        try:
            outputs = look.session.collect(look.ticket)
            look.inferred = self._stages.clock()
            look.result = self._last_result = self._stages.postprocess(outputs, look.box)
            look.settled = self._stages.clock()
        finally:
            look.session.release(look.ticket)
            look.ticket = None
        if look.box == self._spare_box:
            self._spare.append(look.buffer)

    def abandon(self) -> None:
        """Give back what is under way; nobody wants these results, nor to hear of failures."""
        while self.waiting:
            look = self.waiting.popleft()
            if look.ticket is not None and look.session is not None:
                with contextlib.suppress(Exception):
                    look.session.collect(look.ticket)
                look.session.release(look.ticket)
