"""The worker may die in any way it likes; its parent gets an error and goes on."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from saccade.errors import ModelError, RuntimeFailure, WorkerFailure
from saccade.optimize.worker import Worker

HERE = {"PYTHONPATH": str(Path(__file__).parent)}
# Long enough for a busy machine; only a test that fails waits for it.
PATIENCE_S = 60.0


def start(attribute: str = "Subject", *arguments: Any, **settings: Any) -> Worker:
    environment = {**HERE, **settings.pop("environment", {})}
    kind = f"crashing_subject:{attribute}"
    return Worker(kind, arguments, timeout_s=PATIENCE_S, environment=environment, **settings)


@pytest.fixture
def worker() -> Iterator[Worker]:
    with start() as started:
        yield started


def failure(worker: Worker, method: str, *arguments: Any, timeout_s: float = PATIENCE_S) -> str:
    with pytest.raises(WorkerFailure) as caught:
        worker.call(method, *arguments, timeout_s=timeout_s)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 1
    return str(caught.value)


def test_a_subject_keeps_its_state_between_calls_in_a_process_of_its_own() -> None:
    with start("Subject", 5) as worker:
        assert worker.call("add", 2) == 7
        assert worker.call("add", 2) == 9
        assert worker.call("pid") == worker.pid != os.getpid()
        assert worker.alive
    assert not worker.alive
    assert not psutil.pid_exists(worker.pid)


def test_large_messages_pass(worker: Worker) -> None:
    data = os.urandom(3_000_000)
    assert worker.call("echo", data) == data


def test_the_environment_is_added_to() -> None:
    with start(environment={"OMP_NUM_THREADS": "3"}) as worker:
        assert worker.call("variable", "OMP_NUM_THREADS") == "3"
        assert worker.call("variable", "PATH") == os.environ.get("PATH")


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE])
def test_a_crash_is_named(worker: Worker, number: signal.Signals) -> None:
    assert f"crashed with {number.name}" in failure(worker, "signal_self", int(number))
    assert not worker.alive


def test_a_real_segmentation_fault_is_named(worker: Worker) -> None:
    assert "crashed with SIGSEGV" in failure(worker, "read_null")


def test_an_abort_is_named(worker: Worker) -> None:
    assert "crashed with SIGABRT" in failure(worker, "abort")


def test_the_killer_of_processes_is_named(worker: Worker) -> None:
    assert "lack of memory" in failure(worker, "signal_self", int(signal.SIGKILL))


def test_the_last_words_are_told(worker: Worker) -> None:
    assert failure(worker, "exit", 7) == "The worker ended with exit code 7: last words"


def test_a_flood_of_words_is_no_problem(worker: Worker) -> None:
    assert "line 99999" in failure(worker, "chatter_and_die")


def test_leaving_is_a_failure(worker: Worker) -> None:
    assert "exit code 3" in failure(worker, "leave")


@pytest.mark.parametrize("method", ["hang", "hang_deaf"])
def test_a_hang_is_ended(worker: Worker, method: str) -> None:
    assert "did not answer within" in failure(worker, method, timeout_s=0.3)
    assert not worker.alive
    assert not psutil.pid_exists(worker.pid)


def test_too_much_memory_is_ended() -> None:
    with start(memory_limit_mb=150) as worker:
        assert worker.call("add", 1) == 1
        assert "above its limit of 150 MB" in failure(worker, "take_mb", 300)
        assert not worker.alive


def test_a_failed_allocation_is_a_worker_failure(worker: Worker) -> None:
    assert "MemoryError" in failure(worker, "out_of_memory")


def test_an_ordinary_exception_arrives_with_its_type_and_text(worker: Worker) -> None:
    with pytest.raises(RuntimeFailure, match="ValueError: bad thing"):
        worker.call("fail", "bad thing")
    assert worker.call("add", 1) == 1


def test_our_own_exceptions_keep_their_type_and_exit_code(worker: Worker) -> None:
    with pytest.raises(ModelError, match="no good") as caught:
        worker.call("refuse")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(("method", "says"), [("lack", "saccade.openvino."), ("fail_oddly", "odd")])
def test_exceptions_that_cannot_travel_leave_their_text(
    worker: Worker, method: str, says: str
) -> None:
    with pytest.raises(RuntimeFailure, match=says):
        worker.call(method)
    assert worker.call("add", 1) == 1


def test_an_answer_that_cannot_travel_is_an_error_and_no_crash(worker: Worker) -> None:
    with pytest.raises(RuntimeFailure, match="cannot be sent"):
        worker.call("unsendable")
    assert worker.call("add", 1) == 1


def test_an_unknown_method_is_an_error(worker: Worker) -> None:
    with pytest.raises(RuntimeFailure, match="AttributeError"):
        worker.call("nothing")


def test_printing_does_not_disturb_the_answers(worker: Worker, capfd: Any) -> None:
    assert worker.call("print", "noise " * 1000) == 6000
    assert worker.call("add", 3) == 3
    assert capfd.readouterr().out == ""


def test_ctrl_c_is_the_parents_business(worker: Worker) -> None:
    os.kill(worker.pid, signal.SIGINT)
    assert worker.call("add", 1) == 1


def test_a_subject_that_cannot_be_made_ends_the_worker() -> None:
    before = {child.pid for child in psutil.Process().children()}
    with pytest.raises(ModelError, match="not today"):
        start("Refuses", "not today")
    with pytest.raises(WorkerFailure, match="SIGSEGV"):
        start("Dies")
    with pytest.raises(RuntimeFailure, match="AttributeError"):
        start("Absent")
    assert {child.pid for child in psutil.Process().children()} == before


def test_a_worker_that_was_closed_or_died_says_so(worker: Worker) -> None:
    failure(worker, "abort")
    assert "has ended" in failure(worker, "add", 1)
    worker.close()
    worker.close()
    assert "has ended" in failure(worker, "add", 1)


def test_a_worker_that_dies_between_calls_is_noticed(worker: Worker) -> None:
    os.kill(worker.pid, signal.SIGKILL)
    assert "SIGKILL" in failure(worker, "add", 1)
