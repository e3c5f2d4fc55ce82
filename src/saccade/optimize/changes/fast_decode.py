"""Decode with FFmpeg directly and scale before converting colours."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from saccade.data.video import is_live, probe_video
from saccade.optimize.change import Effect, OneVariant, PlanContext, Prediction, by_stage
from saccade.pipeline.config import PipelineConfig

# OpenCV converts each full-size frame to BGR inside its read(): about a third of it at 1080p.
DECODE_FACTOR, DECODE_BOUND = 0.8, 0.5
# Scaling three quarter-size planes instead of interleaved full-size pixels.
SCALE_FACTOR, SCALE_BOUND = 0.7, 0.2


@dataclass(frozen=True)
class FastDecode(OneVariant):
    """PyAV frames stay YUV; planes are scaled one by one and converted when small."""

    name: ClassVar[str] = "fast_decode"
    effect: ClassVar[Effect] = "near_lossless"

    threads: int | None = None

    @property
    def label(self) -> str:
        """Name."""
        return "fast_decode: YUV planes"

    def applies(self, context: PlanContext) -> str | None:
        """Only for video; and NumPy preprocessing asks for full-size RGB, which defeats it."""
        if not context.video:
            return "the source is images, not video"
        if context.config.reader == "pyav" and context.config.resize == "planes":
            return "already in use"
        if context.config.preprocessor not in ("fused", "graph"):
            return "needs a preprocessing that scales frames itself (fused or graph)"
        if not is_live(context.source) and probe_video(context.source).rotation_deg:
            return "the video's metadata rotates it, which OpenCV honours and PyAV does not"
        return None

    def predict(self, context: PlanContext) -> Prediction:
        """Less to convert and less to scale."""
        return by_stage(
            context,
            {"decode": DECODE_FACTOR, "preprocess": SCALE_FACTOR},
            "prior: colour conversion on small frames",
            {"decode": DECODE_BOUND, "preprocess": SCALE_BOUND},
        )

    def apply(self, context: PlanContext) -> PipelineConfig:
        """Change reader and scaling."""
        threads = 1 if context.config.execution == "overlapped" else self.threads
        return replace(context.config, reader="pyav", resize="planes", decode_threads=threads)
