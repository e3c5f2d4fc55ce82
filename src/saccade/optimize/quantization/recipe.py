"""`Recipe`: everything that decides how a model is quantized. A value, and part of a cache key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Estimator = Literal["mean_min_max", "min_max", "percentile", "mse", "entropy"]
Sensitive = Literal["none", "skip", "mixed"]

CALIBRATION_IMAGES, MORE_IMAGES = 64, 192
# Layers with weights before an output that stay float. Boxes in pixels and scores below 1 share the
# output tensor of a whole detector, so quantizing that ruins one of them; a head is three deep in
# the YOLO family: box and class branches of three convolutions.
OUTPUT_FLOAT, HEAD_FLOAT = 1, 3
_DEPTH = {0: "", OUTPUT_FLOAT: "float output layers", HEAD_FLOAT: "float head"}
_ESTIMATORS = {"mse": "least-squares ranges", "mean_min_max": "mean min-max ranges"}
_SENSITIVE = {
    "none": "",
    "skip": "float most sensitive layers",
    "mixed": "mixed precision",
}


@dataclass(frozen=True)
class Recipe:
    """How to quantize. Weights are int8 per output channel, activations 8 bits per tensor.

    Attributes:
        estimator: how ranges of activations are told from samples; the quantizer's own default
            where empty.
        bias_correction: undo what rounding does to the mean of every channel.
        equalized: even out the ranges of channels between layers before.
        float_depth: layers with weights before an output that stay float, with all that follows.
        sensitive: what happens to the layers that int8 disturbs most, by measurement: nothing, the
            worst few stay float, or as many as hold nearly all of the error.
        paying: layers that int8 makes no faster, by measurement, stay float.
        images: at most so many images calibrate.
        trained: the weights are trained with rounding in place.
        transformer: the model is mostly attention, whose softmaxes and norms stay float.
        halved: weights take half of their 8 bits' range, so that sums of two products with 8-bit
            activations fit into 16 bits (`saccade.optimize.quantization.overflow`).
    """

    estimator: Estimator | Literal[""] = ""
    bias_correction: bool = False
    equalized: bool = False
    float_depth: int = 0
    sensitive: Sensitive = "none"
    paying: bool = False
    images: int = CALIBRATION_IMAGES
    trained: bool = False
    transformer: bool = False
    halved: bool = False

    @property
    def whole(self) -> Recipe:
        """The first setting of the same model: every layer in int8 that can be."""
        return Recipe(
            float_depth=self.float_depth, transformer=self.transformer, halved=self.halved
        )

    @property
    def label(self) -> str:
        """What is special about it, for people."""
        said = [
            "equalized" if self.equalized else "",
            "bias correction" if self.bias_correction else "",
            _ESTIMATORS.get(self.estimator, f"{self.estimator} ranges".replace("_", "-"))
            if self.estimator
            else "",
            f"{self.images} images" if self.images != CALIBRATION_IMAGES else "",
            _DEPTH.get(self.float_depth, f"float last {self.float_depth}"),
            "where it pays" if self.paying else "",
            _SENSITIVE[self.sensitive],
            "trained with rounding" if self.trained else "",
            "7-bit weights" if self.halved else "",
        ]
        return ", ".join(filter(None, said)) or "plain"
