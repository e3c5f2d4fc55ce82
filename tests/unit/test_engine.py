"""Both engines: order, completeness, bounds, failures in every stage, and early ends."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade.errors import RuntimeFailure
from saccade.pipeline.engine import Emission, Stages, run_overlapped, run_sequential
from saccade.pipeline.geometry import Letterbox, letterbox
from saccade.runtimes.contract import OperatorTime, Session, Ticket
from saccade.testing.fake_clock import FakeClock

WAIT_S = 20.0
ENGINES = ["sequential", "overlapped"]


class SharedClock(FakeClock):
    """A fake clock that several threads may move without turning it back."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()

    def advance(self, seconds: float) -> None:
        with self.lock:
            super().advance(seconds)


@dataclass(frozen=True)
class FakeFrame:
    number: int
    hw: tuple[int, int] = (60, 80)


@dataclass
class Reader:
    """Yields numbered frames and remembers who closed it."""

    sizes: list[tuple[int, int]]
    fails_at: int | None = None
    before: Callable[[int], None] = lambda number: None
    closed_by: str = ""

    def frames(self) -> Iterator[Any]:
        try:
            for number, hw in enumerate(self.sizes):
                self.before(number)
                if number == self.fails_at:
                    raise ValueError("reader")
                yield FakeFrame(number, hw)
        finally:
            self.closed_by = threading.current_thread().name


class FakePreprocessor:
    in_graph = False

    def __init__(self, clock: FakeClock, fails_at: int | None = None) -> None:
        self.clock, self.fails_at = clock, fails_at

    def allocate(self, box: Letterbox) -> np.ndarray:
        return np.zeros((1, *box.input_hw), np.int64)

    def run(self, frame: Any, box: Letterbox, out: np.ndarray) -> np.ndarray:
        if frame.number == self.fails_at:
            raise ValueError("preprocess")
        assert out.shape == (1, *box.input_hw)
        self.clock.advance(0.002)
        out[:] = frame.number
        return out


@dataclass
class FakeSession(Session):
    """Reads its input when it is collected, as late as a runtime may."""

    clock: FakeClock
    in_flight: int = 2
    fails_at: int | None = None
    fails_in: str = "collect"
    open_tickets: set[int] = field(default_factory=set)
    most_open: int = 0

    def __post_init__(self) -> None:
        self.places = threading.Semaphore(self.in_flight)
        self.lock = threading.Lock()
        self.ids = itertools.count()
        self.full = threading.Event()
        self.full_at = self.in_flight

    def infer(self, tensor: np.ndarray) -> list[Any]:
        if tensor.flat[0] == self.fails_at:
            raise RuntimeFailure("session")
        self.clock.advance(0.03)
        return [tensor.copy()]

    def submit(self, tensor: np.ndarray) -> Ticket:
        if self.fails_in == "submit" and tensor.flat[0] == self.fails_at:
            raise RuntimeFailure("session")
        assert self.places.acquire(timeout=WAIT_S), "nobody gave a request back"
        number = next(self.ids)
        with self.lock:
            self.open_tickets.add(number)
            self.most_open = max(self.most_open, len(self.open_tickets))
            if len(self.open_tickets) >= self.full_at:
                self.full.set()
        return Ticket(tensor, {"id": number})

    def collect(self, ticket: Ticket) -> list[Any]:
        return self.infer(ticket.payload)

    def release(self, ticket: Ticket) -> None:
        with self.lock:
            self.open_tickets.remove(ticket.meta["id"])
        self.places.release()

    def operators(self) -> list[OperatorTime]:
        return []

    def close(self) -> None:
        pass


@dataclass
class System:
    """Everything around an engine, ready to be broken somewhere."""

    count: int = 12
    slots: int = 4
    sizes: list[tuple[int, int]] | None = None
    in_flight: int = 2
    reader_fails_at: int | None = None
    preprocess_fails_at: int | None = None
    session_fails_at: int | None = None
    session_fails_in: str = "collect"
    postprocess_fails_at: int | None = None

    def __post_init__(self) -> None:
        self.clock = SharedClock()
        sizes = self.sizes or [(60, 80)] * self.count
        self.reader = Reader(sizes, self.reader_fails_at, lambda _: self.clock.advance(0.01))
        self.sessions: dict[tuple[int, int], FakeSession] = {}
        self.stages = Stages(
            FakePreprocessor(self.clock, self.preprocess_fails_at),  # type: ignore[arg-type]
            self.postprocess,
            lambda hw: letterbox(hw, 64, 8, "rect", "center"),
            self.session_for,
            self.clock,
        )

    def session_for(self, hw: tuple[int, int]) -> FakeSession:
        if hw not in self.sessions:
            self.sessions[hw] = FakeSession(
                self.clock, self.in_flight, self.session_fails_at, self.session_fails_in
            )
            self.sessions[hw].full_at = min(self.in_flight, self.slots)
        return self.sessions[hw]

    def postprocess(self, outputs: Any, box: Letterbox) -> tuple[int, Letterbox]:
        self.clock.advance(0.001)
        number = int(outputs[0].flat[0])
        assert (outputs[0] == number).all(), "a buffer was written to while it was in use"
        assert outputs[0].shape == (1, *box.input_hw)
        if number == self.postprocess_fails_at:
            raise ValueError("postprocess")
        return number, box

    def run(self, engine: str, keep_frames: bool = False) -> Iterator[Emission]:
        if engine == "sequential":
            return run_sequential(self.stages, self.reader.frames(), keep_frames)
        return run_overlapped(self.stages, self.reader.frames(), self.slots, keep_frames)

    @property
    def open_tickets(self) -> int:
        return sum(len(session.open_tickets) for session in self.sessions.values())


def feeders() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "saccade-feeder"]


@pytest.fixture(autouse=True)
def no_thread_is_left_behind() -> Iterator[None]:
    yield
    assert not feeders()


def numbers(emissions: Iterator[Emission]) -> list[int]:
    found = []
    for emission in emissions:
        number, _ = emission.result
        assert emission.index == number
        found.append(number)
    return found


@pytest.mark.parametrize("engine", ENGINES)
@settings(deadline=None, max_examples=30)
@given(count=st.integers(0, 25), slots=st.integers(1, 7), in_flight=st.integers(1, 5))
def test_every_frame_once_and_in_order(engine: str, count: int, slots: int, in_flight: int) -> None:
    system = System(count, slots, sizes=[(60, 80)] * count, in_flight=in_flight)
    assert numbers(system.run(engine)) == list(range(count))
    assert system.open_tickets == 0


@pytest.mark.parametrize("engine", ENGINES)
@settings(deadline=None, max_examples=30)
@given(st.lists(st.sampled_from([(60, 80), (80, 60), (64, 64), (30, 90)]), max_size=20))
def test_frames_may_change_their_size(engine: str, sizes: list[tuple[int, int]]) -> None:
    system = System(sizes=sizes or [(60, 80)])
    boxes = [emission.result[1] for emission in system.run(engine)]
    assert [box.frame_hw for box in boxes] == (sizes or [(60, 80)])
    assert set(system.sessions) == {box.input_hw for box in boxes}
    assert system.open_tickets == 0


FAULTS = {
    "reader": {"reader_fails_at": 5},
    "preprocess": {"preprocess_fails_at": 5},
    "session": {"session_fails_at": 5},
    "session, on submit": {"session_fails_at": 5, "session_fails_in": "submit"},
    "postprocess": {"postprocess_fails_at": 5},
}


@pytest.mark.parametrize("in_flight", [1, 3])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("engine", ENGINES)
def test_failures_reach_the_caller_after_what_was_good(
    engine: str, fault: str, in_flight: int
) -> None:
    """With one request in flight the feeder waits for the very one that failed."""
    system = System(in_flight=in_flight, **FAULTS[fault])  # type: ignore[arg-type]
    found: list[int] = []
    with pytest.raises((ValueError, RuntimeFailure), match=fault.split(",")[0]):
        for emission in system.run(engine):
            found.append(emission.index)
    assert found == [0, 1, 2, 3, 4]
    assert system.open_tickets == 0
    assert not feeders()


@pytest.mark.parametrize("first", [0, 4])
def test_what_fails_while_stopping_is_nobodys_business(first: int) -> None:
    """The caller has left; inferences under way may fail without breaking the clean-up."""
    system = System(in_flight=1, session_fails_at=first + 1, count=9)
    stream = system.run("overlapped")
    for _ in range(first + 1):
        next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert system.open_tickets == 0
    assert not feeders()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("taken", [1, 3])
@pytest.mark.parametrize("in_flight", [1, 9])
def test_a_stream_may_be_left_early(engine: str, taken: int, in_flight: int) -> None:
    """The feeder waits for a request to come back, or for a slot, whichever are fewer."""
    system = System(count=1000, in_flight=in_flight)
    stream = system.run(engine)
    assert [next(stream).index for _ in range(taken)] == list(range(taken))
    if engine == "overlapped":
        (session,) = system.sessions.values()
        assert session.full.wait(WAIT_S), "the feeder did not go on by itself"
    stream.close()  # type: ignore[attr-defined]
    del stream
    assert not feeders()
    assert system.open_tickets == 0
    # The thread that decodes closes the file; a generator cannot be closed by another.
    assert system.reader.closed_by == ("saccade-feeder" if engine == "overlapped" else "MainThread")


def test_a_stream_that_nobody_reads_starts_nothing() -> None:
    stream = System().run("overlapped")
    assert not feeders()
    stream.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("slots", [2, 5])
def test_a_slow_consumer_slows_the_decoder_down(slots: int) -> None:
    received, decoded = 0, 0
    full = threading.Event()
    too_far: list[int] = []

    def before(number: int) -> None:
        nonlocal decoded
        decoded = number + 1
        # One place per slot, and one frame may be on its way to the consumer.
        if decoded > slots + received + 1:
            too_far.append(decoded)
        if decoded == slots:
            full.set()

    system = System(count=40, slots=slots, in_flight=slots)
    system.reader.before = before
    stream = system.run("overlapped")
    for _ in range(40):
        next(stream)
        if not received:
            assert full.wait(WAIT_S), "the decoder did not go on while the consumer was busy"
        received += 1
    stream.close()  # type: ignore[attr-defined]
    assert not too_far
    assert decoded == 40


@pytest.mark.parametrize("in_flight", [1, 2, 4])
def test_requests_in_flight_are_bounded_by_slots_and_session(in_flight: int) -> None:
    system = System(count=30, slots=3, in_flight=in_flight)
    numbers(system.run("overlapped"))
    (session,) = system.sessions.values()
    assert session.most_open <= min(3, in_flight)


def test_stages_are_timed_on_the_engines_clock() -> None:
    emissions = list(System(count=3).run("sequential"))
    for index, emission in enumerate(emissions):
        lengths = {name: end - start for name, (start, end) in emission.stages.items()}
        assert lengths == pytest.approx(
            {"decode": 0.01, "preprocess": 0.002, "infer": 0.03, "postprocess": 0.001}
        )
        assert emission.started_s == pytest.approx(index * 0.043)
        assert emission.emitted_s == pytest.approx((index + 1) * 0.043)


def test_overlapped_stages_follow_one_another() -> None:
    for emission in System(count=8).run("overlapped"):
        times = [moment for span in emission.stages.values() for moment in span]
        assert list(emission.stages) == ["decode", "preprocess", "infer", "postprocess"]
        assert times == sorted(times)
        assert emission.started_s == times[0]
        assert emission.emitted_s == times[-1]


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("engine", ENGINES)
def test_frames_are_kept_where_asked_for(engine: str, keep: bool) -> None:
    frames = [emission.frame for emission in System(count=7).run(engine, keep_frames=keep)]
    expected = [FakeFrame(number) for number in range(7)] if keep else [None] * 7
    assert frames == expected


@dataclass
class Follower:
    """Stands for a tracker: counts what it is asked for, and in which order."""

    system: System
    calls: list[str] = field(default_factory=list)

    def __call__(self, outputs: Any, box: Letterbox) -> str:
        number, _ = self.system.postprocess(outputs, box)
        self.calls.append(f"seen {number}")
        return self.calls[-1]

    def fill_in(self, box: Letterbox) -> str:
        self.calls.append(f"filled in at {len(self.calls)}")
        return self.calls[-1]


def skipping(system: System, every: int) -> Follower:
    follower = Follower(system)
    system.stages = replace(
        system.stages, postprocess=follower, detect_every=every, fill_in=follower.fill_in
    )
    return follower


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("every", [1, 2, 3, 5])
def test_skipped_frames_are_neither_prepared_nor_inferred(engine: str, every: int) -> None:
    """Every frame has a result, in order, and the model sees every so-manieth one only."""
    system = System(count=13)
    follower = skipping(system, every)
    prepared: list[int] = []
    run = system.stages.preprocessor.run

    def noting(frame: Any, box: Letterbox, out: np.ndarray) -> np.ndarray:
        prepared.append(frame.number)
        return run(frame, box, out)

    system.stages.preprocessor.run = noting  # type: ignore[method-assign]
    found = list(system.run(engine))
    assert [emission.index for emission in found] == list(range(13))
    assert prepared == list(range(0, 13, every))
    assert follower.calls == [
        f"seen {i}" if i % every == 0 else f"filled in at {i}" for i in range(13)
    ]
    assert [emission.result for emission in found] == follower.calls
    for emission in found:
        start, end = emission.stages["infer"]
        assert (end > start) == (emission.index % every == 0)
        assert emission.started_s <= emission.stages["decode"][1] <= emission.emitted_s


@pytest.mark.parametrize("every", [2, 3])
def test_skipped_frames_do_not_pile_up(every: int) -> None:
    """A consumer that stops taking results stops the decoder, skipped frames or not."""
    system = System(count=200, slots=3)
    skipping(system, every)
    too_far = (system.slots + 1) * every + 1
    ran_away = threading.Event()
    system.reader.before = lambda number: ran_away.set() if number > too_far else None
    stream = run_overlapped(system.stages, system.reader.frames(), system.slots)
    next(stream)
    assert not ran_away.wait(timeout=0.1)
    assert len(list(stream)) == 199
    assert ran_away.is_set()
