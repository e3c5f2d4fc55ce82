"""Decode masks within their boxes only, instead of for the whole frame."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from saccade.optimize.change import Effect, OneVariant, PlanContext, Prediction, by_stage
from saccade.pipeline.config import PipelineConfig

# Of postprocessing, where the profile does not say how much of it are masks.
UNKNOWN_SHARE = 0.7
# Of decoding masks, what is left: boxes cover a small part of the frame.
FACTOR, BEST_CASE = 0.1, 0.01


@dataclass(frozen=True)
class CroppedMasks(OneVariant):
    """The same masks from less arithmetic; they differ only in pixels whose logit rounds to zero.

    See `saccade.tasks.mask_decode`.
    """

    name: ClassVar[str] = "cropped_masks"
    effect: ClassVar[Effect] = "exact"

    def applies(self, context: PlanContext) -> str | None:
        """Instead of whole masks only."""
        if context.config.task != "instance_segmentation":
            return f"{context.config.task} decodes no masks of objects"
        return "already in use" if context.config.masks == "cropped" else None

    def predict(self, context: PlanContext) -> Prediction:
        """By the measured share of masks in postprocessing."""
        known = context.profile.masks_share
        share = UNKNOWN_SHARE if known is None else known
        basis = f"masks are {share:.0%} of postprocessing{', a prior' if known is None else ''}"
        return by_stage(
            context,
            {"postprocess": 1 - share * (1 - FACTOR)},
            basis,
            {"postprocess": 1 - share * (1 - BEST_CASE)},
        )

    def apply(self, context: PlanContext) -> PipelineConfig:
        """Change the postprocessing."""
        return replace(context.config, masks="cropped")
