"""NNCF's post-training quantization of ONNX graphs, for ONNX Runtime.

Another recipe than ONNX Runtime's own: ranges are averaged over images, and biases corrected from
the start. NNCF's graphs run at a fraction of float's speed in ONNX Runtime as they are; in the
form that `ort_form` gives them they run on the same int8 kernels as its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import onnx

from saccade.optimize.quantization.contract import Samples, Scheme
from saccade.optimize.quantization.layers import head_nodes
from saccade.optimize.quantization.nncf_call import ESTIMATORS, post_training
from saccade.optimize.quantization.ort_form import for_onnxruntime
from saccade.optimize.quantization.recipe import Estimator, Recipe


class NncfOnnxRuntime:
    """u8 activations, s8 weights per channel, fast bias correction from the start."""

    runtime: ClassVar[str] = "onnxruntime"
    suffix: ClassVar[str] = ".onnx"
    extra: ClassVar[str] = "openvino"
    estimators: ClassVar[tuple[Estimator, ...]] = ESTIMATORS
    scheme: ClassVar[Scheme] = Scheme(
        rounds_outputs=False,
        depthwise_per_channel=False,
        mean_ranges=True,
        halves_depthwise=False,
    )

    @staticmethod
    def missing() -> str | None:
        """NNCF or ONNX Runtime."""
        return next((p for p in ("onnxruntime", "nncf") if find_spec(p) is None), None)

    @staticmethod
    def quantize(
        model: onnx.ModelProto,
        samples: Samples,
        recipe: Recipe,
        kept_float: Sequence[str],
        target: Path,
    ) -> None:
        """Write an ONNX file with QuantizeLinear and DequantizeLinear nodes."""
        ignored = sorted({*head_nodes(model, recipe.float_depth), *kept_float})
        name = model.graph.input[0].name
        feeds = [{name: sample} for sample in samples]
        made = post_training(model, feeds, recipe, ignored, per_tensor=True)
        partial = target.with_name("partial-" + target.name)
        onnx.save(for_onnxruntime(made), str(partial))
        partial.replace(target)
