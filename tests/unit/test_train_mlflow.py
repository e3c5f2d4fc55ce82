"""MLflow has every step once, also after a kill, and no training waits for its server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tiny_training import tiny_config

from saccade.playbook.train_run import _clear
from saccade.train.loggers.contract import LogRequest
from saccade.train.loggers.mlflow import AGAIN_S, RUN_ID, MlflowLogger, OpenMlflow
from saccade.train.run_file import write_run_file
from saccade.train.watch import StepRecord

pytest.importorskip("mlflow")


def records(*steps: int) -> Sequence[StepRecord]:
    return [StepRecord(step, 1.0 + step) for step in steps]


def logged(folder: Path) -> list[int]:
    """Steps in the database of a run folder."""
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    run_id = (folder / RUN_ID).read_text()
    return [m.step for m in client.get_metric_history(run_id, "step/loss")]


def test_steps_that_a_killed_run_sent_are_not_sent_again(tmp_path: Path) -> None:
    told: list[str] = []
    write_run_file(tmp_path, tiny_config(), 3)
    request = LogRequest(tmp_path, tiny_config(), 0, told.append)
    MlflowLogger.open(request).steps(records(0, 1, 2, 3, 4))  # and killed within the epoch
    again = MlflowLogger.open(LogRequest(tmp_path, tiny_config(), 3, told.append))
    again.steps(records(3, 4, 5))
    again.close()
    assert sorted(logged(tmp_path)) == [0, 1, 2, 3, 4, 5]
    first = (tmp_path / RUN_ID).read_text()
    _clear(tmp_path, True)
    MlflowLogger.open(request).steps(records(0))
    assert (tmp_path / RUN_ID).read_text() != first
    assert logged(tmp_path) == [0]
    assert told == []


class Server:
    """A client whose server can be down."""

    def __init__(self) -> None:
        self.down, self.asked, self.steps = True, 0, list[int]()

    def _answer(self) -> None:
        from mlflow.exceptions import MlflowException

        self.asked += 1
        if self.down:
            raise MlflowException("connection refused")

    def get_experiment_by_name(self, name: str) -> Any:
        self._answer()
        return SimpleNamespace(experiment_id="1")

    def create_run(self, number: str, run_name: str) -> Any:
        return SimpleNamespace(info=SimpleNamespace(run_id="one"))

    def log_param(self, run_id: str, name: str, value: str) -> None:
        pass

    def log_batch(self, run_id: str, metrics: Sequence[Any]) -> None:
        self._answer()
        self.steps += [metric.step for metric in metrics]

    def set_terminated(self, run_id: str) -> None:
        self._answer()


def test_a_server_that_is_down_gets_its_values_later(tmp_path: Path) -> None:
    told: list[str] = []
    now, server = [0.0], Server()
    opened = OpenMlflow(server, LogRequest(tmp_path, tiny_config(), 0, told.append), lambda: now[0])
    opened.steps(records(0))
    opened.steps(records(1))
    assert server.asked == 1 and "connection refused" in told[0]
    server.down, now[0] = False, AGAIN_S
    opened.steps(records(2))
    assert server.steps == [0, 1, 2]
    server.down = True
    opened.steps(records(3))
    opened.close()
    assert len(told) == 4 and told[3] == "values that MLflow did not get: 1"
