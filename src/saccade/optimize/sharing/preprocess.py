"""Scale a frame once; each model's normalization starts from the same pixels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from saccade.optimize.change import Effect, Prediction
from saccade.optimize.sharing.contract import SharingContext
from saccade.optimize.sharing.cost import SystemCost
from saccade.optimize.sharing.decode import decoded_once, why_not_once
from saccade.optimize.sharing.geometry import (
    as_seen_by,
    pixels_of_input,
    why_not_as_seen_by,
    why_other_geometry,
)
from saccade.pipeline.config import PipelineConfig
from saccade.pipeline.system import SystemConfig

# Of a preprocessing, what is left where only the scaling is shared.
NORMALIZING = 0.5
# A prior: a model that was trained on another size or aspect rarely keeps its accuracy.
ODDS_ELSEWHERE = 0.2


@dataclass(frozen=True)
class SharePreprocess:
    """One scaled frame for both.

    Attributes:
        moved: the pipeline that is given the geometry of the other, None where both have the same.
        task: its task, for people; empty likewise.
    """

    name: ClassVar[str] = "share_preprocess"

    moved: int | None = None
    task: str = ""

    @property
    def effect(self) -> Effect:
        """Nothing, but where a model is fed frames in another geometry than its own."""
        return "exact" if self.moved is None else "lossy"

    @classmethod
    def variants(cls, context: SharingContext) -> Iterable[Self]:
        """One where both see frames alike, else each may follow the other."""
        if why_other_geometry(context.config.parts, context.plans[0].frame_hw) is None:
            return [cls()]
        return [cls(part, context.tasks[part]) for part in (1, 0)]

    @property
    def label(self) -> str:
        """Name and who moves."""
        return f"{self.name}: {self.task} sees frames as the other" if self.task else self.name

    def applies(self, context: SharingContext) -> str | None:
        """Frames must be decoded once, and lie in both inputs alike."""
        sharing = context.config.sharing
        if sharing.preprocess or sharing.one_pass:
            return "already in use"
        reason = why_not_once(context)
        if reason is not None:
            return reason
        if self.moved is not None:
            parts = context.config.parts
            reason = why_not_as_seen_by(parts[self.moved], parts[1 - self.moved])
        if reason is not None:
            return reason
        return why_other_geometry(self._parts(context), context.plans[0].frame_hw)

    def _parts(self, context: SharingContext) -> tuple[PipelineConfig, PipelineConfig]:
        parts = list(decoded_once(context).config.parts)
        if self.moved is not None:
            parts[self.moved] = as_seen_by(parts[self.moved], parts[1 - self.moved])
        return scaled_first(parts[0]), scaled_first(parts[1])

    def cost(self, context: SharingContext) -> SystemCost:
        """What is left of the second preprocessing, and a moved model's other input."""
        return self._moved(context).scaled(self._served, "preprocess", self._left(context))

    @property
    def _served(self) -> int:
        """Whose preprocessing is saved."""
        return 1 if self.moved is None else self.moved

    def _moved(self, context: SharingContext) -> SystemCost:
        cost = decoded_once(context).cost
        if self.moved is None:
            return cost
        hw = context.plans[0].frame_hw
        before = pixels_of_input(context.config.parts[self.moved], hw)
        after = pixels_of_input(self._parts(context)[self.moved], hw)
        return cost.scaled(self.moved, "infer", after / before)

    def _left(self, context: SharingContext) -> float:
        first, second = self._parts(context)
        alike = first.description.preprocessing == second.description.preprocessing
        same_graph = (first.preprocessor == "graph") == (second.preprocessor == "graph")
        return 0.0 if alike and same_graph else NORMALIZING

    def predict(self, context: SharingContext) -> Prediction:
        """By the profiled cost of preprocessing."""
        gone = self._moved(context).scaled(self._served, "preprocess", 0.0)
        kind = "all" if self._left(context) == 0 else "the scaling"
        saved = context.cost.parts[self._served].stages["preprocess"].wall_ms
        return Prediction(
            context.gain(self.cost(context)),
            context.gain(gone),
            f"{kind} of a preprocessing of {saved:.2f} ms is shared",
            odds=1.0 if self.moved is None else ODDS_ELSEWHERE,
        )

    def apply(self, context: SharingContext) -> SystemConfig:
        """Preprocess both from the same scaled frame."""
        sharing = replace(context.config.sharing, decode=True, preprocess=True)
        return SystemConfig(self._parts(context), sharing)


def scaled_first(config: PipelineConfig) -> PipelineConfig:
    """The configuration with a preprocessor that scales first and normalizes then."""
    return replace(config, preprocessor="fused") if config.preprocessor == "numpy" else config
