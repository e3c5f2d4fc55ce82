"""From what the user asks to a job that can be measured."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from saccade.environment import Environment, detect
from saccade.errors import GoalError
from saccade.goals import Goal
from saccade.optimize.worker import Worker
from saccade.train.config import BatchSettings, LoaderSettings, TrainingConfig
from saccade.train.job import refer
from saccade.train.spec import TrainingSpec

# Metrics that only a GPU has, and what a CPU has in the place of one.
ON_GPUS = ("peak_device_mb", "device_busy_share")
_ON_THE_CPU = {"peak_device_mb": ", or ask for peak_rss_mb"}
DEFAULT_DRIFT = Goal("loss_drift", "<=", 0.02)


@dataclass(frozen=True)
class TrainingTask:
    """A job, ready to be measured.

    Attributes:
        baseline: as the user's own script trains it.
        epochs: of the whole training.
        guard: the bound on how differently it may learn; `DEFAULT_DRIFT` where no goal says it.
        goals: what the user asks.
        folder: the run folder.
    """

    spec: TrainingSpec
    baseline: TrainingConfig
    epochs: int
    has_metric: bool
    goals: tuple[Goal, ...]
    guard: Goal
    environment: Environment
    folder: Path


def prepare(spec: TrainingSpec, folder: Path) -> TrainingTask:
    """Open the job in a process of its own and read what stands in it.

    Raises:
        SpecError: it is no job, or its code fails.
        GoalError: a goal needs what the job has not.
    """
    reference = refer(spec.job, spec.settings)
    with Worker("saccade.train.subject:JobReader", ()) as worker:
        found = worker.call("read", reference, timeout_s=300.0)
    goals, own = spec.parsed_goals(), found["compute"]
    _check_goals(goals, found["has_metric"], spec.device or own.device)
    limit = spec.max_corrupt if spec.max_corrupt is not None else found["max_corrupt"]
    baseline = TrainingConfig(
        reference,
        LoaderSettings(workers=found["workers"]),
        replace(own, device=spec.device or own.device),
        BatchSettings(size=found["batch_size"], accumulation=found["accumulation"]),
        max_corrupt=limit,
        seed=spec.seed,
    )
    return TrainingTask(
        spec,
        baseline,
        found["epochs"],
        found["has_metric"],
        goals,
        next((g for g in goals if g.metric == "loss_drift"), DEFAULT_DRIFT),
        detect(),
        folder,
    )


def _check_goals(goals: tuple[Goal, ...], has_metric: bool, device: str) -> None:
    for goal in goals:
        if goal.base in ON_GPUS and not device.startswith("cuda"):
            raise GoalError(
                f"The goal '{goal.name}' is about a GPU, and the job trains on the device "
                f"'{device}'. Leave it out{_ON_THE_CPU.get(goal.base, '')}."
            )
        if goal.base in ("metric", "time_to_metric_s") and not has_metric:
            raise GoalError(
                f"The goal '{goal.name}' needs a metric, and the job has none. Add a function "
                "metric(output, target) to it, or ask for loss_drift."
            )
