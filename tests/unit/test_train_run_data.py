"""Broken samples in a whole training, and what its loggers have of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_training import Pictures, tiny_config, tiny_job
from training_runs import trained

from saccade.errors import DataError
from saccade.playbook.train_run import result_of
from saccade.train.run_options import RunOptions
from saccade.train.running import TrainingRun

pytestmark = pytest.mark.usefixtures("one_thread")


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


class BrokenToJudge(Pictures):
    """One of the held-out samples cannot be read."""

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        if self.count == 6 and index == 4:
            raise OSError("truncated file")
        return super().__getitem__(index)


def test_held_out_samples_that_are_corrupt_are_counted_and_refused(tmp_path: Path) -> None:
    run = trained(tmp_path / "a", dataset=BrokenToJudge, config=tiny_config(max_corrupt=0.2))
    assert [epoch.corrupt for epoch in run.state.history] == [1, 1, 1]
    assert result_of(run)["corrupt"]["held_out"] == 1
    with pytest.raises(DataError, match="1 of 6 samples cannot be prepared"):
        trained(tmp_path / "b", dataset=BrokenToJudge)


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
