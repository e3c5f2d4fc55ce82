"""Choose the best class per pixel in the model's graph: class ids come out instead of planes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from saccade.errors import ModelError
from saccade.optimize.change import Effect, OneVariant, PlanContext, Prediction, by_stage
from saccade.pipeline.config import PipelineConfig

METHOD = "argmax 1"
# What the graph has to do more, in the hope that it need not write the planes out; measured on
# CPUs it may cost more than `running_argmax`, so the trial decides.
INFER, POSTPROCESS, BEST_CASE = 1.0, 0.3, 0.05
# Writing and checking the file. A change that costs something is tried on its own: together with
# others its loss could hide behind their gain.
COST_S = 1.0


@dataclass(frozen=True)
class ArgmaxInGraph(OneVariant):
    """A byte per pixel leaves the runtime instead of a float per pixel and class."""

    name: ClassVar[str] = "graph_argmax"
    effect: ClassVar[Effect] = "exact"

    @property
    def label(self) -> str:
        """Name."""
        return "graph_argmax: class ids from the graph"

    def applies(self, context: PlanContext) -> str | None:
        """Needs an ONNX model with one output of planes."""
        config = context.config
        if config.description.decode != "planes":
            return "the model gives no planes of scores per class"
        if config.model.format != "onnx":
            return f"the model is in {config.model.format} format, and this starts from ONNX"
        return _why_not(config.model.path, config.model.sha256)

    def predict(self, context: PlanContext) -> Prediction:
        """Postprocessing is left with bringing ids to the frame's size."""
        found = by_stage(
            context,
            {"infer": INFER, "postprocess": POSTPROCESS},
            "prior; the graph's own choice of the class is paid for in inference",
            {"postprocess": BEST_CASE},
        )
        return replace(found, cost_s=COST_S)

    def apply(self, context: PlanContext) -> PipelineConfig:
        """Write the longer model, compared with the shorter one, and take its ids."""
        from saccade.models.graph_argmax import argmax_description, with_argmax
        from saccade.optimize.rewriting import rewritten

        config = context.config
        classes = len(config.description.class_names)
        model = rewritten(
            config, context.folder, METHOD, lambda m: with_argmax(m, classes), _same_ids
        )
        return replace(config, model=model, description=argmax_description(config.description))


@lru_cache(maxsize=16)
def _why_not(path: str, sha256: str) -> str | None:
    from saccade.models.graph_argmax import why_not_argmax
    from saccade.models.onnx_file import read_onnx

    try:
        return why_not_argmax(read_onnx(path, weights=False))
    except ModelError as error:
        return str(error)


def _same_ids(planes: list[NDArray[Any]], ids: list[NDArray[Any]]) -> None:
    """Every pixel must get the class that NumPy chooses."""
    different = int(np.count_nonzero(np.argmax(planes[0], axis=1) != ids[0]))
    if different:
        raise ModelError(
            f"With the class chosen in its graph the model gives {different} of {ids[0].size} "
            "pixels another class; the model is left as it is."
        )
