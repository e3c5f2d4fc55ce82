"""The search over a whole training: the part that holds it back most first, then profiled again.

Changes of one part interact and are searched as sets (`PartSearch`); parts hardly do, but once
steps are faster the loader may no longer keep up, and so the other part's turn comes with a new
profile.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from saccade.errors import SaccadeError, StorageError
from saccade.optimize.training.interactions import Interaction, interactions
from saccade.optimize.training.part_search import PartSearch
from saccade.optimize.training.ring import Ring
from saccade.optimize.training.runner import Timed
from saccade.optimize.training.sets import Option, configured, label_of, plan_training
from saccade.prediction import Prediction
from saccade.progress import Progress
from saccade.study import Ratio
from saccade.train.change import Part, TrainingContext
from saccade.train.config import TrainingConfig
from saccade.train.profile import ModelFacts, TrainingProfile

# Profiles a configuration; an earlier profile, where one is given, saw the same samples.
ProfileOf = Callable[[TrainingConfig, TrainingProfile | None], TrainingProfile]
# What a part's steps are timed with; compute without loading, whose noise it need not bear.
TIMED: dict[Part, Timed] = {
    "compute": "synthetic",
    "data": "block",
    "batch": "block",
    "scale": "block",
    "model": "synthetic",
}
# Rounds over the parts; a part whose bound is below this is left alone.
ROUNDS = 6
WORTH = 1.03
# What the first part may take of the time that is left, where there are others.
FIRST_SHARE = 0.75


@dataclass(frozen=True)
class Saved:
    """What a change was kept for that a goal on memory asked for.

    Attributes:
        metric: of memory.
        before_mb: without it, measured in the same race.
        after_mb: with it.
    """

    metric: str
    before_mb: float
    after_mb: float


@dataclass(frozen=True)
class Kept:
    """A change that is part of the best configuration.

    Attributes:
        marginal: what it gains among the others: the system with it over the system without.
        alone: its gain over the configuration that its part's search began from; None where it was
            not measured alone, not even in a race.
        expected: what it promised among the others; None where that was not asked.
        profile: with which its part was searched, and its conditions were judged; None where it is
            the baseline's.
        saved: of memory, where it was kept for that; ``marginal`` then says what it cost.
    """

    option: Option
    marginal: Ratio | None
    alone: float | None
    expected: Prediction | None = None
    profile: TrainingProfile | None = None
    saved: Saved | None = None


@dataclass(frozen=True)
class Rebuilt:
    """What is left of kept changes when some are taken out.

    Attributes:
        config: with the others.
        kept: the others.
        fallen: changes that cannot be made without those that were taken out → why.
    """

    config: TrainingConfig
    kept: tuple[Kept, ...]
    fallen: tuple[tuple[Kept, str], ...] = ()


@dataclass(frozen=True)
class Found:
    """What a search came to.

    Attributes:
        config: the best that was found.
        kept: the changes that it is made of, in order.
        interactions: of changes that were measured alone and in pairs.
        profile: the last that was made, mostly of ``config``; see its ``config_hash``.
    """

    config: TrainingConfig
    kept: tuple[Kept, ...]
    interactions: tuple[Interaction, ...]
    profile: TrainingProfile | None = None


class TrainingSearch:
    """Search, part by part.

    Args:
        context: of the baseline.
        ring: where configurations race.
        profile_of: profiles a configuration.
        progress: told what came of each part.
    """

    def __init__(
        self,
        context: TrainingContext,
        ring: Ring,
        profile_of: ProfileOf,
        progress: Progress,
    ) -> None:
        self._context, self._ring, self._left = context, ring, ring.time_left
        self._profile_of, self._progress = profile_of, progress
        self._kept: list[Kept] = []
        self._interactions: list[Interaction] = []
        self._searched: dict[Part, set[str]] = {part: set() for part in TIMED}

    def run(self) -> Found:
        """Search until no part promises anything or time is up."""
        for _ in range(ROUNDS):
            parts = self._order()
            if not parts or self._left() <= 0:
                break
            self._search(parts[0], self._left() * (1.0 if len(parts) == 1 else FIRST_SHARE))
        context = self._context
        return Found(context.config, tuple(self._kept), tuple(self._interactions), context.profile)

    def _order(self) -> list[Part]:
        """Parts with options that were not searched, by how much they are expected to gain.

        A part comes again where what was kept makes more possible: workers that exist can be kept
        alive, for instance.
        """
        found = {part: [o.prediction for o in self._open(part)] for part in TIMED}
        worth = [part for part, ps in found.items() if any(p.bound >= WORTH for p in ps)]
        return sorted(worth, key=lambda part: -max(p.gain for p in found[part]))

    def _open(self, part: Part) -> tuple[Option, ...]:
        """Options of a part that were not searched yet."""
        found = plan_training(self._context).of(part)
        return tuple(o for o in found if o.label not in self._searched[part])

    def _search(self, part: Part, seconds: float) -> None:
        options = self._open(part)
        self._searched[part] |= {option.label for option in options}
        deadline = time.monotonic() + seconds
        ring = replace(self._ring, time_left=lambda: deadline - time.monotonic())
        search = PartSearch(self._context, options, TIMED[part], ring)
        chosen = search.run()
        rates = {key: pace.samples_per_s for key, pace in search.paces.seen().items()}
        self._interactions += interactions(rates)
        if not chosen:
            self._progress.note(f"{part}: nothing that pays")
            return
        self._adopt(part, chosen, search, rates)
        self._progress.note(f"{part}: {label_of(chosen)}")

    def _adopt(
        self,
        part: Part,
        chosen: Sequence[Option],
        search: PartSearch,
        rates: dict[frozenset[str], float],
    ) -> None:
        start = rates[frozenset()]
        config = configured(self._context, chosen)
        assert config is not None
        for option in sorted(chosen, key=lambda o: o.order):
            alone = rates.get(frozenset({option.label}))
            self._kept.append(
                Kept(
                    option,
                    search.marginal.get(option.label),
                    alone / start if alone else None,
                    search.expected.get(option.label),
                    self._context.profile,
                )
            )
        # Samples are made as before where only computing has changed; what else was seen is stale.
        known = self._context.profile if TIMED[part] == "synthetic" else None
        self._context = replace(self._context, config=config)
        if self._left() > 0:
            self._context = replace(self._context, profile=self._profiled(config, known))

    def _profiled(self, config: TrainingConfig, known: TrainingProfile | None) -> TrainingProfile:
        try:
            return self._profile_of(config, known)
        except SaccadeError as error:
            self._progress.note(f"the new configuration could not be profiled: {error}")
            profile = self._context.profile
            return profile if known is None else of_samples(profile)


def of_samples(profile: TrainingProfile) -> TrainingProfile:
    """A profile without what was watched of computing, for a training that computes otherwise."""
    return replace(
        profile,
        operators=(),
        syncs=(),
        memory_mb={},
        launches=0.0,
        operators_share=0.0,
        device_ms=None,
        scaled_ms={},
        model=ModelFacts(),
    )


def rebuilt(kept: Sequence[Kept], context: TrainingContext) -> Rebuilt:
    """The configuration of kept changes, of which others may have been taken out.

    Args:
        kept: in the order in which they were kept.
        context: of the baseline.
    """
    config, stay, fallen = context.config, [], []
    for item in kept:
        here = replace(context, config=config, profile=item.profile or context.profile)
        reason = item.option.change.applies(here)
        if reason is None:
            try:
                config = item.option.change.apply(here)
            except StorageError:
                raise
            except SaccadeError as error:
                reason = str(error)
        if reason is None:
            stay.append(item)
        else:
            fallen.append((item, reason))
    return Rebuilt(config, tuple(stay), tuple(fallen))
