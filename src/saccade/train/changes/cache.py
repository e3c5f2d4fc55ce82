"""Decoded or resized samples kept, in memory that workers share or in a file mapped into it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from saccade.train.change import Effect, Part, Prediction, TrainingContext
from saccade.train.config import Cache, TrainingConfig
from saccade.train.load_prediction import LoadWork, predicted, refusal, traits
from saccade.train.memory import shrinking

# Of what is free, and how fast a sample is copied out of the cache, 10^6 bytes per second.
_SHARE = 0.5
_COPY_MB_S = 4000.0
# Share of the transforms' time that is left where they need not resize: a guess, until measured.
_TRANSFORM = 0.6


@dataclass(frozen=True)
class CacheSamples:
    """Decode each file once.

    Attributes:
        where: ``"memory"``, gone with the process, or ``"disk"``, kept in the run folder.
        resized: after the resizing with which the transforms begin, where that is the same each
            time; it takes less room and is not done again.
    """

    name: ClassVar[str] = "cache"
    part: ClassVar[Part] = "data"

    where: Cache = "memory"
    resized: bool = False

    @property
    def effect(self) -> Effect:
        """The same samples."""
        return "exact"

    @classmethod
    def variants(cls, context: TrainingContext) -> Iterable[Self]:
        """In memory and on disk, decoded and resized."""
        return [cls(where, small) for small in (False, True) for where in ("memory", "disk")]

    @property
    def label(self) -> str:
        """Name and place, and what is kept."""
        return f"{self.name} {self.where}{', resized' if self.resized else ''}"

    def applies(self, context: TrainingContext) -> str | None:
        """Where all samples fit."""
        if context.config.loader.cache != "none":
            return f"already in {context.config.loader.cache}"
        if not traits(context).takes_cache:
            return f"the loader '{context.config.loader.backend}' decodes files itself"
        if reason := self._refusal(context):
            return reason
        if self.where == "memory":
            return too_large(context, self.resized, context.config.scale.processes)
        size, free = kept_mb(context, self.resized), context.machine.free_disk_mb
        if size > free * _SHARE:
            return f"{_kind(self.resized)} samples take {size:.0f} MB of {free:.0f} MB free"
        return None

    def _refusal(self, context: TrainingContext) -> str | None:
        if not self.resized:
            return refusal(context, self.name)
        facts = context.profile.facts
        if traits(context).decodes != "as_set" or context.config.loader.decode != "full":
            return "images are not decoded whole by PyTorch's loader"
        if reason := refusal(context, f"{self.name}_resized"):
            return reason
        if not 0 < facts.resized_mb < facts.decoded_mb:
            return "resized samples are no smaller than decoded ones"
        return None

    def predict(self, context: TrainingContext) -> Prediction:
        """A copy instead of reading and decoding, after a first pass over all files."""
        facts = context.profile.facts
        work = LoadWork.of(context.profile, context.config.loader.workers)
        size = kept_mb(context, self.resized)
        copy_s = size / max(1, facts.samples) / _COPY_MB_S
        decode = min(1.0, copy_s / max(work.decode, 1e-9))
        first_s = (work.read + work.decode) * facts.samples / max(1, context.machine.cores)
        transform = _TRANSFORM if self.resized else 1.0
        basis = f"{size:.0f} MB of {_kind(self.resized)} samples, filled in about {first_s:.0f} s"
        found = predicted(context, basis, decode=decode, transform=transform, cost_s=first_s)
        return replace(found, shrinks=shrinking(context, -size, "peak_rss_mb"))

    def apply(self, context: TrainingContext) -> TrainingConfig:
        """Turn it on; the cache is filled when the loader opens."""
        return context.config.with_loader(
            cache=self.where, resized=self.resized, store=str(context.folder)
        )


def kept_mb(context: TrainingContext, resized: bool) -> float:
    """What all samples take where they are kept once, 10^6 bytes."""
    facts = context.profile.facts
    if resized:
        return facts.resized_mb * facts.samples
    scaled = context.config.loader.decode == "scaled"
    return facts.cache_mb * (facts.scalable**2 if scaled else 1.0)


def too_large(context: TrainingContext, resized: bool, processes: int) -> str | None:
    """Why samples cannot be kept in memory by so many processes, each of which keeps its own.

    Two trainings are open at a time where one is raced against another.
    """
    size, free = kept_mb(context, resized), context.machine.free_memory_mb
    if 2 * processes * size <= free * _SHARE:
        return None
    return (
        f"{_kind(resized)} samples take {size:.0f} MB, kept by {2 * processes} processes in a "
        f"race, of {free:.0f} MB free"
    )


def _kind(resized: bool) -> str:
    return "resized" if resized else "decoded"
