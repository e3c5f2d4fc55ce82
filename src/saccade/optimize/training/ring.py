"""Where the searches of a training race, and for how long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from saccade.optimize.training.runner import (
    RacePlan,
    Timed,
    TrainingRace,
    TrainingRunner,
    race,
)
from saccade.optimize.training.trial_log import TrialLog
from saccade.train.config import TrainingConfig

OpenRunner = Callable[[TrainingConfig, Timed, Path], TrainingRunner]


@dataclass(frozen=True)
class Ring:
    """Where configurations race.

    Attributes:
        log: where trials are recorded.
        folder: for compiled code.
        resolution: relative difference that this machine can resolve now.
        time_left: seconds until the search's time is up.
        open_runner: opens a worker for a configuration.
    """

    log: TrialLog
    folder: Path
    resolution: float
    time_left: Callable[[], float]
    open_runner: OpenRunner = TrainingRunner

    def open(self, config: TrainingConfig, timed: Timed) -> TrainingRunner:
        """A worker that is warmed up."""
        return self.open_runner(config, timed, self.folder)

    def race(
        self, reference: TrainingRunner, candidate: TrainingRunner, plan: RacePlan
    ) -> TrainingRace:
        """Both in turns, until the difference is clear or the time is up."""
        return race(reference, candidate, self.resolution, plan, self.time_left)
