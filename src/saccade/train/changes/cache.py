"""Decoded samples kept, in memory that workers share or in a file that is mapped into it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Self

from saccade.train.change import Effect, Part, Prediction, TrainingContext
from saccade.train.config import Cache, TrainingConfig
from saccade.train.load_prediction import LoadWork, predicted, refusal

# Of what is free, and how fast a sample is copied out of the cache, 10^6 bytes per second.
_SHARE = 0.5
_COPY_MB_S = 4000.0


@dataclass(frozen=True)
class CacheSamples:
    """Decode each file once.

    Attributes:
        where: ``"memory"``, gone with the process, or ``"disk"``, kept in the run folder.
    """

    name: ClassVar[str] = "cache"
    part: ClassVar[Part] = "data"

    where: Cache = "memory"

    @property
    def effect(self) -> Effect:
        """The same samples."""
        return "exact"

    @classmethod
    def variants(cls, context: TrainingContext) -> Iterable[Self]:
        """In memory and on disk."""
        return [cls("memory"), cls("disk")]

    @property
    def label(self) -> str:
        """Name and place."""
        return f"{self.name} {self.where}"

    def applies(self, context: TrainingContext) -> str | None:
        """Where all samples fit."""
        if context.config.loader.cache != "none":
            return f"already in {context.config.loader.cache}"
        if context.config.loader.backend == "dali":
            return "DALI decodes files itself"
        if reason := refusal(context, self.name):
            return reason
        machine, size = context.machine, _size_mb(context)
        if self.where == "memory":
            # Processes that train together hold one each.
            size *= context.config.scale.processes
        free = machine.free_memory_mb if self.where == "memory" else machine.free_disk_mb
        if size > free * _SHARE:
            return f"decoded samples take {size:.0f} MB, more than half of {free:.0f} MB free"
        return None

    def predict(self, context: TrainingContext) -> Prediction:
        """A copy instead of reading and decoding, after a first pass over all files."""
        facts = context.profile.facts
        work = LoadWork.of(context.profile, context.config.loader.workers)
        copy_s = _size_mb(context) / max(1, facts.samples) / _COPY_MB_S
        decode = min(1.0, copy_s / max(work.decode, 1e-9))
        first_s = (work.read + work.decode) * facts.samples / max(1, context.machine.cores)
        basis = f"{_size_mb(context):.0f} MB of decoded samples, filled in about {first_s:.0f} s"
        return predicted(context, basis, decode=decode, cost_s=first_s)

    def apply(self, context: TrainingContext) -> TrainingConfig:
        """Turn it on; the cache is filled when the loader opens."""
        return context.config.with_loader(cache=self.where, store=str(context.folder))


def _size_mb(context: TrainingContext) -> float:
    facts = context.profile.facts
    scaled = context.config.loader.decode == "scaled"
    return facts.cache_mb * (facts.scalable**2 if scaled else 1.0)
