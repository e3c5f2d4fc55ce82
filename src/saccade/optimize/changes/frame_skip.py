"""Look at every second, third or fourth frame and let the tracker predict those between."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from saccade.optimize.change import Effect, Ordinary, PlanContext, Prediction, by_stage
from saccade.pipeline.config import PipelineConfig

STEPS = (2, 3, 4)
# Of postprocessing, what moving the tracks on costs in a frame that the model does not see.
PREDICT_SHARE = 0.2
# Every second frame is often enough for people at 25 frames per second; each step more loses
# identities where paths cross.
ODDS = {2: 0.3, 3: 0.1, 4: 0.05}


@dataclass(frozen=True)
class SkipFrames(Ordinary):
    """Detect in every ``every``-th frame only; only labels, or agreement, can allow it.

    The frames between are decoded but neither preprocessed nor inferred. Their objects are moved
    on by the tracker's motion model, so their results need nothing from later frames and no frame
    waits for another.
    """

    name: ClassVar[str] = "frame_skip"
    effect: ClassVar[Effect] = "lossy"

    every: int

    @classmethod
    def variants(cls, context: PlanContext) -> Iterable[Self]:
        """A few steps."""
        return [cls(every) for every in STEPS]

    @property
    def label(self) -> str:
        """Name and step."""
        return f"frame_skip: 1 in {self.every}"

    def applies(self, context: PlanContext) -> str | None:
        """Needs a tracker and frames in a row, and frames that are still looked at."""
        config = context.config
        if config.tracker is None:
            return "objects are not tracked, so nothing could fill in"
        if self.every <= config.detect_every:
            return f"1 frame in {config.detect_every} is looked at already"
        if context.objective == "latency":
            return "the frames that are looked at would take as long as before"
        return None

    def predict(self, context: PlanContext) -> Prediction:
        """Preprocessing and inference happen for fewer frames; decoding for all."""
        share = context.config.detect_every / self.every
        passed = share + (1 - share) * PREDICT_SHARE
        expected = {"infer": share, "preprocess": share, "postprocess": passed}
        ideal = {"infer": share, "preprocess": share, "postprocess": share}
        basis = f"{share:.0%} of the frames that are looked at now"
        return replace(by_stage(context, expected, basis, ideal), odds=ODDS[self.every])

    def apply(self, context: PlanContext) -> PipelineConfig:
        """Change the step."""
        return replace(context.config, detect_every=self.every)
