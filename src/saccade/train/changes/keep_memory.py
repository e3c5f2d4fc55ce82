"""Memory of freed tensors stays in the process, where large ones were mapped anew every step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from saccade.pipeline.allocator import has_mallopt
from saccade.train.change import Effect, OneVariant, Part, Prediction, TrainingContext
from saccade.train.config import TrainingConfig
from saccade.train.faults import faulting_s
from saccade.train.memory import peak_mb, shrinking
from saccade.train.predicting import expected_gain, fault_share, predicted

# Below this share of a step no race could tell.
LEAST = 0.01
# Of the peak, what is held back in pieces that are too small; a guess: a small net's was 0.006.
HELD = 0.05


@dataclass(frozen=True)
class KeepMemory(OneVariant):
    """The C library keeps what was freed instead of giving it back to the kernel."""

    name: ClassVar[str] = "keep_memory"
    part: ClassVar[Part] = "compute"

    @property
    def effect(self) -> Effect:
        """The same operations on memory at other addresses."""
        return "exact"

    def applies(self, context: TrainingContext) -> str | None:
        """Where tensors are the C library's and steps fault for them."""
        settings = context.config.compute
        if settings.device.startswith("cuda"):
            return "PyTorch keeps a GPU's memory by itself"
        if settings.allocator == "kept":
            return "already kept"
        if not has_mallopt():
            return "the C library of this system cannot be told (no mallopt)"
        if fault_share(context.profile) < LEAST:
            return "steps hardly fault: tensors are small enough to be kept already"
        return None

    def predict(self, context: TrainingContext) -> Prediction:
        """By the kernel's time in the profile's steps on a cached batch."""
        basis = f"{faulting_s(context.profile.synthetic):.2f} CPU s of page faults in a step"
        gain = expected_gain(context, self.apply(context).compute)
        shrinks = shrinking(context, -HELD * peak_mb(context))
        return predicted(context, gain, basis, shrinks=shrinks)

    def apply(self, context: TrainingContext) -> TrainingConfig:
        """Set the allocator."""
        return context.config.with_compute(allocator="kept")
