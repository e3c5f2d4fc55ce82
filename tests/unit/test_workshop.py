"""Processes that make files are used again, and not where that could do harm."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from saccade.errors import RuntimeFailure, WorkerFailure
from saccade.optimize import workshop as shops
from saccade.optimize.workshop import close_workshops, workshop

SUBJECT = "crashing_subject:Subject"


@pytest.fixture(autouse=True)
def empty(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    close_workshops()
    yield
    close_workshops()


def pid(tools: str = "") -> int:
    """Of the process that does one job."""
    with workshop(SUBJECT, tools) as worker:
        assert worker.call("add", 1) >= 1
        return worker.pid


def test_the_next_job_is_done_by_the_same_process() -> None:
    assert pid() == pid()


def test_other_tools_have_a_process_of_their_own() -> None:
    assert pid("one") != pid("two")


def test_another_environment_is_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    before = pid()
    monkeypatch.setenv("SACCADE_MODEL_CACHE", "elsewhere")
    assert pid() != before


def test_after_a_failure_there_is_a_new_process() -> None:
    before = pid()
    with pytest.raises(RuntimeFailure), workshop(SUBJECT) as worker:
        worker.call("fail", "no")
    assert not psutil.pid_exists(before)
    assert pid() != before


def test_one_that_died_while_it_waited_is_replaced() -> None:
    before = pid()
    process = psutil.Process(before)
    process.kill()
    while process.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert pid() != before


def test_a_crash_is_told_and_costs_only_its_process() -> None:
    with pytest.raises(WorkerFailure, match="exit code 3"), workshop(SUBJECT) as worker:
        worker.call("exit", 3)
    pid()


def test_one_that_holds_much_memory_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shops, "KEPT_SHARE", 0.0)
    assert not psutil.pid_exists(pid())


def test_two_at_once_are_two_processes() -> None:
    with workshop(SUBJECT) as first, workshop(SUBJECT) as second:
        assert first.pid != second.pid


def test_few_are_kept() -> None:
    pids = [pid(str(k)) for k in range(shops.KEPT + 2)]
    assert [psutil.pid_exists(p) for p in pids] == [False, False, *[True] * shops.KEPT]
    close_workshops()
    assert not any(map(psutil.pid_exists, pids))
