"""A whole training: killed, resumed, broken and short of memory, it ends where it should."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import Pictures, net, same, tiny_config, tiny_job

from saccade.errors import DataError, NonFiniteLoss, SaccadeError, SpecError
from saccade.train.checkpoint import Checkpoints
from saccade.train.config import BatchSettings
from saccade.train.loggers.files import read_history
from saccade.train.run_options import RunOptions
from saccade.train.run_state import RunState
from saccade.train.running import CHECKPOINTS, TrainingRun
from saccade.train.watch import LossWatch

OFTEN = RunOptions(save_every_s=0.0)


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Threads cost more than they bring on nets this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


def trained(folder: Path, options: RunOptions | None = None, **changes: Any) -> TrainingRun:
    job = tiny_job(**{k: v for k, v in changes.items() if k != "config"})
    run = TrainingRun(job, changes.get("config", tiny_config()), job.epochs, folder, options)
    run.run()
    return run


def last_weights(folder: Path) -> dict[str, torch.Tensor]:
    found = Checkpoints(folder / CHECKPOINTS).newest()
    assert found is not None
    state: dict[str, torch.Tensor] = found.content["loop"]["model"]
    return state


class FailingAt:
    """A loss that fails, or is NaN, whenever it is called for one batch of one epoch."""

    def __init__(self, step: int, failure: Exception | None = None, times: int = 10**6) -> None:
        self.step, self.failure, self.times = step, failure, times
        self.loop: Any = None

    def __call__(self, output: Any, target: Any) -> Any:
        found = torch.nn.functional.cross_entropy(output, target)
        if not output.requires_grad or self.run.loop.step_number != self.step or not self.times:
            return found
        self.times -= 1
        if self.failure is not None:
            raise self.failure
        return found * float("nan")

    def train(self, folder: Path, config: Any = None, **options: Any) -> TrainingRun:
        job = tiny_job(loss=self)
        self.run = TrainingRun(
            job, config or tiny_config(), job.epochs, folder, RunOptions(**options)
        )
        self.run.run()
        return self.run


# -- kills -----------------------------------------------------------------------------------------


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
    assert found is not None
    assert (found.step, found.damaged) == (6, (newest.name,))


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


# -- losses that are no numbers --------------------------------------------------------------------


def test_a_nan_is_named_by_its_step_and_its_batch_is_saved(tmp_path: Path) -> None:
    config = tiny_config()
    with pytest.raises(NonFiniteLoss) as caught:
        FailingAt(11).train(tmp_path, config)
    assert "The loss of step 11 (counted from 0, epoch 2) is nan" in str(caught.value)
    assert "--on-nonfinite skip" in str(caught.value)
    assert "checkpoint of step 6" in str(caught.value)
    saved = torch.load(tmp_path / "nonfinite-step11.pt", weights_only=True)
    assert (saved["step"], saved["config_hash"]) == (11, config.hash)
    # It is the very batch: taken again, step 11 sees the same.
    seen = {}
    job = tiny_job()

    def remembering(output: Any, target: Any) -> Any:
        if output.requires_grad:
            seen[run.loop.step_number] = run.loop.last_batch
        return job.loss(output, target)

    run = TrainingRun(tiny_job(loss=remembering), config, 3, tmp_path / "again")
    run.run()
    assert torch.equal(saved["inputs"], seen[11][0])
    assert torch.equal(saved["target"], seen[11][1])


def test_a_step_that_is_nan_is_left_out_and_nothing_else(tmp_path: Path) -> None:
    run = FailingAt(11).train(tmp_path, on_nonfinite="skip")
    assert run.state.skipped == [11]
    assert [e["kind"] for e in run.state.events] == ["step left out"]
    assert len(run.state.history) == 3
    steps = [int(line.split(",")[0]) for line in (tmp_path / "losses.csv").read_text().split()[1:]]
    assert steps == [k for k in range(18) if k != 11]
    assert all(torch.isfinite(v).all() for v in run.loop.model.state_dict().values())
    # Steps before it are those of a training without it.
    trained(tmp_path / "whole")
    whole = (tmp_path / "whole" / "losses.csv").read_text().split()
    assert (tmp_path / "losses.csv").read_text().split()[:12] == whole[:12]


def test_a_training_that_diverges_is_not_skipped_to_its_end(tmp_path: Path) -> None:
    def broken(output: Any, target: Any) -> Any:
        found = torch.nn.functional.cross_entropy(output, target)
        return found * float("inf") if output.requires_grad else found

    with pytest.raises(NonFiniteLoss, match="leaving them out does not help"):
        trained(tmp_path, RunOptions("skip"), loss=broken)


def test_losses_are_read_together_and_not_at_every_step() -> None:
    now = 0.0
    watch = LossWatch(lambda: now)

    class Reading(torch.Tensor):
        pass

    for step in range(5):
        watch.take(step, torch.tensor(float(step)), 0.1)
        assert not watch.due
    now = 2.0
    assert watch.due
    assert [record.loss for record in watch.read()] == [0, 1, 2, 3, 4]
    assert not watch.due


# -- memory ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "failure",
    [
        MemoryError(),
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: not enough memory"),
    ],
)
def test_out_of_memory_is_answered_by_half_the_batch(tmp_path: Path, failure: Exception) -> None:
    run = FailingAt(8, failure, times=1).train(tmp_path)
    assert (run.config.batch.size, run.config.batch.accumulation) == (2, 2)
    (event,) = run.state.events
    assert (event["kind"], event["step"]) == ("out of memory", 8)
    assert "batch halved to 2 x 2" in event["detail"]
    assert (len(run.state.history), run.state.samples) == (3, 72)
    # It went on from the step before: weights and running statistics are those of step 8 of a
    # training that had the memory, so that the losses before and at that step agree.
    trained(tmp_path / "whole")
    losses = [(path / "losses.csv").read_text().split() for path in (tmp_path, tmp_path / "whole")]
    assert losses[0][:9] == losses[1][:9]


def test_a_halved_batch_stays_halved_when_the_run_is_resumed(tmp_path: Path) -> None:
    FailingAt(8, MemoryError(), times=1).train(tmp_path)
    again = trained(tmp_path, epochs=4)
    assert again.config.batch == BatchSettings(2, 2)
    assert len(again.state.history) == 4


def test_a_halved_batch_is_resumed_without_cuda_graphs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph would write over the gradients that are being added up."""
    modes: list[str | None] = []

    def compile_nothing(model: Any, mode: str | None = None) -> Any:
        modes.append(mode)
        return model

    monkeypatch.setattr(torch, "compile", compile_nothing)
    asked = tiny_config().with_compute(compile="reduce-overhead")
    FailingAt(8, MemoryError(), times=1).train(tmp_path / "one", config=asked)
    assert modes == ["reduce-overhead", None]
    again = trained(tmp_path / "one", config=asked, epochs=4)
    assert (again.config.batch, again.config.compute.compile) == (BatchSettings(2, 2), "default")
    # Processes that train together are started anew with what fits, which may be halved already.
    for options in (RunOptions(most_at_once=2), RunOptions(most_at_once=2), None):
        run = trained(tmp_path / "many", options, config=asked)
        assert (run.config.batch, run.config.compute.compile) == (BatchSettings(2, 2), "default")
    assert modes[2:] == [None] * 4


def test_an_update_that_was_cut_off_is_taken_again_from_the_checkpoint(tmp_path: Path) -> None:
    class Heavy(torch.optim.SGD):
        failed = False

        def step(self, closure: Any = None) -> Any:
            if run.loop.step_number == 8 and not Heavy.failed:
                Heavy.failed = True
                self.param_groups[0]["params"][0].data.fill_(9.0)  # half of the update is done
                raise MemoryError
            return super().step(closure)

    job = tiny_job(
        model=lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 4)),
        optimizer=lambda model: Heavy(model.parameters(), 0.1),
    )
    run = TrainingRun(job, tiny_config(), 3, tmp_path / "a", OFTEN)
    run.run()
    whole = TrainingRun(job, tiny_config(), 3, tmp_path / "b", OFTEN)
    whole.run()
    a, b = run.loop.model.state_dict(), whole.loop.model.state_dict()
    assert all(torch.allclose(a[name], b[name], atol=1e-5) for name in a)


def test_single_samples_that_do_not_fit_are_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SaccadeError, match=r"even on single samples.*bf16"):
        FailingAt(2, MemoryError()).train(tmp_path)


# -- data and loggers ------------------------------------------------------------------------------


class Broken(Pictures):
    """One sample in nine cannot be read."""

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        if index % 9 == 4 and self.count > 6:
            raise OSError("truncated file")
        return super().__getitem__(index)


def test_corrupt_samples_are_counted_and_too_many_are_refused(tmp_path: Path) -> None:
    run = trained(tmp_path / "a", dataset=Broken, config=tiny_config(max_corrupt=0.2))
    assert run.state.corrupt == dict.fromkeys((4, 13, 22), "OSError: truncated file")
    again = TrainingRun(
        tiny_job(dataset=Broken), tiny_config(max_corrupt=0.2), 3, tmp_path / "a"
    ).run()
    assert again.corrupt == run.state.corrupt  # also after it was resumed
    with pytest.raises(DataError, match="--max-corrupt"):
        trained(tmp_path / "b", dataset=Broken)


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_loggers_have_every_step_and_epoch_once(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(name)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    options = RunOptions(loggers=(name,))
    trained(tmp_path, options, epochs=2)
    trained(tmp_path, options, epochs=3)  # goes on in the same log
    steps, metrics = {"tensorboard": _read_events, "mlflow": _read_mlflow}[name](tmp_path)
    assert steps == list(range(18))
    assert metrics == [5, 11, 17]


def _read_events(folder: Path) -> tuple[list[int], list[int]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return (
        [event.step for event in events.Scalars("step/loss")],
        [event.step for event in events.Scalars("epoch/val_metric")],
    )


def _read_mlflow(folder: Path) -> tuple[list[int], list[int]]:
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    run_id = (folder / "mlflow-run.txt").read_text()
    assert client.get_run(run_id).data.params["batch.size"] == "4"
    return (
        [metric.step for metric in client.get_metric_history(run_id, "step/loss")],
        [metric.step for metric in client.get_metric_history(run_id, "epoch/val_metric")],
    )


def test_the_state_survives_a_trip_through_json(tmp_path: Path) -> None:
    run = trained(tmp_path, epochs=1)
    document = json.loads(json.dumps(run.state.to_dict()))
    assert RunState.from_dict(document).history == run.state.history
    assert net  # the model is the one that the module shows
