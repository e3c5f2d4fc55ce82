"""The two ways of executing the stages: one after the other, and overlapped.

Overlapped: a feeder thread decodes and preprocesses into a slot's buffer and submits it; the
runtime works on several slots at a time; the caller's thread collects in order and
postprocesses. The number of slots bounds everything, so memory is constant on a video of any
length, and a slow consumer slows the decoder down instead of filling a queue.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from saccade.looks import Look
from saccade.pipeline.frames import Frame
from saccade.pipeline.geometry import Letterbox
from saccade.pipeline.preprocess import Preprocessor
from saccade.runtimes.contract import Session, Ticket
from saccade.tasks.contract import Postprocessor

Clock = Callable[[], float]
StageTimes = dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Stages:
    """The parts of one running pipeline.

    Attributes:
        box_for: frame size → letterbox geometry.
        session_for: input size → session.
        detect_every: the model looks at every so-manieth frame of a stream.
        fill_in: gives the result of a frame that the model did not look at.
    """

    preprocessor: Preprocessor
    postprocess: Postprocessor
    box_for: Callable[[tuple[int, int]], Letterbox]
    session_for: Callable[[tuple[int, int]], Session]
    clock: Clock = time.perf_counter
    detect_every: int = 1
    fill_in: Callable[[Letterbox], Any] | None = None

    def looks_at(self, index: int) -> bool:
        """Whether the model sees the frame at this position of the stream."""
        return self.fill_in is None or index % self.detect_every == 0


@dataclass(frozen=True)
class Emission:
    """One frame's result.

    Attributes:
        index: position in the stream, from 0.
        result: the task's result.
        frame: the decoded frame, where it was asked for.
        started_s: when its decode began, on the engine's clock.
        emitted_s: when its result was there.
        stages: stage name → (start, end) on the same clock, and those of parts of stages.
        look: how it was looked at, where the resolution is dynamic.
    """

    index: int
    result: Any
    frame: Frame | None
    started_s: float
    emitted_s: float
    stages: StageTimes
    look: Look | None = None


def run_sequential(
    stages: Stages, frames: Iterator[Frame], keep_frames: bool = False
) -> Iterator[Emission]:
    """One frame after the other, one stage after the other."""
    clock = stages.clock
    geometry = Geometry(stages)
    for index, (frame, started, decoded) in enumerate(timed(frames, clock)):
        box, session = geometry.of(frame)
        if not stages.looks_at(index):
            passed = _Passed(index, box, frame if keep_frames else None, (started, decoded))
            yield _filled_in(stages, passed)
            continue
        tensor = stages.preprocessor.run(frame, box, geometry.buffer)
        prepared = clock()
        outputs = session.infer(tensor)
        inferred = clock()
        result = stages.postprocess(outputs, box)
        done = clock()
        times = {
            "decode": (started, decoded),
            "preprocess": (decoded, prepared),
            "infer": (prepared, inferred),
            "postprocess": (inferred, done),
            **_parts(stages.postprocess),
        }
        yield Emission(index, result, frame if keep_frames else None, started, done, times)


def _parts(postprocess: Postprocessor) -> StageTimes:
    """What the postprocessor says about its last call."""
    found: StageTimes = getattr(postprocess, "parts", {})
    return found


@dataclass(frozen=True)
class _Passed:
    """A frame that the model does not look at, on its way through the pipeline."""

    index: int
    box: Letterbox
    frame: Frame | None
    decode: tuple[float, float]


def _filled_in(stages: Stages, passed: _Passed) -> Emission:
    """The result of a passed frame; it was neither preprocessed nor inferred."""
    assert stages.fill_in is not None
    began = stages.clock()
    result = stages.fill_in(passed.box)
    done = stages.clock()
    started, decoded = passed.decode
    times = {
        "decode": passed.decode,
        "preprocess": (decoded, decoded),
        "infer": (decoded, decoded),
        "postprocess": (began, done),
    }
    return Emission(passed.index, result, passed.frame, started, done, times)


class Geometry:
    """Letterbox, session and buffer of the current frame size; sizes may change in a stream."""

    def __init__(self, stages: Stages) -> None:
        self._stages = stages
        self._hw: tuple[int, int] | None = None
        self.buffer: NDArray[Any]
        self._box: Letterbox
        self._session: Session

    def of(self, frame: Frame) -> tuple[Letterbox, Session]:
        """Letterbox and session of a frame; the buffer fits it from here on."""
        if frame.hw != self._hw:
            self._hw = frame.hw
            self._box = self._stages.box_for(frame.hw)
            self._session = self._stages.session_for(self._box.input_hw)
            self.buffer = self._stages.preprocessor.allocate(self._box)
        return self._box, self._session


def timed(frames: Iterator[Frame], clock: Clock) -> Iterator[tuple[Frame, float, float]]:
    """Each frame with the times at which its decoding began and ended."""
    while True:
        started = clock()
        frame = next(frames, None)
        if frame is None:
            return
        yield frame, started, clock()


@dataclass
class Slot:
    """A reusable place for one frame on its way through the pipeline."""

    buffer: NDArray[Any] | None = None
    box: Letterbox | None = None
    session: Session | None = None
    ticket: Ticket | None = None
    frame: Frame | None = None
    index: int = 0
    times: StageTimes = field(default_factory=dict)


class Failure:
    """An exception on its way from the feeder to the caller."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


def run_overlapped(
    stages: Stages, frames: Iterator[Frame], slots: int, keep_frames: bool = False
) -> Iterator[Emission]:
    """Decode, inference and postprocessing at the same time; results in order."""
    feeder = Feeder(stages, frames, max(2, slots), keep_frames)
    feeder.start()
    try:
        while True:
            item = feeder.ready.get()
            if item is None:
                return
            if isinstance(item, Failure):
                raise item.error
            if isinstance(item, _Passed):
                yield _filled_in(stages, item)
                continue
            emission = _finish(stages, item)
            feeder.free.put(item)
            yield emission
    finally:
        feeder.stop()


def _finish(stages: Stages, slot: Slot) -> Emission:
    """Collect one inference, postprocess it, and give the slot's buffers back."""
    assert slot.session is not None and slot.ticket is not None and slot.box is not None
    try:
        outputs = slot.session.collect(slot.ticket)
        inferred = stages.clock()
        result = stages.postprocess(outputs, slot.box)
    finally:
        # Also after a failure: the feeder may be waiting for this very request.
        slot.session.release(slot.ticket)
        slot.ticket = None
    done = stages.clock()
    times = dict(slot.times)
    submitted = times["preprocess"][1]
    times["infer"] = (submitted, inferred)
    times["postprocess"] = (inferred, done)
    times.update(_parts(stages.postprocess))
    return Emission(slot.index, result, slot.frame, times["decode"][0], done, times)


class Feeder:
    """The thread that decodes, preprocesses and submits."""

    def __init__(
        self, stages: Stages, frames: Iterator[Frame], slots: int, keep_frames: bool
    ) -> None:
        self._stages = stages
        self._frames = frames
        self._keep_frames = keep_frames
        self._stop = threading.Event()
        self.free: queue.SimpleQueue[Slot | None] = queue.SimpleQueue()
        self.ready: queue.SimpleQueue[Slot | _Passed | Failure | None] = queue.SimpleQueue()
        for _ in range(slots):
            self.free.put(Slot())
        self._thread = threading.Thread(target=self._run, name="saccade-feeder", daemon=True)

    def start(self) -> None:
        """Begin decoding."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for what is under way; safe at any moment."""
        self._stop.set()
        self.free.put(None)
        # The feeder may be waiting in `submit` for a request that only draining gives back.
        while self._thread.is_alive():
            self._drain()
            self._thread.join(timeout=0.005)
        self._drain()

    def _drain(self) -> None:
        while True:
            try:
                item = self.ready.get_nowait()
            except queue.Empty:
                return
            if isinstance(item, Slot) and item.ticket is not None and item.session is not None:
                # Nobody wants this result, so nobody wants to hear that it failed.
                with contextlib.suppress(Exception):
                    item.session.collect(item.ticket)
                item.session.release(item.ticket)

    def _run(self) -> None:
        try:
            self._feed()
            self.ready.put(None)
        except BaseException as error:  # handed to the caller, which raises it
            self.ready.put(Failure(error))
        finally:
            # A generator must be closed by the thread that runs it, so that its file is too.
            close = getattr(self._frames, "close", None)
            if close is not None:
                close()

    def _feed(self) -> None:
        stages, clock = self._stages, self._stages.clock
        geometry = Geometry(stages)
        index = 0
        while not self._stop.is_set():
            # A passed frame takes no slot: only `detect_every` - 1 of them follow each that does.
            slot = None
            if stages.looks_at(index):
                # A slot first, so that latency does not count the wait for a place in the queue.
                slot = self.free.get()
                if slot is None:
                    return
            started = clock()
            frame = next(self._frames, None)
            if frame is None:
                return
            decoded = clock()
            box, session = geometry.of(frame)
            kept = frame if self._keep_frames else None
            if slot is None:
                self.ready.put(_Passed(index, box, kept, (started, decoded)))
                index += 1
                continue
            if slot.box != box or slot.buffer is None:
                slot.buffer, slot.box = stages.preprocessor.allocate(box), box
            slot.session = session
            tensor = stages.preprocessor.run(frame, box, slot.buffer)
            slot.times = {"decode": (started, decoded), "preprocess": (decoded, clock())}
            slot.index, slot.frame = index, kept
            slot.ticket = session.submit(tensor)
            self.ready.put(slot)
            index += 1
