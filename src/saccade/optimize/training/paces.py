"""How fast sets of changes are, each measured once by itself; what a race has shown counts too."""

from __future__ import annotations

import time

from saccade.errors import SaccadeError, StorageError
from saccade.optimize.training.durations import SCREEN_S, screening_s
from saccade.optimize.training.ring import Ring
from saccade.optimize.training.runner import Pace, Timed
from saccade.optimize.training.sets import Set, configured, cost_of
from saccade.optimize.training.trial_log import Outcome, how_of
from saccade.study import Ratio, Trial
from saccade.train.change import TrainingContext
from saccade.train.config import TrainingConfig

Key = frozenset[str]


class Paces:
    """Measures sets on demand and remembers them, by the labels of their changes.

    Args:
        context: the configuration that sets are made from.
        timed: whether steps are timed with their loading.
        ring: where they are measured.
    """

    def __init__(self, context: TrainingContext, timed: Timed, ring: Ring) -> None:
        self._context, self._timed, self._ring = context, timed, ring
        self._alone: dict[Key, Pace | None] = {}
        self._raced: dict[Key, Pace] = {}

    @property
    def start(self) -> Pace:
        """Of the configuration that sets are made from, which was measured."""
        found = self._alone[frozenset()]
        assert found is not None
        return found

    def of(self, chosen: Set) -> Pace | None:
        """How fast a set is; None where it does not run or does not fit.

        Raises:
            SaccadeError: it is the start that does not run.
        """
        key = key_of(chosen)
        if key not in self._alone:
            self._alone[key] = None
            self._alone[key] = self._measured(chosen)
        return self._alone[key]

    def beats_start(self, chosen: Set, times: int = 1) -> bool:
        """Whether a set is faster than the start by so many times what can be resolved."""
        now = self.of(chosen)
        clear = (1 + self._ring.resolution) ** times
        return now is not None and now.samples_per_s > self.start.samples_per_s * clear

    def fastest(self) -> tuple[Key, Pace]:
        """The fastest set that was measured."""
        found = {key: pace for key, pace in self._alone.items() if pace is not None}
        return max(found.items(), key=lambda item: item[1].samples_per_s)

    def step_s(self, chosen: Set) -> float:
        """Of a set, or of the start, than which nothing is slower that is worth trying."""
        pace = self._alone.get(key_of(chosen)) or self._alone.get(frozenset())
        return pace.step_s if pace is not None else 0.0

    def screening_s(self, chosen: Set) -> float:
        """Seconds that measuring a set takes, from what is known."""
        return screening_s(sum(map(cost_of, chosen)), self.step_s(chosen))

    def take(self, chosen: Set, samples_per_s: float) -> None:
        """What a race says of a set that was not measured alone: most pairs are seen this way."""
        key = key_of(chosen)
        pace = Pace(samples_per_s, self._context.config.batch.effective / samples_per_s)
        self._raced[key] = pace
        if len(chosen) > 1 and self._alone.get(key) is None:
            self._alone[key] = pace

    def seen(self) -> dict[Key, Pace]:
        """Every set that was measured, alone or else in a race."""
        alone = {key: pace for key, pace in self._alone.items() if pace is not None}
        return {**self._raced, **alone}

    def _measured(self, chosen: Set) -> Pace | None:
        log = self._ring.log
        try:
            config = configured(self._context, chosen)
        except StorageError:
            raise
        except SaccadeError as error:
            self._note_failure(chosen, None, str(error))
            return None
        if config is None:
            return None
        known = log.known(self._context.config, config, how_of(chosen), self._timed)
        if known is not None:
            log.again(known)
            return _pace_of(known)
        began = time.monotonic()
        if chosen:
            log.started(chosen, how_of(chosen))
        try:
            with self._ring.open(config, self._timed) as runner:
                pace = runner.pace(SCREEN_S)
        except SaccadeError as error:
            self._note_failure(chosen, config, str(error))
            return None
        if chosen:
            self._note(chosen, config, pace, time.monotonic() - began)
        return pace

    def _note(self, chosen: Set, config: TrainingConfig, pace: Pace, wall_s: float) -> None:
        ratio = pace.samples_per_s / self.start.samples_per_s
        spread = 1 + self._ring.resolution
        gain = Ratio(ratio, ratio / spread, ratio * spread)
        verdict = "better" if gain.low > 1 else "worse" if gain.high < 1 else "not distinguishable"
        said = f"measured {'without loading, ' if self._timed == 'synthetic' else ''}beside nothing"
        outcome = Outcome(
            verdict,  # type: ignore[arg-type]
            f"{said}: {pace.samples_per_s:.3g} samples/s",
            how_of(chosen),
            gain,
            pace.metrics,
        )
        self._ring.log.record(chosen, self._context.config, config, self._timed, outcome, wall_s)

    def _note_failure(self, chosen: Set, config: TrainingConfig | None, reason: str) -> None:
        if not chosen:
            raise SaccadeError(reason)
        outcome = Outcome("failed", reason, how_of(chosen))
        self._ring.log.record(chosen, self._context.config, config, self._timed, outcome)


def key_of(chosen: Set) -> Key:
    """What a set is remembered by."""
    return frozenset(option.label for option in chosen)


def _pace_of(trial: Trial) -> Pace | None:
    """What an interrupted run measured."""
    rate, step_ms = trial.metrics.get("samples_per_s"), trial.metrics.get("step_ms")
    return Pace(rate, step_ms / 1e3) if rate and step_ms else None
