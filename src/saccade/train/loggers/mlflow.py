"""MLflow: the server that ``MLFLOW_TRACKING_URI`` names, or a database in the run folder."""

from __future__ import annotations

import collections
import itertools
import os
import time
from collections.abc import Callable, Mapping, Sequence
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
# A server that is down is asked again so many seconds later; so many values wait at most.
AGAIN_S, MOST_WAITING = 120.0, 200_000
# By default MLflow tries for minutes, for which the steps would wait.
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}


class MlflowLogger:
    """One MLflow run per run folder, which goes on after an interruption."""

    name: ClassVar[str] = "mlflow"

    @staticmethod
    def open(request: LogRequest) -> OpenMlflow:
        """Open a client; the server is asked when there is something to log.

        Raises:
            MissingExtraError: mlflow is not installed.
        """
        try:
            import mlflow
        except ImportError as error:
            raise MissingExtraError("mlflow", "mlflow", "--log mlflow") from error
        for name, value in PATIENCE.items():
            os.environ.setdefault(name, value)
        local = f"sqlite:///{(request.folder / 'mlflow.db').absolute()}"
        uri = os.environ.get("MLFLOW_TRACKING_URI") or local
        return OpenMlflow(mlflow.MlflowClient(tracking_uri=uri), request)


class OpenMlflow:
    """See `saccade.train.loggers.contract.OpenLogger`.

    What a server that is down does not take waits for it; no training ends because of that.

    Args:
        client: of MLflow.
        request: what is logged.
        clock: seconds, monotonic.
    """

    def __init__(
        self, client: Any, request: LogRequest, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client, self._request, self._clock = client, request, clock
        self._run_id = ""
        # The last step that the server has, of steps and of epochs; an interrupted run sent more
        # than its checkpoint holds.
        self._last: dict[str, int] = {}
        self._waiting: collections.deque[tuple[str, float, int, int]] = collections.deque(
            maxlen=MOST_WAITING
        )
        self._again_at: float | None = None

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

    def close(self) -> None:
        """The run has ended."""
        self._send(ended=True)
        if self._waiting:
            self._request.note(f"values that MLflow did not get: {len(self._waiting)}")
            self._waiting.clear()

    def _log(self, values: Sequence[tuple[str, float, int]]) -> None:
        now = int(time.time() * 1e3)
        self._waiting += [(name, value, now, step) for name, value, step in values]
        if self._again_at is None or self._clock() >= self._again_at:
            self._send()

    def _send(self, *, ended: bool = False) -> None:
        """Send what waits; where that fails, say so once and leave it for later."""
        from mlflow.exceptions import MlflowException

        try:
            if not self._run_id:
                self._join()
            while self._waiting:
                self._send_some()
            if ended:
                self._client.set_terminated(self._run_id)
        except MlflowException as error:
            if self._again_at is None:
                said = str(error).partition("\n")[0][:200]
                self._request.note(f"MLflow takes nothing now, so that values wait: {said}")
            self._again_at = self._clock() + AGAIN_S
            return
        if self._again_at is not None:
            self._request.note("MLflow has taken the values that waited")
        self._again_at = None

    def _send_some(self) -> None:
        from mlflow.entities import Metric

        part = list(itertools.islice(self._waiting, BATCH))
        new = [v for v in part if v[3] > self._last.get(v[0].partition("/")[0], -1)]
        if new:
            self._client.log_batch(self._run_id, metrics=[Metric(*value) for value in new])
        for _ in part:
            self._waiting.popleft()

    def _join(self) -> None:
        """The run of an earlier process, where the server still knows it, or a new one."""
        folder = self._request.folder
        run_id = _known_run(self._client, folder)
        if run_id is None:
            run_id = _new_run(self._client, self._request)
            RunFolder(folder).write_text(RUN_ID, run_id)
        else:
            for kind, key in (("step", "step/loss"), ("epoch", "epoch/val_loss")):
                history = self._client.get_metric_history(run_id, key)
                self._last[kind] = max((metric.step for metric in history), default=-1)
        self._run_id = run_id


def _known_run(client: Any, folder: Path) -> str | None:
    from mlflow.exceptions import MlflowException

    path = folder / RUN_ID
    if not path.is_file():
        return None
    run_id = path.read_text(encoding="utf-8").strip()
    try:
        client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
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
