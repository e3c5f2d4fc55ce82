"""Real jobs with something planted are profiled as they run, and diagnosed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from saccade import plugins
from saccade.diagnose.training import diagnose_training
from saccade.optimize.training_profile import profile_training
from saccade.optimize.worker import Worker
from saccade.testing.planted_jobs import DELAY_S
from saccade.testing.planted_training import BROKEN_FILE, JOBS, NAN_STEP, write_job
from saccade.train.config import TrainingConfig
from saccade.train.job import refer
from saccade.train.profile import ModelFacts, TrainingProfile

pytestmark = pytest.mark.alone
BATCHES = {"tiny_batch": 1}
SECONDS = 1.0
TRIES = 3


class Here:
    """Makes the subject in this process, which spares a start of PyTorch each time."""

    alive = True

    def __init__(self, kind: str, arguments: tuple[Any, ...], **settings: Any) -> None:
        self._subject = plugins.load("training_rules", kind)(*arguments)

    def call(self, method: str, *arguments: Any, **settings: Any) -> Any:
        return getattr(self._subject, method)(*arguments)

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *exc: object) -> None:
        self._subject._loop.close()


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def profiled(tmp_path: Path, case: str, **settings: object) -> TrainingProfile:
    path = write_job(tmp_path, case)
    # One thread: two wait for each other for long on a machine that does other things as well.
    config = TrainingConfig(refer(str(path))).with_compute(threads=1)
    config = config.with_batch(size=BATCHES.get(case, 4)).with_loader(**settings)
    # Memory that earlier tests freed in this process would be filled first and hide a leak.
    start = Worker if case == "leaking_loader" else Here
    return profile_training(config, SECONDS, tmp_path, least_steps=NAN_STEP + 1, start=start)


@pytest.mark.parametrize("case", sorted(set(JOBS) - {"item_in_loss"}))
def test_what_is_planted_is_named_first(tmp_path: Path, case: str) -> None:
    # What else the machine does can disturb one profile; it does not disturb three alike.
    for _ in range(TRIES):
        profile = profiled(tmp_path, case)
        assert not profile.missing
        findings = diagnose_training(profile)
        if findings and findings[0].name == JOBS[case].rule:
            break
    assert findings[0].name == JOBS[case].rule
    if case == "nan_at_step_37":
        assert findings[0].evidence["step"] == NAN_STEP
    if case == "corrupt_samples":
        assert findings[0].evidence["broken"] == 1
        assert f"sample {BROKEN_FILE}" in findings[0].title


def test_an_item_in_the_loss_is_named_with_its_line(tmp_path: Path) -> None:
    profile = profiled(tmp_path, "item_in_loss", workers=1)
    finding = next(f for f in diagnose_training(profile) if f.name == "synchronisation")
    lines = (tmp_path / "item_in_loss.py").read_text().splitlines()
    line = next(number for number, text in enumerate(lines, 1) if ".item()" in text)
    assert f"item_in_loss.py:{line} in loss()" in finding.title
    assert finding.evidence["calls_per_step"] == 1
    assert finding.max_gain_sequential < 1.5
    check_trace(json.loads((tmp_path / "trace.json").read_text()))


def test_a_print_of_the_loss_is_named_with_its_line_and_charged_once(tmp_path: Path) -> None:
    profile = profiled(tmp_path, "slow_console", workers=1)
    found = {finding.name: finding for finding in diagnose_training(profile)}
    lines = (tmp_path / "slow_console.py").read_text().splitlines()
    line = next(number for number, text in enumerate(lines, 1) if "print(" in text)
    said, asked = found["logging_bound"], found["synchronisation"]
    assert f"print at slow_console.py:{line} in loss(), 1 per step" in said.title
    assert said.evidence["logging_bound_ms"] >= 1e3 * DELAY_S  # two texts, one of them a line's end
    assert f"Tensor.__repr__ at slow_console.py:{line}" in asked.title
    assert asked.evidence["wait_ms"] == 0.0
    # Neither the batch nor the operators are to blame for what a step says.
    assert not {"tiny_batch", "launch_bound"} & {
        name for name, finding in found.items() if finding.share > 1 - said.share
    }


def test_after_a_change_of_computing_only_samples_are_known(tmp_path: Path) -> None:
    """One process measures; what it says of computing is its own, and nothing is left of before."""
    started: list[str] = []

    class Counted(Here):
        def __init__(self, kind: str, arguments: tuple[Any, ...], **settings: Any) -> None:
            started.append(kind)
            super().__init__(kind, arguments, **settings)

    path = write_job(tmp_path, "tiny_batch")
    config = TrainingConfig(refer(str(path))).with_compute(threads=1).with_batch(size=4)
    known = profile_training(config, SECONDS, start=Counted)
    stale = replace(
        known,
        operators=(),
        launches=1e6,
        scaled_ms={4: 1.0, 16: 2.0},
        memory_mb={"activations": 1e6},
        model=ModelFacts(layers=1000),
        missing={"facts": "no file", "operators": "no profiler"},
    )
    started.clear()
    found = profile_training(config.with_batch(size=2), SECONDS, known=stale, start=Counted)
    assert len(started) == 1
    assert (found.facts, found.scan, found.model) == (known.facts, known.scan, known.model)
    assert (found.launches, found.scaled_ms, found.operators) == (0.0, {}, ())
    assert 0 < found.memory_mb["activations"] < known.memory_mb["activations"]
    assert found.memory_mb["parameters"] == known.memory_mb["parameters"]
    assert found.missing["facts"] == "no file"
    assert "not watched again" in found.missing["operators"]
    assert found.config is not None and found.config.batch.size == 2


def check_trace(trace: dict[str, object]) -> None:
    events = trace["traceEvents"]
    assert isinstance(events, list)
    tracks = {e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert "training loop" in tracks
    assert any(name.startswith("loader ") for name in tracks)
    names = {e["name"] for e in events if e["ph"] == "X"}
    assert {"data", "copy", "forward", "loss", "backward", "optimizer", "logging"} <= names
    assert any(name.startswith("aten::") for name in names)
    assert {"CPU %", "machine busy %", "RSS MB"} <= {e["name"] for e in events if e["ph"] == "C"}
