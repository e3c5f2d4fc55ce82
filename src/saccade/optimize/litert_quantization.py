"""Full-integer quantization of LiteRT models, by AI Edge Quantizer, in a process of its own.

AI Edge Quantizer's own calibration lets a range follow the images with a moving average, which
after some tens of images still lies near that of the first one: on MobileNetV2 it cost four points
of top-1. Here every image is calibrated alone, and the ranges of all are combined.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from saccade.errors import ModelError
from saccade.models.files import model_file
from saccade.optimize.change import PlanContext
from saccade.optimize.litert_bias import corrected
from saccade.optimize.quantization.calibration import CalibrationData, calibration_tensors
from saccade.optimize.quantization.make import calibration_data, identity
from saccade.optimize.quantization.recipe import Recipe
from saccade.optimize.worker import Worker
from saccade.pipeline.config import ModelFile, PipelineConfig, digest
from saccade.runtimes.contract import first_line

Ranges = Literal["mean", "inner", "widest"]
Ports = Literal["int8", "float"]
Statistics = Mapping[str, Mapping[str, Any]]
# Part of a file's name: raised when the same settings are made in another way.
METHOD = "per image, bias corrected 2"
# Images that biases are corrected on; means settle sooner than ranges.
BIAS_IMAGES = 32
TIMEOUT_S = 600.0
# Percentiles of the images' own ranges that "inner" reaches to.
INNER = (10, 90)

# From the lower and the upper ends, one row per image, to the ends of the range.
_COMBINED: Mapping[Ranges, Callable[[NDArray[Any], NDArray[Any]], tuple[Any, Any]]] = {
    "mean": lambda low, high: (low.mean(0), high.mean(0)),
    "inner": lambda low, high: (np.percentile(low, INNER[0], 0), np.percentile(high, INNER[1], 0)),
    "widest": lambda low, high: (low.min(0), high.max(0)),
}


def quantize_litert(context: PlanContext, ranges: Ranges, ports: Ports) -> ModelFile:
    """Quantize the context's ``.tflite`` model; a file that is already there is used again.

    Args:
        context: whose model is float, with images or video to calibrate on.
        ranges: how the ranges of single images make the range of a tensor.
        ports: type of the model's input and outputs.

    Raises:
        ModelError: the quantizer refused the model.
        RuntimeFailure: there are no frames, or the process failed.
    """
    config = context.config
    data = calibration_data(context, Recipe())
    names = [identity(image) for image in data.images]
    key = digest([config.model.sha256, METHOD, ranges, ports, names])
    target = context.folder / f"int8-{key}.tflite"
    if not target.exists():
        context.folder.mkdir(parents=True, exist_ok=True)
        write_quantized(config, data, ranges, ports, target)
    return stored_int8(target)


def write_quantized(
    config: PipelineConfig, data: CalibrationData, ranges: Ranges, ports: Ports, target: Path
) -> None:
    """Quantize in a process of its own.

    Args:
        config: how the float ``.tflite`` model runs.
        data: what to calibrate on.
        ranges: as in `quantize_litert`.
        ports: as in `quantize_litert`.
        target: where to write.

    Raises:
        ModelError: the quantizer refused the model.
        RuntimeFailure: there are no frames, or the process failed.
    """
    with Worker("saccade.optimize.litert_quantization:LiteRtQuantizer", ()) as worker:
        worker.call("run", config, data, ranges, ports, str(target), timeout_s=TIMEOUT_S)


def stored_int8(path: Path) -> ModelFile:
    """A quantized file, marked as such."""
    found = model_file(path)
    return ModelFile(found.path, found.sha256, found.format, stored="int8")


class LiteRtQuantizer:
    """Runs a job. Lives in a worker process, because the quantizer is heavy and may fail."""

    def run(
        self,
        config: PipelineConfig,
        data: CalibrationData,
        ranges: Ranges,
        ports: Ports,
        target: str,
    ) -> None:
        """Quantize and write the file whole or not at all."""
        made = quantized(Path(config.model.path), calibration_tensors(config, data), ranges, ports)
        partial = Path(target).with_name("partial-" + Path(target).name)
        partial.write_bytes(made)
        partial.replace(Path(target))


def quantized(
    model: Path, samples: Sequence[NDArray[np.float32]], ranges: Ranges, ports: Ports
) -> bytes:
    """The model in int8: weights per channel, activations by the ranges of ``samples``.

    Args:
        model: a float ``.tflite`` file.
        samples: inputs ``(1, 3, H, W)``.
        ranges: as in `quantize_litert`.
        ports: as in `quantize_litert`.

    Raises:
        ModelError: the quantizer refused the model.
    """
    from ai_edge_quantizer import quantizer

    feeds = _feeds(model, samples)
    try:
        with warnings.catch_warnings():
            # That calibration keeps all tensors in memory is what it is for.
            warnings.simplefilter("ignore")
            images = [image for _, feed in feeds for image in feed.values()]
            better = corrected(model.read_bytes(), images[:BIAS_IMAGES])
            tool = quantizer.Quantizer(better)
            _full_integer(tool, ports, model)
            each = [tool.calibrate({name: [feed]}, num_threads=1) for name, feed in feeds]
            statistics = combined(each, ranges, _ends(model))
            result = tool.quantize(statistics, enable_progress_report=False)
        return bytes(result.quantized_model)
    except Exception as error:
        raise ModelError(
            f"{model.name} cannot be quantized for LiteRT: {first_line(error)}. It still runs in "
            "float; or quantize it for another runtime."
        ) from error


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
    for port in (names.INPUT, names.OUTPUT):
        tool.update_quantization_recipe(".*", port, algorithm_key="no_quantize")
    for output in _outputs(model):
        tool.add_dynamic_config(re.escape(output), names.FULLY_CONNECTED, num_bits=8)


def _outputs(model: Path) -> list[str]:
    from ai_edge_litert.interpreter import Interpreter

    return [str(end["name"]) for end in Interpreter(str(model)).get_output_details()]


def _feeds(model: Path, samples: Sequence[NDArray[np.float32]]) -> list[tuple[str, dict[str, Any]]]:
    """Each sample as the model's signature takes it, with the signature's name."""
    from ai_edge_litert.interpreter import Interpreter

    from saccade.runtimes.litert import Port

    interpreter = Interpreter(str(model))
    signatures = interpreter.get_signature_list()
    if len(signatures) != 1:
        raise ModelError(
            f"{model.name} has {len(signatures)} signatures; one is needed to calibrate it. "
            "Convert it again with a single entry point."
        )
    ((name, ports),) = signatures.items()
    last = Port.of(interpreter.get_input_details()[0]).channels_last
    order = (0, 2, 3, 1) if last else (0, 1, 2, 3)
    feeds = (np.ascontiguousarray(sample.transpose(order)) for sample in samples)
    return [(name, {ports["inputs"][0]: feed}) for feed in feeds]


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
