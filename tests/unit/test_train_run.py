"""A whole training: killed and resumed, it ends where it should."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_training import Pictures, same, tiny_config, tiny_job
from training_runs import last_weights, trained

from saccade.errors import SpecError, StorageError
from saccade.train import running
from saccade.train.agreement import Alone
from saccade.train.checkpoint import Checkpoints
from saccade.train.config import BatchSettings
from saccade.train.loggers.files import read_history
from saccade.train.loop import TrainingLoop
from saccade.train.run_options import RunOptions
from saccade.train.run_state import RunState
from saccade.train.running import CHECKPOINTS, TrainingRun

pytestmark = pytest.mark.usefixtures("one_thread")


def test_killed_at_random_steps_and_while_saving_it_ends_with_the_same_weights(
    tmp_path: Path,
) -> None:
    chance = random.Random(5)
    kills = [f"step:{chance.randint(2, 6)}" for _ in range(4)]
    kills += [f"save:{chance.randint(1, 4)}" for _ in range(3)]
    chance.shuffle(kills)
    script = Path(__file__).with_name("killed_training.py")
    for name, planned in (("killed", kills), ("whole", [])):
        subprocess.run([sys.executable, str(script), str(tmp_path / name), *planned], check=True)
    assert same(last_weights(tmp_path / "killed"), last_weights(tmp_path / "whole"))
    losses = [(tmp_path / name / "losses.csv").read_text() for name in ("killed", "whole")]
    assert losses[0] == losses[1]
    assert len(losses[0].splitlines()) == 1 + 18
    epochs = [read_history(tmp_path / name) for name in ("killed", "whole")]
    judged = [[(e["step"], e["loss"], e["metric"]) for e in found] for found in epochs]
    assert judged[0] == judged[1]
    assert [e["epoch"] for e in epochs[0]] == [1, 2, 3]


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path: Path) -> None:
    trained(tmp_path, epochs=3)
    whole = last_weights(tmp_path)
    checkpoints = Checkpoints(tmp_path / CHECKPOINTS)
    newest = checkpoints.path(checkpoints.steps()[-1])
    flip_a_byte_of_a_tensor(newest)
    again = trained(tmp_path, epochs=3)
    kinds = [event["kind"] for event in again.state.events]
    assert kinds == ["resumed", "damaged checkpoint"]
    assert "step 12" in again.state.events[0]["detail"]
    assert same(last_weights(tmp_path), whole)


def flip_a_byte_of_a_tensor(path: Path) -> None:
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda record: record.file_size)
        stored = archive.read(largest)
    content[content.index(stored) + len(stored) // 2] ^= 0xFF
    path.write_bytes(bytes(content))


def test_a_torn_checkpoint_is_not_used(tmp_path: Path) -> None:
    trained(tmp_path, epochs=2)
    checkpoints = Checkpoints(tmp_path / CHECKPOINTS)
    newest = checkpoints.path(checkpoints.steps()[-1])
    newest.write_bytes(newest.read_bytes()[:500])
    found = checkpoints.newest()
    assert (found.step, found.damaged) == (6, (newest.name,))


def test_where_no_checkpoint_is_sound_the_training_begins_anew_and_says_so(tmp_path: Path) -> None:
    trained(tmp_path, epochs=3)
    checkpoints = Checkpoints(tmp_path / CHECKPOINTS)
    names = [checkpoints.path(step).name for step in checkpoints.steps()]
    for name in names:
        (checkpoints.folder / name).write_bytes(b"nothing")
    again = trained(tmp_path, epochs=1)
    assert [event["kind"] for event in again.state.events] == ["damaged checkpoint"] * len(names)
    assert checkpoints.steps() == [6]  # its own is not taken for an old one
    aside = sorted(path.name for path in checkpoints.folder.glob("*.damaged"))
    assert aside == [f"{name}.damaged" for name in names]


def test_a_checkpoint_that_the_disk_withholds_is_not_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(tmp_path, epochs=2)
    checkpoints = Checkpoints(tmp_path / CHECKPOINTS)
    before = checkpoints.steps()

    def failing(error: Exception) -> Any:
        def open_it(path: Path) -> Any:
            raise error

        return open_it

    for error, expected in (
        (OSError(errno.EIO, "Input/output error"), StorageError),
        (MemoryError(), MemoryError),
    ):
        monkeypatch.setattr(zipfile, "ZipFile", failing(error))
        with pytest.raises(expected):
            checkpoints.newest()
    assert checkpoints.steps() == before


def test_only_the_first_process_says_when_to_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saves: list[bool] = []

    class Second(Alone):
        first = False

        def any(self, flags: Sequence[bool]) -> tuple[bool, ...]:
            saves.append(flags[0])
            return tuple(flags)

    monkeypatch.setattr(running, "ranks_of", lambda config: Second())
    trained(tmp_path, RunOptions(save_every_s=0.0), epochs=1)
    assert saves and not any(saves)


def test_gathering_the_state_is_part_of_what_a_checkpoint_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, state = [0.0], TrainingLoop.state

    def gathered(loop: TrainingLoop) -> dict[str, Any]:
        now[0] += 4.0
        return state(loop)

    monkeypatch.setattr(running, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(TrainingLoop, "state", gathered)
    run = trained(tmp_path, RunOptions(save_every_s=10.0), epochs=2)
    assert (run.state.saves, run.state.save_s) == (2, 8.0)


def test_a_whole_training_keeps_no_times_of_its_steps(tmp_path: Path) -> None:
    assert trained(tmp_path, epochs=1).loop.clock.read()[0] == ()


def test_two_checkpoints_and_the_best_are_kept(tmp_path: Path) -> None:
    # The metric of the first epoch is the best by far.
    scores = iter([0.9, 0.9, 0.1, 0.1, 0.2, 0.2, 0.3, 0.3])
    run = trained(tmp_path, epochs=4, metric=lambda output, target: next(scores))
    assert run.checkpoints.steps() == [6, 18, 24]
    assert run.state.best is not None
    assert run.state.best.epoch == 1


@pytest.fixture
def listening() -> Iterator[None]:
    """Ctrl-C as a terminal's programs know it; a shell's background jobs are told to ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("listening")
def test_ctrl_c_saves_and_the_next_run_goes_on(tmp_path: Path) -> None:
    def interrupting(output: Any, target: Any) -> Any:
        if output.requires_grad and run.loop.step_number == 7:
            os.kill(os.getpid(), signal.SIGINT)
        return torch.nn.functional.cross_entropy(output, target)

    job = tiny_job(loss=interrupting)
    run = TrainingRun(job, tiny_config(), 3, tmp_path / "a")
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert run.checkpoints.steps() == [6, 8]  # the step was finished
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    again = trained(tmp_path / "a")
    whole = trained(tmp_path / "b")
    assert same(again.loop.model.state_dict(), whole.loop.model.state_dict())
    assert again.state.samples == whole.state.samples == 72


def test_what_was_begun_otherwise_is_refused(tmp_path: Path) -> None:
    trained(tmp_path, epochs=1)
    with pytest.raises(SpecError, match=r"another batch\.size, seed\..*--restart"):
        trained(tmp_path, config=tiny_config(seed=1, batch=BatchSettings(2)))
    with pytest.raises(SpecError, match="another state of the job"):
        other = tiny_config(job=tiny_config().job.__class__("tiny", "python_file", "1" * 64))
        trained(tmp_path, config=other)
    with pytest.raises(SpecError, match=r"another data, weights\."):
        settings = {"data": "elsewhere", "weights": "other.pt"}
        trained(tmp_path, config=tiny_config(job=replace(other.job, settings=settings)))


def test_more_epochs_go_on_unless_the_schedule_depends_on_them(tmp_path: Path) -> None:
    trained(tmp_path / "a", epochs=1)
    longer = trained(tmp_path / "a", epochs=2)
    assert len(longer.state.history) == 2

    def one_cycle(optimizer: Any, steps: int) -> Any:
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, steps)

    trained(tmp_path / "b", epochs=1, scheduler=one_cycle)
    with pytest.raises(SpecError, match="begun for 1 epochs"):
        trained(tmp_path / "b", epochs=2, scheduler=one_cycle)


def test_state_that_cannot_be_resumed_is_refused_at_the_first_checkpoint(tmp_path: Path) -> None:
    class Odd(torch.optim.SGD):
        def state_dict(self) -> Any:
            return {**super().state_dict(), "extra": Pictures("train")}

    with pytest.raises(SpecError, match="more than tensors and plain values"):
        trained(tmp_path, optimizer=lambda model: Odd(model.parameters(), 0.1))


def test_the_state_survives_a_trip_through_json(tmp_path: Path) -> None:
    run = trained(tmp_path, epochs=1)
    document = json.loads(json.dumps(run.state.to_dict()))
    assert RunState.from_dict(document).history == run.state.history
