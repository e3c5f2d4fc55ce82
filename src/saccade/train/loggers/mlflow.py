"""MLflow: the server that ``MLFLOW_TRACKING_URI`` names, or a database in the run folder."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from saccade.errors import MissingExtraError
from saccade.study import RunFolder
from saccade.train.config import TrainingConfig
from saccade.train.loggers.contract import LogRequest, epoch_values
from saccade.train.run_state import EpochRecord
from saccade.train.watch import StepRecord

EXPERIMENT = "saccade"
RUN_ID = "mlflow-run.txt"
# MLflow takes no more metrics than this in one call.
BATCH = 1000


class MlflowLogger:
    """One MLflow run per run folder, which goes on after an interruption."""

    name: ClassVar[str] = "mlflow"

    @staticmethod
    def open(request: LogRequest) -> OpenMlflow:
        """Open the run.

        Raises:
            MissingExtraError: mlflow is not installed.
        """
        try:
            import mlflow
        except ImportError as error:
            raise MissingExtraError("mlflow", "mlflow", "--log mlflow") from error
        local = f"sqlite:///{(request.folder / 'mlflow.db').absolute()}"
        uri = os.environ.get("MLFLOW_TRACKING_URI") or local
        client = mlflow.MlflowClient(tracking_uri=uri)
        run_id = _known_run(client, request.folder)
        if run_id is None:
            run_id = _new_run(client, request)
            RunFolder(request.folder).write_text(RUN_ID, run_id)
        return OpenMlflow(client, run_id)


class OpenMlflow:
    """See `saccade.train.loggers.contract.OpenLogger`."""

    def __init__(self, client: Any, run_id: str) -> None:
        self._client, self._run_id = client, run_id

    def steps(self, records: Sequence[StepRecord]) -> None:
        """Loss and learning rate of each step."""
        found = [("step/loss", record.loss, record.step) for record in records]
        found += [
            ("step/learning_rate", record.learning_rate, record.step)
            for record in records
            if record.learning_rate is not None
        ]
        self._log(found)

    def epoch(self, record: EpochRecord) -> None:
        """What was found at the end of an epoch, at the last step of it."""
        values = epoch_values(record).items()
        self._log([(name, value, record.step - 1) for name, value in values])

    def _log(self, values: Sequence[tuple[str, float, int]]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1e3)
        for first in range(0, len(values), BATCH):
            part = values[first : first + BATCH]
            metrics = [Metric(name, value, now, step) for name, value, step in part]
            self._client.log_batch(self._run_id, metrics=metrics)

    def close(self) -> None:
        """The run has ended."""
        self._client.set_terminated(self._run_id)


def _known_run(client: Any, folder: Path) -> str | None:
    """The run of an earlier process, where the server still knows it."""
    from mlflow.exceptions import MlflowException

    path = folder / RUN_ID
    if not path.is_file():
        return None
    run_id = path.read_text(encoding="utf-8").strip()
    try:
        client.get_run(run_id)
    except MlflowException:
        return None
    return run_id


def _new_run(client: Any, request: LogRequest) -> str:
    experiment = client.get_experiment_by_name(EXPERIMENT)
    number = (
        experiment.experiment_id
        if experiment is not None
        else client.create_experiment(
            EXPERIMENT, artifact_location=str((request.folder / "mlartifacts").absolute())
        )
    )
    run = client.create_run(number, run_name=request.folder.name)
    for name, value in parameters(request.config).items():
        client.log_param(run.info.run_id, name, value)
    return str(run.info.run_id)


def parameters(config: TrainingConfig) -> dict[str, str]:
    """The configuration, flat, as MLflow shows parameters."""
    flat: dict[str, str] = {"config_hash": config.hash}
    for name, value in config.to_dict().items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{key}": str(item)[:500] for key, item in value.items()}
        else:
            flat[name] = str(value)
    return flat
