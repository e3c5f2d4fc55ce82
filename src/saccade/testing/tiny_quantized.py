"""The tiny detector as someone else quantized it, in both forms that ONNX has for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from saccade.optimize.quantization.prepared import recent
from saccade.optimize.quantization.qdq import quiet
from saccade.testing.tiny_models import tiny_detector

Form = Literal["QDQ", "QOperator"]
HW = (64, 64)


def write_quantized_tiny(form: Form, folder: Path) -> Path:
    """Write the tiny detector for `HW`, quantized on noise by ONNX Runtime's own tool."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Noise(CalibrationDataReader):  # type: ignore[misc]  # has no types
        """Two images of noise."""

        def __init__(self) -> None:
            random = np.random.default_rng(0)
            images = random.uniform(0, 1, (2, 1, 3, *HW)).astype(np.float32)
            self.left: list[dict[str, Any]] = [{"images": image} for image in images]

        def get_next(self) -> dict[str, Any] | None:
            """The next feed; None at the end."""
            return self.left.pop() if self.left else None

    target = folder / f"tiny-{form}.onnx"
    with quiet():
        quantize_static(
            recent(tiny_detector(HW)), str(target), Noise(), quant_format=QuantFormat[form]
        )
    return target
