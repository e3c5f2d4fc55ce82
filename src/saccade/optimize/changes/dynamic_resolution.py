"""Look at each frame small first, and at full size only where that leaves a doubt."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from saccade.data.video import is_live
from saccade.optimize.change import Effect, PlanContext, Prediction, StepByStep, Tried, by_stage
from saccade.optimize.changes.resolution import input_area
from saccade.pipeline.config import PipelineConfig

if TYPE_CHECKING:
    from saccade.optimize.policy import Lesson

# Share of the full size; the coarser one gains more and leaves more doubts.
SHARES = (0.5, 0.7)
# Fewer images than that teach no limits.
LEAST_IMAGES = 16
# Share of frames with a doubt: a prior, and what it may be at best. YOLO11n's policies for half the
# size looked twice at 0.55 to 0.84 of COCO images and at 0.49 to 0.98 of the frames of two videos.
DOUBTS, BEST_DOUBTS = 0.65, 0.05
# Both sizes over the calibration images, then the choice.
COST_S = 15.0
ODDS = 0.15


@dataclass(frozen=True)
class LookTwice(StepByStep):
    """A dynamic resolution whose policy is learnt on the calibration images.

    The policy is a pair of limits on the scores of the small look, see
    `saccade.optimize.policy`. Learnt on labelled images it decides by the frame alone, so what
    they say of it holds for a video too. Learnt on frames of a video it also knows when nothing
    has moved; such frames are judged in their order.

    Attributes:
        share: the small look's size as a share of the full one.
    """

    name: ClassVar[str] = "dynamic_resolution"
    effect: ClassVar[Effect] = "lossy"

    share: float

    @classmethod
    def variants(cls, context: PlanContext) -> Iterable[Self]:
        """The coarsest; the search climbs to a finer one where accuracy asks for it."""
        return [cls(SHARES[0])]

    def next_rung(self, tried: Sequence[Tried], context: PlanContext) -> LookTwice | None:
        """A finer small look, where the coarse one cost too much."""
        finer = [share for share in SHARES if share > self.share]
        return LookTwice(finer[0]) if finer else None

    @property
    def label(self) -> str:
        """Name and share."""
        return f"dynamic_resolution: {self.share:.0%} first"

    def applies(self, context: PlanContext) -> str | None:
        """Needs scores to doubt, a model that takes both sizes, and frames to learn from."""
        config = context.config
        if config.tracker is not None:
            return "a tracker needs the boxes of every frame alike, and its policy chooses by frame"
        if config.task != "detection":
            return f"its policy is learnt from the boxes of a detector, and this is {config.task}"
        if config.dynamic_resolution is not None:
            return "already in use"
        small = self._small(config)
        if small >= config.input_size:
            return "the input is too small for a smaller one"
        frames = len(context.calibration) if context.calibration else 0
        if not frames and (not context.video or is_live(context.source)):
            return "there are no frames to learn its policy from"
        if 0 < frames < LEAST_IMAGES:
            return f"{frames} calibration images are too few to learn its policy from"
        if config.dynamic:
            return None
        if config.model.format != "onnx":
            return f"the shape of a model in {config.model.format} format is fixed"
        from saccade.models.onnx_model import read_onnx
        from saccade.models.reshape import can_reshape

        return can_reshape(read_onnx(config.model.path), input_area(self._look(config)))

    def predict(self, context: PlanContext) -> Prediction:
        """Every frame costs a small look, and those in doubt a full one beside it."""
        ratio = self._pixels(context)
        found = by_stage(
            context,
            {"infer": ratio + DOUBTS, "preprocess": min(1.0, ratio + DOUBTS)},
            f"small looks cost {ratio:.2f} of full ones; prior: {DOUBTS:.0%} are in doubt",
            {"infer": ratio + BEST_DOUBTS, "preprocess": ratio + BEST_DOUBTS},
        )
        return replace(found, cost_s=COST_S, odds=ODDS)

    def apply(self, context: PlanContext) -> PipelineConfig:
        """Learn the policy and use it."""
        return replace(context.config, dynamic_resolution=self._lesson(context).policy)

    def details(self, context: PlanContext) -> dict[str, Any]:
        """What was learnt."""
        return {"lesson": asdict(self._lesson(context)), "pays_below": self._pays_below(context)}

    def remark(self, context: PlanContext) -> str:
        """The policy, what it did where it was learnt, and from where on it cannot pay."""
        lesson = self._lesson(context)
        policy = lesson.policy
        frames = "calibration images" if context.calibration else "frames of the video"
        still = (
            f", unless no part of the picture changed by more than {policy.still_up_to:.0%} of "
            "full brightness since the last such look"
            if policy.still_up_to
            else ""
        )
        return (
            f"its policy: {policy.small_size} px first, and {context.config.input_size} px where a "
            f"box scores between {policy.doubt_above:g} and {policy.sure_from:g}{still}; learnt on "
            f"{lesson.images} {frames}, of which it looks at {lesson.second_looks:.0%} twice and "
            f"loses {lesson.drop:.3f}; a small look costs {1 - self._pays_below(context):.0%} of "
            f"the pixels, so it can only save where fewer than {self._pays_below(context):.0%} of "
            "the frames need two"
        )

    def _pays_below(self, context: PlanContext) -> float:
        """Share of second looks at which both looks come to as many pixels as full ones alone."""
        return 1 - self._pixels(context)

    def _pixels(self, context: PlanContext) -> float:
        """Pixels of a small look as a share of those of a full one."""
        height, width = input_area(self._look(context.config))
        full = input_area(context.config)
        return height * width / (full[0] * full[1])

    def _lesson(self, context: PlanContext) -> Lesson:
        """What is learnt here; one that was learnt before is read."""
        from saccade.optimize.policy import learn

        return learn(context, self._small(context.config))

    def _small(self, config: PipelineConfig) -> int:
        stride = config.description.stride
        return max(stride, round(config.input_size * self.share / stride) * stride)

    def _look(self, config: PipelineConfig) -> PipelineConfig:
        return replace(config, input_size=self._small(config))
