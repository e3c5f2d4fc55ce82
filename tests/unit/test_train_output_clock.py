"""What a job prints and logs is told apart from what it computes."""

from __future__ import annotations

import builtins
import logging
import sys
import threading
import types
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from training_stand_ins import block_of

from saccade.testing.training_change_conformance import JOB
from saccade.train import output_clock, step_clock
from saccade.train.config import BatchSettings, TrainingConfig
from saccade.train.job import refer
from saccade.train.joining import joined_blocks
from saccade.train.records import TrainingBlock
from saccade.train.samples import LoadTimes
from saccade.train.step_clock import StepClock
from saccade.train.subject import TrainingSubject


class Clock:
    """Goes on only when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def passes(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    made = Clock()
    fake = SimpleNamespace(perf_counter=made.perf_counter)
    monkeypatch.setattr(step_clock, "time", fake)
    monkeypatch.setattr(output_clock, "time", fake)
    # Put back afterwards what `time_output` replaces for good.
    monkeypatch.setattr(builtins, "print", lambda *_: made.passes(0.5))
    monkeypatch.setattr(logging.Handler, "handle", lambda self, record: made.passes(0.25))
    output_clock.time_output()
    yield made


def test_output_is_taken_off_the_part_in_which_it_happens(clock: Clock) -> None:
    steps = StepClock()
    steps.begin()
    clock.passes(1.0)
    steps.mark("data")
    clock.passes(2.0)
    print("the loss is falling")
    steps.mark("loss")
    clock.passes(3.0)
    logging.getLogger("job").addHandler(handler := logging.StreamHandler())
    logging.getLogger("job").warning("still")
    steps.mark("optimizer")
    clock.passes(0.125)
    steps.end()
    logging.getLogger("job").removeHandler(handler)
    (length,), parts = steps.read()
    assert (parts["data"], parts["loss"], parts["optimizer"]) == ((1.0,), (2.0,), (3.0,))
    logged = parts["logging"][0]
    assert logged >= 0.5 + 0.25 + 0.125  # pytest handles the record as well
    assert sum(part[0] for part in parts.values()) == pytest.approx(length)


def test_output_within_output_counts_once(clock: Clock) -> None:
    inner = output_clock.timed(lambda: clock.passes(1.0))

    def outer() -> None:
        clock.passes(1.0)
        inner()

    before = output_clock.spent_s()
    output_clock.timed(outer)()
    assert output_clock.spent_s() - before == 2.0


def test_other_threads_do_not_hold_up_a_step(clock: Clock) -> None:
    before = output_clock.spent_s()
    thread = threading.Thread(target=lambda: print("loading"))
    thread.start()
    thread.join()
    assert output_clock.spent_s() == before


def test_loggers_that_the_job_imported_are_timed(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = types.ModuleType("mlflow")
    mlflow.log_metric = lambda name, value: clock.passes(4.0)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    output_clock.time_output()
    once = mlflow.log_metric
    output_clock.time_output()
    assert mlflow.log_metric is once
    before = output_clock.spent_s()
    mlflow.log_metric("loss", 1.0)
    assert output_clock.spent_s() - before == 4.0


@pytest.fixture
def subject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainingSubject:
    monkeypatch.setattr(builtins, "print", print)
    monkeypatch.setattr(logging.Handler, "handle", logging.Handler.handle)
    printing = JOB.replace(
        "def loss(output, target):\n", "def loss(output, target):\n    print('a step')\n"
    )
    (tmp_path / "job.py").write_text(printing)
    config = TrainingConfig(refer(str(tmp_path / "job.py")), batch=BatchSettings(4))
    return TrainingSubject(config)


def test_a_job_that_prints_is_seen_to(
    subject: TrainingSubject, capsys: pytest.CaptureFixture[str]
) -> None:
    block = subject.block(3)
    assert capsys.readouterr().out == "a step\n" * 3
    assert all(seconds > 0 for seconds in block.part_s["logging"])


def test_judging_along_the_way_changes_nothing(subject: TrainingSubject) -> None:
    plain = subject.curve(1, 7)
    judged = subject.curve(1, 7, True, 4)
    assert judged.losses == plain.losses
    assert judged.evaluation == plain.evaluation and not plain.along
    assert [step.steps for step in judged.along] == [2, 4, 5]
    assert [step.evaluation.samples for step in judged.along] == [32] * 3
    assert len(judged.block.step_s) == 7 and judged.block.samples == plain.block.samples
    assert subject.curve(1, 2, True, 9).along[0].steps == 1


def test_blocks_one_after_the_other_are_one() -> None:
    def part(**values: Any) -> TrainingBlock:
        return replace(block_of(2.0, steps=2), **values)

    first = part(busy_share=0.5, first_step=3, load=LoadTimes(read_s=1.0), peak_device_mb=5.0)
    second = part(busy_share=1.0, first_step=5, load=LoadTimes(read_s=2.0), peak_device_mb=7.0)
    found = joined_blocks([first, second])
    assert found.samples == first.samples + second.samples
    assert found.step_s == first.step_s + second.step_s
    assert found.part_s["data"] == first.part_s["data"] + second.part_s["data"]
    assert (found.busy_share, found.load.read_s, found.first_step) == (0.75, 3.0, 3)
    assert (found.peak_device_mb, found.device_busy_share) == (7.0, None)
    assert joined_blocks([first]) == first
    assert {field.name for field in fields(TrainingBlock)} == set(vars(found))
