"""What every inference runtime must do, as checks that need no test framework.

A plug-in's own tests run them all:

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_runtime(check, tmp_path):
        check(MyRuntime, tmp_path)

Each check takes the runtime and an empty folder, opens sessions of `tiny_detector`, and raises
an ``AssertionError`` that says which rule of `saccade.runtimes.contract` was broken.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.errors import MissingExtraError, RuntimeFailure
from saccade.models.description import Preprocessing
from saccade.models.files import model_file
from saccade.pipeline.config import RuntimeOptions
from saccade.pipeline.preprocess import affine
from saccade.runtimes.contract import Availability, OperatorTime, Runtime, Session, SessionRequest
from saccade.testing.tiny_models import reference, write_tiny

Check = Callable[[type[Runtime], Path], None]

HW = (64, 96)
TOLERANCE = 1e-3
# A call that must wait is given this long to return too early; one that must return, that long.
TOO_EARLY_S, TOO_LATE_S = 0.1, 20.0


def availability_is_stated(runtime: type[Runtime], folder: Path) -> None:
    """`availability` says yes with a version, or no with the reason, and never raises."""
    found = runtime.availability()
    _expect(isinstance(found, Availability), f"availability() returned {found!r}")
    _expect(bool(runtime.name), "the runtime has no name")
    if found.ok:
        _expect(bool(found.version), "an available runtime must state its version")
        _expect("fp32" in found.precisions, "every runtime offers fp32")
    else:
        _expect(bool(found.detail), "an unavailable runtime must say why")


def infer_matches_the_reference(runtime: type[Runtime], folder: Path) -> None:
    """The answer is that of the model, for a fixed and for a dynamic request and model."""
    sizes = ((None, HW), (None, None), (HW, HW), (HW, None))
    for model_hw, input_hw in sizes if runtime.availability().dynamic else sizes[2:]:
        with _session(runtime, folder, model_hw=model_hw, input_hw=input_hw) as session:
            image = tensor(1)
            _same(session.infer(image), image, f"model {model_hw}, request {input_hw}")


def a_dynamic_session_takes_any_size(runtime: type[Runtime], folder: Path) -> None:
    """Opened without ``input_hw``, a session runs images of different sizes in turn.

    One whose runtime declares fixed shapes may refuse other sizes, and must not answer wrongly.
    """
    fixed = not runtime.availability().dynamic
    with _session(runtime, folder, model_hw=(64, 64) if fixed else None, input_hw=None) as session:
        for hw in ((64, 64), (32, 96), (64, 64)):
            image = tensor(2, hw)
            try:
                found = session.infer(image)
            except RuntimeFailure:
                _expect(fixed and hw != (64, 64), f"size {hw} was refused")
            else:
                _same(found, image, f"size {hw}")


def submitted_in_order(runtime: type[Runtime], folder: Path) -> None:
    """Many submissions, collected in order, each with its own answer."""
    with _session(runtime, folder, RuntimeOptions(in_flight=2, streams=2)) as session:
        pending = []
        for seed in range(9):
            image = tensor(seed)
            pending.append((image, session.submit(image)))
            if len(pending) == 2:
                _finish(session, *pending.pop(0))
        for image, ticket in pending:
            _finish(session, image, ticket)


def collected_out_of_order(runtime: type[Runtime], folder: Path) -> None:
    """Tickets may be collected in any order, and outputs stay valid until they are released."""
    with _session(runtime, folder, RuntimeOptions(in_flight=3)) as session:
        images = [tensor(seed) for seed in range(3)]
        tickets = [session.submit(image) for image in images]
        outputs = {index: session.collect(tickets[index]) for index in (2, 0, 1)}
        for index, found in outputs.items():
            _same(found, images[index], f"ticket {index} of three, collected out of order")
        for ticket in reversed(tickets):
            session.release(ticket)


def infer_and_submit_mix(runtime: type[Runtime], folder: Path) -> None:
    """A synchronous call between `submit` and `collect` disturbs nothing."""
    with _session(runtime, folder) as session:
        first, second = tensor(1), tensor(2)
        ticket = session.submit(first)
        _same(session.infer(second), second, "infer while a ticket is under way")
        _finish(session, first, ticket)


def in_flight_is_bounded(runtime: type[Runtime], folder: Path) -> None:
    """`submit` waits while ``in_flight`` tickets have not been released."""
    with _session(runtime, folder, RuntimeOptions(in_flight=2)) as session:
        image = tensor(1)
        tickets = [session.submit(image), session.submit(image)]
        session.collect(tickets[0])
        waiting = _Call(lambda: session.submit(image))
        early = waiting.ended(TOO_EARLY_S)
        for ticket in tickets:
            session.collect(ticket)
            session.release(ticket)
        late = not waiting.ended(TOO_LATE_S)
        _expect(not early, "submit did not wait although in_flight=2 tickets were not released")
        _expect(not late, "submit went on waiting although a ticket was released")
        _finish(session, image, waiting.value())


def graph_preprocessing_equals_the_float_path(runtime: type[Runtime], folder: Path) -> None:
    """uint8 NHWC with preprocessing in the graph gives what float32 NCHW gives."""
    settings = (
        Preprocessing(),
        Preprocessing("bgr", 1.0, (103.5, 116.3, 123.7), (57.4, 57.1, 58.4)),
        Preprocessing("rgb", 1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    )
    pixels = np.random.default_rng(0).integers(0, 256, (1, *HW, 3), np.uint8)
    for pre in settings:
        factor, offset = affine(pre)
        planes = pixels.transpose(0, 3, 1, 2)
        image = planes * factor.reshape(1, 3, 1, 1) + offset.reshape(1, 3, 1, 1)
        for input_hw in (HW, None):
            with _session(
                runtime, folder, input_hw=input_hw, graph_preprocessing=pre, profile=False
            ) as session:
                found = session.infer(pixels)
                _same(found, image.astype(np.float32), f"graph preprocessing, {pre}, {input_hw}")


def wrong_input_is_refused(runtime: type[Runtime], folder: Path) -> None:
    """A tensor of the wrong shape or type is a `RuntimeFailure`, and the session survives it."""
    wrong = {
        "a missing axis": tensor(1)[0],
        "five channels": np.zeros((1, 5, *HW), np.float32),
        "float64": tensor(1).astype(np.float64),
    }
    with _session(runtime, folder, RuntimeOptions(in_flight=1)) as session:
        for what, bad in wrong.items():
            _refuses(lambda bad=bad: session.infer(bad), f"infer with {what}")  # type: ignore[misc]
            _refuses(lambda bad=bad: _round_trip(session, bad), f"submit with {what}")  # type: ignore[misc]
        image = tensor(3)
        _same(session.infer(image), image, "after refused inputs")
        again = _Call(lambda: session.submit(image))
        _expect(again.ended(TOO_LATE_S), "a refused submission kept its place in flight")
        _finish(session, image, again.value())


def corrupt_models_are_refused(runtime: type[Runtime], folder: Path) -> None:
    """Garbage, half a file and an empty file are each a `RuntimeFailure` in `open`."""
    sound = write_tiny(runtime.availability().formats[0], folder, HW)
    beside = Path(model_file(sound).weights or "none")
    whole = sound.read_bytes()
    for name, content in {"garbage": b"\x07" * 999, "half": whole[: len(whole) // 2]}.items():
        path = folder / f"{name}{sound.suffix}"
        path.write_bytes(content)
        if beside.is_file():
            path.with_suffix(beside.suffix).write_bytes(beside.read_bytes())
        request = SessionRequest(model_file(path), HW, RuntimeOptions(), "images")
        _refuses(lambda request=request: runtime.open(request), f"opening {name}")  # type: ignore[misc]


def what_it_has_not_is_refused(runtime: type[Runtime], folder: Path) -> None:
    """A precision that it does not have is a `RuntimeFailure` that names one that it has."""
    options = RuntimeOptions(precision="fp8")  # type: ignore[arg-type]  # which no runtime has
    request = _request(runtime, folder, options)
    _refuses(lambda: runtime.open(request), "opening in fp8", naming="fp32")


def close_is_final(runtime: type[Runtime], folder: Path) -> None:
    """`close` may be called twice; afterwards nothing runs, and what was under way is whole."""
    hw = (640, 640)
    fixed = None if runtime.availability().dynamic else hw
    with _session(runtime, folder, RuntimeOptions(in_flight=6), fixed, input_hw=None) as session:
        # Large enough that some are still waiting for their turn when the session closes.
        images = [tensor(seed, hw) for seed in range(4)]
        tickets = [session.submit(image) for image in images]
        session.close()
        session.close()
        for image, ticket in zip(images, tickets, strict=True):
            _finish(session, image, ticket)
        _refuses(lambda: session.infer(images[0]), "infer after close")
        late = _Call(lambda: session.submit(images[0]))
        _expect(late.ended(TOO_LATE_S), "submit after close waits for ever")
        _refuses(late.value, "submit after close")


def close_wakes_who_waits(runtime: type[Runtime], folder: Path) -> None:
    """A `submit` that waits for a place is told when the session closes."""
    with _session(runtime, folder, RuntimeOptions(in_flight=1)) as session:
        image = tensor(1)
        ticket = session.submit(image)
        waiting = _Call(lambda: session.submit(image))
        _expect(not waiting.ended(TOO_EARLY_S), "submit did not wait with in_flight=1")
        session.close()
        _expect(waiting.ended(TOO_LATE_S), "close left a waiting submit waiting")
        _refuses(waiting.value, "a submit that was waiting at close")
        _finish(session, image, ticket)


def operators_need_profiling(runtime: type[Runtime], folder: Path) -> None:
    """`operators` gives times with ``profile=True`` and is a `RuntimeFailure` without."""
    with _session(runtime, folder) as session:
        session.infer(tensor(1))
        _refuses(session.operators, "operators() without profile=True")
    with _session(runtime, folder, profile=True) as session:
        for seed in range(4):
            session.infer(tensor(seed))
        _finish(session, tensor(1), session.submit(tensor(1)))
        for op in session.operators():
            _expect(isinstance(op, OperatorTime), f"operators() returned {op!r}")
            _expect(math.isfinite(op.wall_ms) and op.wall_ms >= 0, f"{op.name}: {op.wall_ms} ms")
            _expect(bool(op.name and op.kind), f"an operator without name or kind: {op!r}")


CHECKS: tuple[Check, ...] = (
    availability_is_stated,
    infer_matches_the_reference,
    a_dynamic_session_takes_any_size,
    submitted_in_order,
    collected_out_of_order,
    infer_and_submit_mix,
    in_flight_is_bounded,
    graph_preprocessing_equals_the_float_path,
    wrong_input_is_refused,
    corrupt_models_are_refused,
    what_it_has_not_is_refused,
    close_is_final,
    close_wakes_who_waits,
    operators_need_profiling,
)


def a_missing_package_is_named(runtime: type[Runtime], folder: Path) -> None:
    """Without its package a runtime raises `MissingExtraError`, and only when it is opened."""
    request, package = _request(runtime, folder), runtime.package or runtime.name
    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if _part(name, package)}
    sys.modules[package] = None  # type: ignore[assignment]  # how Python spells "cannot be imported"
    try:
        runtime.availability()
        runtime.open(request)
    except MissingExtraError as error:
        _expect(package in str(error), f"the message does not name the package: {error}")
        _expect("pip install" in str(error), f"the message does not say what to do: {error}")
    else:
        raise AssertionError(f"open() did not raise MissingExtraError without '{package}'")
    finally:
        del sys.modules[package]
        sys.modules.update(hidden)


def tensor(seed: int, hw: tuple[int, int] = HW) -> NDArray[np.float32]:
    """An input ``(1, 3, H, W)`` float32 in 0-1, another one for every seed."""
    return np.random.default_rng(seed).random((1, 3, *hw), np.float32)


class _Call:
    """A call on a thread of its own, which may never return."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self._value: Any = None
        self._error: BaseException | None = None
        self._ended = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            self._value = self._call()
        except BaseException as error:
            self._error = error
        self._ended.set()

    def ended(self, within_s: float) -> bool:
        return self._ended.wait(within_s)

    def value(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._value


@contextmanager
def _session(
    runtime: type[Runtime],
    folder: Path,
    options: RuntimeOptions | None = None,
    model_hw: tuple[int, int] | None = None,
    **settings: Any,
) -> Iterator[Session]:
    session = runtime.open(_request(runtime, folder, options, model_hw, **settings))
    try:
        yield session
    finally:
        session.close()


def _request(
    runtime: type[Runtime],
    folder: Path,
    options: RuntimeOptions | None = None,
    model_hw: tuple[int, int] | None = None,
    **settings: Any,
) -> SessionRequest:
    offered = runtime.availability()
    if model_hw is None and not offered.dynamic:
        model_hw = HW
    path = write_tiny(offered.formats[0], folder, model_hw)
    fields = {"input_hw": HW, "input_name": "images", **settings}
    return SessionRequest(model_file(path), options=options or RuntimeOptions(), **fields)


def _finish(session: Session, image: NDArray[np.float32], ticket: Any) -> None:
    _same(session.collect(ticket), image, "submit and collect")
    session.release(ticket)


def _round_trip(session: Session, image: NDArray[Any]) -> None:
    ticket = session.submit(image)
    try:
        session.collect(ticket)
    finally:
        session.release(ticket)


def _same(outputs: list[NDArray[np.float32]], image: NDArray[np.float32], where: str) -> None:
    _expect(len(outputs) == 1, f"{where}: {len(outputs)} outputs from a model with one")
    expected = reference(image)
    found = np.asarray(outputs[0])
    _expect(found.dtype == np.float32, f"{where}: outputs are {found.dtype}, not float32")
    _expect(found.shape == expected.shape, f"{where}: shape {found.shape}, not {expected.shape}")
    worst = float(np.abs(found - expected).max())
    _expect(worst <= TOLERANCE, f"{where}: outputs differ from the reference by {worst:.2g}")


def _refuses(call: Callable[[], Any], what: str, naming: str = "") -> None:
    try:
        call()
    except RuntimeFailure as error:
        _expect(bool(str(error)), f"{what}: a RuntimeFailure without a message")
        _expect(naming in str(error), f"{what}: the message does not name {naming}: {error}")
    except Exception as error:
        raise AssertionError(f"{what}: {type(error).__name__} instead of RuntimeFailure") from error
    else:
        raise AssertionError(f"{what}: no RuntimeFailure was raised")


def _part(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise AssertionError(otherwise)
