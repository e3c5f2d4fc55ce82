"""A calibration cache for TensorRT, from ranges measured here.

One line per tensor: its name and, as the hexadecimal bits of a float32, the size of one int8
step (largest absolute value over 127). Source: the format that TensorRT's calibrators write and
ONNX Runtime's TensorRT provider documents. TensorRT wants its own version in the first line,
which only the device knows, so `build_tensorrt.sh` puts it there.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

from saccade.deploy.exports.contract import ExportRequest
from saccade.deploy.exports.onnx_int8 import CALIBRATION_TENSORS, float_model
from saccade.errors import RuntimeFailure
from saccade.optimize.quantization.qdq import quiet, reader

HEADER = "TRT-0000-EntropyCalibration2"


def write_cache(request: ExportRequest, target: Path) -> None:
    """Run the model on the request's tensors and write the ranges of all its activations.

    Raises:
        RuntimeFailure: ONNX Runtime's calibrator refused the model.
    """
    from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator

    augmented = request.work / "augmented.onnx"
    try:
        with quiet():
            calibrator = create_calibrator(
                str(float_model(request)),
                augmented_model_path=str(augmented),
                calibrate_method=CalibrationMethod.MinMax,
            )
            name, samples = request.config.description.input.name, request.tensors
            calibrator.collect_data(reader(name, samples[:CALIBRATION_TENSORS]))
            found = calibrator.compute_data()
        ranges = {name: data.range_value for name, data in found.items()}
    except Exception as error:  # its own errors share no base
        raise RuntimeFailure(f"ONNX Runtime's calibrator refused the model: {error}") from error
    finally:
        augmented.unlink(missing_ok=True)
    largest = {
        name: max(abs(float(low.min())), abs(float(high.max())))
        for name, (low, high) in ranges.items()
    }
    target.write_text(cache_text(largest), encoding="utf-8")


def cache_text(largest: Mapping[str, float]) -> str:
    """The cache's text, from each tensor's largest absolute value."""
    lines = [f"{name}: {struct.pack('>f', value / 127).hex()}" for name, value in largest.items()]
    return "\n".join([HEADER, *lines, ""])
