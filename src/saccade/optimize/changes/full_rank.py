"""Give per-channel constants the rank of what they meet, which OpenVINO's fast layout asks for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from saccade.errors import ModelError
from saccade.optimize.change import Effect, OneVariant, PlanContext, Prediction, by_stage
from saccade.pipeline.config import PipelineConfig

METHOD = "full_rank 1"
# Of inference: the reorders around such operators took a sixth of ESPNet's.
FACTOR, BEST_CASE = 0.9, 0.6
# Writing and checking the file.
COST_S = 1.0


@dataclass(frozen=True)
class FullRankConstants(OneVariant):
    """The same numbers with their axes written out, so that channels may stay last."""

    name: ClassVar[str] = "full_rank"
    effect: ClassVar[Effect] = "exact"

    @property
    def label(self) -> str:
        """Name."""
        return "full_rank: per-channel constants as (1, C, 1, 1)"

    def applies(self, context: PlanContext) -> str | None:
        """Needs an ONNX model with such constants, and the one runtime that minds them."""
        config = context.config
        if config.model.format != "onnx":
            return f"the model is in {config.model.format} format, and this starts from ONNX"
        if config.runtime != "openvino":
            return f"{config.runtime} does not choose its layout by that"
        count = _low_rank(config.model.path, config.model.sha256)
        return None if count else "all per-channel constants have their full rank"

    def predict(self, context: PlanContext) -> Prediction:
        """Fewer reorders between layouts."""
        found = by_stage(context, {"infer": FACTOR}, "prior: reorders", {"infer": BEST_CASE})
        return replace(found, cost_s=COST_S)

    def apply(self, context: PlanContext) -> PipelineConfig:
        """Write the model with its axes, compared with the one without."""
        from saccade.models.full_rank import with_full_rank
        from saccade.optimize.rewriting import rewritten

        config = context.config
        model = rewritten(config, context.folder, METHOD, with_full_rank, _same_values)
        # The outputs are those of the program still, so changes of weights may begin there.
        return replace(config, model=replace(model, program=config.model.program))


@lru_cache(maxsize=16)
def _low_rank(path: str, sha256: str) -> int:
    from saccade.models.full_rank import count_low_rank
    from saccade.models.onnx_file import read_onnx

    try:
        return count_low_rank(read_onnx(path))
    except ModelError:
        return 0


def _same_values(before: list[NDArray[Any]], after: list[NDArray[Any]]) -> None:
    if not all(np.array_equal(a, b) for a, b in zip(before, after, strict=True)):
        raise ModelError(
            "With its constants at full rank the model gives other values; it is left as it is."
        )
