"""See what a detector's outputs hold, by running it once on each of a few test patterns.

Shapes alone do not tell pixels from shares, probabilities from logits, or a corner from a centre.
Nothing here is accuracy: the patterns show no objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from saccade.errors import ModelError
from saccade.models import graph_reading as graph
from saccade.models.description import InputSpec
from saccade.models.onnx_run import run_once


@dataclass(frozen=True, eq=False)
class SeenOutput:
    """One output of a model.

    Attributes:
        name: tensor name.
        index: position among the outputs.
        values: what it held for each pattern; where the model could not be run, one array of
            zeros of the declared shape.
        observed: the values are real.
    """

    name: str
    index: int
    values: tuple[NDArray[Any], ...]
    observed: bool = True

    @property
    def whole(self) -> bool:
        """Whether its type is an integer."""
        return np.issubdtype(self.values[0].dtype, np.integer)

    @property
    def rank(self) -> int:
        """Number of axes."""
        return self.values[0].ndim

    @property
    def last(self) -> int:
        """Length of the last axis; 0 of a scalar, and where it differs from run to run."""
        lengths = {value.shape[-1] if value.ndim else 0 for value in self.values}
        return lengths.pop() if len(lengths) == 1 else 0

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of values, for each pattern."""
        return tuple(value.size for value in self.values)

    def rows(self) -> NDArray[np.float64]:
        """All values of all patterns, without rows that are not finite.

        ``(rows, last)``, or one column where the last axis has no fixed length.
        """
        flat = [value.reshape(-1, max(1, self.last)).astype(np.float64) for value in self.values]
        joined = np.concatenate(flat)
        return joined[np.isfinite(joined).all(axis=1)]


def observe(model: onnx.ModelProto, spec: InputSpec, hw: tuple[int, int]) -> list[SeenOutput]:
    """Run the model on test patterns of size ``hw``; by its declared shapes where that fails.

    Args:
        model: with its weights. Not changed.
        spec: its image input.
        hw: height and width of the patterns, pixels.
    """
    sizes = {"N": spec.shape[0] or 1, "C": 3, "H": hw[0], "W": hw[1]}
    shape = [sizes[axis] for axis in spec.layout]
    fixed = graph.with_input_shape(model, spec.name, shape)
    high = 255.0 if spec.dtype == "uint8" or graph.scaled_in_graph(model, spec.name) else 1.0
    try:
        runs = [
            run_once(fixed, {spec.name: _as_input(pattern * high, spec)})
            for pattern in _patterns(hw)
        ]
    except ModelError:
        return _declared(model, fixed)
    return [
        SeenOutput(value.name, index, tuple(run[index] for run in runs))
        for index, value in enumerate(model.graph.output)
    ]


def _patterns(hw: tuple[int, int]) -> list[NDArray[np.float32]]:
    """Grey, noise, and coarse blobs, each ``(H, W, 3)`` from 0 to 1."""
    random = np.random.default_rng(0)
    coarse = random.random((9, 9, 3), np.float32)
    rows, columns = (np.arange(side) * 9 // side for side in hw)
    return [
        np.full((*hw, 3), 0.45, np.float32),
        random.random((*hw, 3), np.float32),
        coarse[np.ix_(rows, columns)],
    ]


def _as_input(pattern: NDArray[np.float32], spec: InputSpec) -> NDArray[Any]:
    image = pattern[None] if spec.layout == "NHWC" else pattern.transpose(2, 0, 1)[None]
    batch = np.repeat(image, spec.shape[0] or 1, axis=0)
    return np.ascontiguousarray(batch.astype(spec.dtype))


def _declared(model: onnx.ModelProto, fixed: onnx.ModelProto) -> list[SeenOutput]:
    inferred = graph.inferred_shapes(fixed)
    seen = []
    for index, value in enumerate(model.graph.output):
        shape = inferred.get(value.name) or graph.dims(value)
        zeros = np.zeros([size or 1 for size in shape], graph.dtype_name(value))
        seen.append(SeenOutput(value.name, index, (zeros,), observed=False))
    return seen
