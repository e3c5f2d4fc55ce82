"""A calibrated LiteRT model, and the int8 files that AI Edge Quantizer makes of it.

AI Edge Quantizer's own calibration lets a range follow the images with a moving average, which
after some tens of images still lies near that of the first one: on MobileNetV2 it cost four points
of top-1. Here every image is calibrated alone, and the ranges of all are combined.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.errors import ModelError, first_line
from saccade.optimize.litert_bias import corrected
from saccade.optimize.litert_recipe import LiteRtRecipe, Ports, Ranges

Statistics = Mapping[str, Mapping[str, Any]]
# Images that biases are corrected on; means settle sooner than ranges.
BIAS_IMAGES = 32
# Percentiles of the images' own ranges that "inner" reaches to.
INNER = (10, 90)

# From the lower and the upper ends, one row per image, to the ends of the range.
_COMBINED: Mapping[Ranges, Callable[[NDArray[Any], NDArray[Any]], tuple[Any, Any]]] = {
    "mean": lambda low, high: (low.mean(0), high.mean(0)),
    "inner": lambda low, high: (np.percentile(low, INNER[0], 0), np.percentile(high, INNER[1], 0)),
    "widest": lambda low, high: (low.min(0), high.max(0)),
}


@dataclass(frozen=True, eq=False)
class Calibrated:
    """A float model with what quantizing it takes.

    Attributes:
        model: the float ``.tflite`` file.
        corrected: its bytes with all weights rounded and biases corrected.
        images: inputs in the model's own layout.
        statistics: ranges of its tensors.
    """

    model: Path
    corrected: bytes
    images: Sequence[NDArray[np.float32]]
    statistics: dict[str, dict[str, Any]]

    @classmethod
    def of(
        cls, model: Path, samples: Sequence[NDArray[np.float32]], recipe: LiteRtRecipe
    ) -> Calibrated:
        """Correct the biases and calibrate.

        Raises:
            ModelError: the quantizer refused the model.
        """
        from ai_edge_quantizer import quantizer

        feeds = _feeds(model, samples)
        images = [image for _, feed in feeds for image in feed.values()]
        try:
            with warnings.catch_warnings():
                # That calibration keeps all tensors in memory is what it is for.
                warnings.simplefilter("ignore")
                better = corrected(model.read_bytes(), images[:BIAS_IMAGES])
                tool = quantizer.Quantizer(better)
                _full_integer(tool, recipe.ports, model)
                each = [tool.calibrate({name: [feed]}, num_threads=1) for name, feed in feeds]
        except Exception as error:
            raise _refused(model, error) from error
        return cls(model, better, images, combined(each, recipe.ranges, _ends(model)))

    def quantized(self, recipe: LiteRtRecipe, kept: Sequence[str] = ()) -> bytes:
        """The model in int8.

        Args:
            recipe: how; choosing the sensitive layers was done before.
            kept: names of the outputs of operators that stay float.

        Raises:
            ModelError: the quantizer refused the model.
        """
        from ai_edge_quantizer import qtyping

        whole = self.corrected
        if kept:
            whole = corrected(self.model.read_bytes(), self.images[:BIAS_IMAGES], kept)

        def asked(tool: Any) -> None:
            _full_integer(tool, recipe.ports, self.model)
            for name in kept:
                tool.update_quantization_recipe(
                    scope(name),
                    qtyping.TFLOperationName.ALL_SUPPORTED,
                    algorithm_key="no_quantize",
                )

        return self._made(whole, asked)

    def only(self, layer: str) -> bytes:
        """The model with one operator in int8, all others in float.

        Raises:
            ModelError: the quantizer refused the model.
        """
        from ai_edge_quantizer import qtyping

        every = qtyping.TFLOperationName.ALL_SUPPORTED

        def asked(tool: Any) -> None:
            tool.add_static_config(scope(layer), every, activation_num_bits=8, weight_num_bits=8)
            _float_ports(tool)

        # Weights of the other layers as they are, which the corrected file has rounded.
        return self._made(self.model.read_bytes(), asked)

    def _made(self, content: bytes, ask: Callable[[Any], None]) -> bytes:
        from ai_edge_quantizer import quantizer

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tool = quantizer.Quantizer(content)
                ask(tool)
                result = tool.quantize(self.statistics, enable_progress_report=False)
            return bytes(result.quantized_model)
        except Exception as error:
            raise _refused(self.model, error) from error


def scope(name: str) -> str:
    """What AI Edge Quantizer calls the operator that gives a tensor: it searches, so to the end."""
    return f"^{re.escape(name)};?$"


def _refused(model: Path, error: Exception) -> ModelError:
    return ModelError(
        f"{model.name} cannot be quantized for LiteRT: {first_line(error)}. It still runs in "
        "float; or quantize it for another runtime."
    )


def _full_integer(tool: Any, ports: Ports, model: Path) -> None:
    """Ask for int8 throughout; with float ports the last layers answer in floats.

    Their weights are int8 all the same, and their inputs are rounded as they come. An int8 output
    has 256 steps, on which the two best classes of an image may fall together.
    """
    from ai_edge_quantizer import qtyping

    names = qtyping.TFLOperationName
    tool.add_static_config(".*", names.ALL_SUPPORTED, activation_num_bits=8, weight_num_bits=8)
    if ports == "int8":
        return
    _float_ports(tool)
    for output in _outputs(model):
        tool.add_dynamic_config(scope(output), names.FULLY_CONNECTED, num_bits=8)


def _float_ports(tool: Any) -> None:
    from ai_edge_quantizer import qtyping

    for port in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
        tool.update_quantization_recipe(".*", port, algorithm_key="no_quantize")


def _outputs(model: Path) -> list[str]:
    from ai_edge_litert.interpreter import Interpreter

    return [str(end["name"]) for end in Interpreter(str(model)).get_output_details()]


def _feeds(model: Path, samples: Sequence[NDArray[np.float32]]) -> list[tuple[str, dict[str, Any]]]:
    """Each sample as the model's signature takes it, with the signature's name."""
    from ai_edge_litert.interpreter import Interpreter

    signatures = Interpreter(str(model)).get_signature_list()
    if len(signatures) != 1:
        raise ModelError(
            f"{model.name} has {len(signatures)} signatures; one is needed to calibrate it. "
            "Convert it again with a single entry point."
        )
    ((name, ports),) = signatures.items()
    return [(name, {ports["inputs"][0]: feed}) for feed in in_order(model, samples)]


def in_order(model: Path, samples: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    """Inputs ``(1, 3, H, W)`` with their axes in the order of the model's own input."""
    from ai_edge_litert.interpreter import Interpreter

    from saccade.runtimes.litert import Port

    last = Port.of(Interpreter(str(model)).get_input_details()[0]).channels_last
    order = (0, 2, 3, 1) if last else (0, 1, 2, 3)
    return [np.ascontiguousarray(sample.transpose(order)) for sample in samples]


def _ends(model: Path) -> frozenset[str]:
    """Names of the input and the outputs."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(model))
    ends = [*interpreter.get_input_details(), *interpreter.get_output_details()]
    return frozenset(str(end["name"]) for end in ends)


def combined(
    each: Sequence[Statistics], ranges: Ranges, ends: Collection[str] = ()
) -> dict[str, dict[str, Any]]:
    """Ranges of every tensor from those of single images.

    Args:
        each: one per image: tensor name → ``min`` and ``max``; empty for constants.
        ranges: how they are combined.
        ends: tensors whose range is always the widest. Pixels lie on 256 steps anyway, and an
            output that is cut off makes its best classes equal.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, first in each[0].items():
        if not first:
            found[name] = {}
            continue
        low, high = (np.stack([one[name][end] for one in each]) for end in ("min", "max"))
        least, most = _COMBINED["widest" if name in ends else ranges](low, high)
        found[name] = {**first, "min": least, "max": most}
    return found


def float_operators(path: Path) -> list[str]:
    """Operators of a ``.tflite`` file that still read floats, apart from those at its ends.

    An Edge TPU runs none of them.
    """
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    # Before tensors are allocated the graph is as the file has it, without XNNPACK's part.
    kinds = {d["index"]: d["dtype"] for d in interpreter.get_tensor_details()}
    found = []
    for op in interpreter._get_ops_details():
        reads_float = any(kinds.get(index) is np.float32 for index in op["inputs"])
        if reads_float and op["op_name"] not in ("QUANTIZE", "DEQUANTIZE", "DELEGATE"):
            found.append(str(op["op_name"]))
    return found
