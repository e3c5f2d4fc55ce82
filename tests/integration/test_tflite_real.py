"""The real conversion to LiteRT's format, where its tool environment is installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from saccade.models.conversions.compared import check_converted
from saccade.models.conversions.contract import ConversionRequest
from saccade.models.conversions.torch_to_tflite import TorchToTflite
from saccade.models.files import model_file
from saccade.runtimes.litert import LiteRt
from saccade.testing.runtime_conformance import tensor
from saccade.testing.tiny_models import reference, write_tiny

HW = (64, 96)


def test_a_program_becomes_a_tflite_model_that_answers_the_same(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    if TorchToTflite.why_not() is not None:
        pytest.skip(str(TorchToTflite.why_not()))
    inputs = np.concatenate([tensor(0, HW), tensor(1, HW)])
    request = ConversionRequest(tmp_path / "models", HW, inputs)
    made = TorchToTflite.convert(model_file(write_tiny("torch_export", tmp_path, HW)), request)
    assert made.format == "tflite"
    check_converted(lambda image: [reference(image)], made, LiteRt, inputs)
