"""One reader: every frame is decoded once, and both pipelines look at it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from saccade.optimize.change import Effect, Prediction
from saccade.optimize.sharing.contract import SharingContext
from saccade.optimize.sharing.cost import SystemCost
from saccade.pipeline.config import PipelineConfig
from saccade.pipeline.system import READING, SystemConfig

# Threads that wait for one another, as where stages overlap.
EFFICIENCY = 0.97


@dataclass(frozen=True)
class ShareDecode:
    """One reader, with the settings of one of the pipelines.

    Attributes:
        reads_as: whose settings, 0 or 1.
        task: its task, for people.
        alike: whether both read alike anyway, so that no pixel changes.
    """

    name: ClassVar[str] = "share_decode"

    reads_as: int
    task: str
    alike: bool

    @property
    def effect(self) -> Effect:
        """Another reader rounds in another way."""
        return "exact" if self.alike else "near_lossless"

    @classmethod
    def variants(cls, context: SharingContext) -> Iterable[Self]:
        """The reader of each, where they differ."""
        first, second = context.config.parts
        alike = reading(first) == reading(second)
        for part in range(1 if alike else 2):
            yield cls(part, context.tasks[part], alike)

    @property
    def label(self) -> str:
        """Name and whose reader."""
        return self.name if self.alike else f"{self.name}: read as {self.task} does"

    def applies(self, context: SharingContext) -> str | None:
        """Every frame must be looked at once, in one size."""
        if context.config.sharing.decode:
            return "already in use"
        for part in context.config.parts:
            if part.dynamic_resolution is not None:
                return f"{part.task} looks at some frames twice"
        return None

    def cost(self, context: SharingContext) -> SystemCost:
        """The other's decoding is gone."""
        return replace(context.cost, joined=True).scaled(1 - self.reads_as, "decode", 0.0)

    def predict(self, context: SharingContext) -> Prediction:
        """By the profiled cost of decoding."""
        ideal = context.gain(self.cost(context))
        saved = context.cost.parts[1 - self.reads_as].stages["decode"].wall_ms
        return Prediction(
            max(1.0, ideal * EFFICIENCY) if ideal > 1 else ideal,
            ideal / EFFICIENCY,
            f"one decode less, {saved:.2f} ms per frame",
        )

    def apply(self, context: SharingContext) -> SystemConfig:
        """Both read as one of them does."""
        chosen = reading(context.config.parts[self.reads_as])
        first, second = (replace(part, **chosen) for part in context.config.parts)  # type: ignore[arg-type]
        return SystemConfig((first, second), replace(context.config.sharing, decode=True))


def decoded_once(context: SharingContext) -> SharingContext:
    """The context with frames decoded once, as the first pipeline reads where that is not settled.

    What builds on it can so be tried where decoding once did not pay by itself.
    """
    if context.config.sharing.decode:
        return context
    change = next(iter(ShareDecode.variants(context)))
    return replace(context, config=change.apply(context), cost=change.cost(context))


def why_not_once(context: SharingContext) -> str | None:
    """None where frames are or can be decoded once."""
    if context.config.sharing.decode:
        return None
    return next(iter(ShareDecode.variants(context))).applies(context)


def reading(config: PipelineConfig) -> dict[str, object]:
    """The settings that decide how frames are read."""
    return {name: getattr(config, name) for name in READING}
