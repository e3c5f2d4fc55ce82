"""Put another model in the model's place: one of the candidates that the user names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar, Self

from saccade.errors import ModelError
from saccade.optimize.change import (
    Effect,
    ModelCandidate,
    Ordinary,
    PlanContext,
    Prediction,
    by_stage,
)
from saccade.optimize.changes.resolution import input_area
from saccade.pipeline.config import ModelFile, PipelineConfig
from saccade.pipeline.geometry import letterbox

# Fewer operations promise less time than their share: small layers keep cores less busy.
FLOPS_POWER, BEST_POWER = 0.7, 1.3
# Users name candidates to see them tried, whatever the operations say.
LEAST_GAIN, UNKNOWN_BOUND = 1.02, 3.0
ODDS = 0.5


@dataclass(frozen=True)
class ModelSwap(Ordinary):
    """Another model of the same task and classes, run as the pipeline runs by now.

    It is raced in the pipeline that the model has reached, so that both have the same runtime
    and stages, and judged by the goals' bound against the user's own baseline. A candidate that
    turned out slower is judged all the same: the front of accuracy against speed is measured.

    Attributes:
        candidate: name of the candidate.
        sha256: of its file.
    """

    name: ClassVar[str] = "model_swap"
    effect: ClassVar[Effect] = "lossy"
    # Judged for accuracy also where it is not faster, see `saccade.optimize.verdicts`.
    always_judged: ClassVar[bool] = True

    candidate: str
    sha256: str

    @classmethod
    def variants(cls, context: PlanContext) -> Iterable[Self]:
        """Every candidate."""
        return [cls(c.name, c.config.model.sha256) for c in context.candidates]

    @property
    def label(self) -> str:
        """Name and candidate."""
        return f"model_swap: {self.candidate}"

    def applies(self, context: PlanContext) -> str | None:
        """Not where it is in use already."""
        return "already in use" if context.config.model.sha256 == self.sha256 else None

    def predict(self, context: PlanContext) -> Prediction:
        """By the operations that the graphs of both ask for."""
        now, then = _operations(context.config), _operations(self.apply(context))
        if not now or not then:
            return Prediction(LEAST_GAIN, UNKNOWN_BOUND, "named by the user", odds=ODDS)
        ratio = then / now
        found = by_stage(
            context,
            {"infer": ratio**FLOPS_POWER},
            f"operations: {then / 1e9:.1f} of {now / 1e9:.1f} GFLOPs",
            {"infer": min(ratio**FLOPS_POWER, ratio**BEST_POWER)},
        )
        gain = max(LEAST_GAIN, found.gain)
        return replace(found, gain=gain, bound=max(gain, found.bound), odds=ODDS)

    def apply(self, context: PlanContext) -> PipelineConfig:
        """The candidate in the pipeline as it is; what was made of the old model is left behind."""
        now, new = context.config, self._of(context).config
        if new.model.format not in context.runtimes[now.runtime].formats:
            now = replace(now, runtime=new.runtime, options=new.options)
        options = now.options
        if now.model.format != "onnx":
            # A converted model may have run in fp32 for its own reasons.
            offered = context.runtimes[now.runtime].precisions
            precision = "bf16" if "bf16" in offered else "fp32"
            options = replace(options, precision=precision)  # type: ignore[arg-type]
        swapped = replace(
            now,
            model=new.model,
            description=new.description,
            input_size=new.input_size,
            squeeze=new.squeeze,
            # Learnt on the old model's scores.
            dynamic_resolution=None,
            iou_threshold=new.iou_threshold,
            options=options,
        )
        if takes_shape(swapped, context.frame_hw):
            return swapped
        return replace(swapped, shape="square", margin=0)

    def _of(self, context: PlanContext) -> ModelCandidate:
        return next(c for c in context.candidates if c.config.model.sha256 == self.sha256)


def takes_shape(config: PipelineConfig, frame_hw: tuple[int, int]) -> bool:
    """Whether the model runs at the rectangle that the pipeline would feed it."""
    described = config.description
    if config.shape == "square" or config.dynamic or described.preprocessing.fit != "letterbox":
        return True
    from saccade.models.onnx_model import read_onnx
    from saccade.models.reshape import can_reshape

    target = letterbox(
        frame_hw,
        config.input_size,
        described.stride,
        config.shape,
        described.preprocessing.anchor,
        config.margin,
    ).input_hw
    return can_reshape(read_onnx(config.model.path), target) is None


def _operations(config: PipelineConfig) -> float:
    """Floating-point operations of one inference; 0 where they cannot be told."""
    return model_flops(config.model, input_area(config))


def model_flops(model: ModelFile, hw: tuple[int, int]) -> float:
    """Floating-point operations of one inference at an input of ``hw``; 0 where unknown."""
    return _flops(model.path, model.sha256, hw) if model.format == "onnx" else 0.0


@lru_cache(maxsize=16)
def _flops(path: str, sha256: str, hw: tuple[int, int]) -> float:
    from saccade.models.onnx_file import read_onnx
    from saccade.profile.flops import operator_work

    try:
        return sum(work.flops for work in operator_work(read_onnx(path), hw).values())
    except ModelError:
        return 0.0
