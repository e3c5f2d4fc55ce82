"""Image files read from an indexed copy in a few large files, for network disks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from saccade.train.change import Effect, OneVariant, Part, Prediction, TrainingContext
from saccade.train.config import TrainingConfig
from saccade.train.load_prediction import LoadWork, refusal

# Read from a network disk and written to the run folder, 10^6 bytes per second.
_COPY_MB_S = 100.0
_SHARE = 0.5


@dataclass(frozen=True)
class ReadShards(OneVariant):
    """Copy the files into tar shards of the run folder once, and read from there."""

    name: ClassVar[str] = "shards"
    part: ClassVar[Part] = "data"

    @property
    def effect(self) -> Effect:
        """The same files, and by the index in the same order."""
        return "exact"

    def applies(self, context: TrainingContext) -> str | None:
        """Where files lie on a network disk, and there is room for a copy."""
        facts, free = context.profile.facts, context.machine.free_disk_mb
        if context.config.loader.shards:
            return "already on"
        if reason := refusal(context, self.name):
            return reason
        size = facts.file_kb * facts.samples / 1e3
        return f"a copy takes {size:.0f} MB of {free:.0f} MB free" if size > free * _SHARE else None

    def predict(self, context: TrainingContext) -> Prediction:
        """Bounded by the time that is neither decoding nor transforming."""
        facts = context.profile.facts
        work = LoadWork.of(context.profile, context.config.loader.workers)
        bound = max(1.0, context.profile.loading_bound)
        gain = 1.0 + 0.5 * (work.read + work.handover) / max(work.total + work.handover, 1e-9)
        cost_s = facts.file_kb * facts.samples / 1e3 / _COPY_MB_S
        return Prediction(min(gain, bound), bound, "files are opened once", cost_s=cost_s)

    def apply(self, context: TrainingContext) -> TrainingConfig:
        """Turn it on."""
        return context.config.with_loader(shards=True, store=str(context.folder))
