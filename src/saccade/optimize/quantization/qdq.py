"""ONNX Runtime's own static quantization, QDQ format.

For ONNX Runtime activations are unsigned and weights signed: on x86 the other way round runs at
half the speed of fp32, without an error. TensorRT takes the symmetric form only.
"""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import onnx

from saccade.errors import RuntimeFailure, first_line
from saccade.optimize.quantization.bias import corrected
from saccade.optimize.quantization.contract import Samples, Scheme
from saccade.optimize.quantization.layers import head_nodes
from saccade.optimize.quantization.recipe import Estimator, Recipe

# What the symmetric form rounds: TensorRT fuses the rest itself, and a Sigmoid whose outputs are
# never negative would lose half of the steps around zero.
SYMMETRIC_KINDS = ["Conv", "Gemm", "MatMul", "Add", "Concat", "MaxPool", "Resize", "Relu", "Clip"]
# Histograms of every activation of so many samples are held in memory at a time.
STRIDE = 4


class OnnxRuntimeQdq:
    """u8 activations, s8 weights per channel."""

    runtime: ClassVar[str] = "onnxruntime"
    suffix: ClassVar[str] = ".onnx"
    extra: ClassVar[str] = "openvino"
    estimators: ClassVar[tuple[Estimator, ...]] = ("min_max", "percentile", "entropy")
    scheme: ClassVar[Scheme] = Scheme(
        rounds_outputs=True,
        depthwise_per_channel=False,
        mean_ranges=False,
        halves_depthwise=True,
    )

    @staticmethod
    def missing() -> str | None:
        """ONNX Runtime is part of the core, so that nothing is."""
        return None if find_spec("onnxruntime") else "onnxruntime"

    @staticmethod
    def quantize(
        model: onnx.ModelProto,
        samples: Samples,
        recipe: Recipe,
        kept_float: Sequence[str],
        target: Path,
        symmetric: bool = False,
    ) -> None:
        """Write an ONNX file with QuantizeLinear and DequantizeLinear nodes.

        ``symmetric`` asks for signed activations around zero and float biases, for TensorRT.
        """
        excluded = sorted({*head_nodes(model, recipe.float_depth), *kept_float})
        partial = target.with_name("partial-" + target.name)
        try:
            with quiet():
                _static(prepared(model), samples, recipe, excluded, partial, symmetric)
        except Exception as error:  # onnxruntime's exceptions share no base
            partial.unlink(missing_ok=True)
            raise RuntimeFailure(
                f"ONNX Runtime could not quantize the model: {first_line(error)}"
            ) from error
        if recipe.bias_correction:
            onnx.save(corrected(model, onnx.load(str(partial)), samples), str(partial))
        partial.replace(target)


def prepared(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with the shapes of all tensors, as the quantizer wants it."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "before.onnx", Path(folder) / "after.onnx"
        onnx.save(model, str(before))
        # Symbolic inference fails on many exporters' graphs; ONNX's own is enough here. Optimizing
        # would rename nodes, and what stays float is said by name.
        quant_pre_process(str(before), str(after), skip_symbolic_shape=True, skip_optimization=True)
        return onnx.load(str(after))


def _static(
    model: onnx.ModelProto,
    samples: Samples,
    recipe: Recipe,
    excluded: list[str],
    target: Path,
    symmetric: bool,
) -> None:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType
    from onnxruntime.quantization.quantize import quantize_static

    methods = {
        "": CalibrationMethod.MinMax,
        "min_max": CalibrationMethod.MinMax,
        "percentile": CalibrationMethod.Percentile,
        "entropy": CalibrationMethod.Entropy,
    }
    quantize_static(
        model,
        str(target),
        reader(model.graph.input[0].name, samples),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        reduce_range=recipe.halved,
        activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=SYMMETRIC_KINDS if symmetric else None,
        nodes_to_exclude=excluded,
        calibrate_method=methods[recipe.estimator],
        extra_options={
            # The stride has to divide the number of samples.
            "CalibStridedMinMax": math.gcd(len(samples), STRIDE),
            "ActivationSymmetric": symmetric,
            "QuantizeBias": not symmetric,
        },
    )


def reader(name: str, samples: Samples) -> Any:
    """ONNX Runtime's reader of calibration data, for the input of a name."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.set_range(0, len(samples))

        def __len__(self) -> int:
            return len(samples)

        def set_range(self, start_index: int, end_index: int) -> None:
            self._left = iter(samples[start_index:end_index])

        def get_next(self) -> dict[str, Any] | None:
            sample = next(self._left, None)
            return None if sample is None else {name: sample}

    return Reader()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the quantizer's advice off the terminal; it warns of what was done on purpose."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
