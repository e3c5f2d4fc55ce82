"""The real conversions to LiteRT's format, where their tool environments are installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from saccade.errors import ModelError
from saccade.models.conversions.compared import check_converted
from saccade.models.conversions.contract import ConversionRequest
from saccade.models.conversions.onnx_to_tflite import OnnxToTflite
from saccade.models.conversions.torch_to_tflite import TorchToTflite
from saccade.models.files import model_file
from saccade.runtimes.litert import LiteRt
from saccade.testing.runtime_conformance import tensor
from saccade.testing.tiny_models import reference, tiny_detector, write_tiny

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


@pytest.mark.parametrize("hw", [HW, None], ids=["fixed", "dynamic"])
def test_an_onnx_model_becomes_one_as_well(tmp_path: Path, hw: tuple[int, int] | None) -> None:
    if OnnxToTflite.why_not() is not None:
        pytest.skip(str(OnnxToTflite.why_not()))
    inputs = np.concatenate([tensor(0, HW), tensor(1, HW)])
    request = ConversionRequest(tmp_path / "models", HW, inputs)
    made = OnnxToTflite.convert(model_file(write_tiny("onnx", tmp_path, hw)), request)
    check_converted(lambda image: [reference(image)], made, LiteRt, inputs)


def test_an_operator_that_onnx2tf_lacks_is_refused(tmp_path: Path) -> None:
    if OnnxToTflite.why_not() is not None:
        pytest.skip(str(OnnxToTflite.why_not()))
    model = tiny_detector(HW)
    det = helper.make_node("Det", ["square"], ["extra"])
    cut = helper.make_node("Slice", ["active", "from", "to", "axes"], ["square"])
    constants = {"from": [0, 0], "to": [4, 4], "axes": [2, 3]}
    model.graph.node.extend([cut, det])
    model.graph.initializer.extend(
        numpy_helper.from_array(np.array(values), name) for name, values in constants.items()
    )
    model.graph.output.append(helper.make_tensor_value_info("extra", TensorProto.FLOAT, [1, 6]))
    path = tmp_path / "odd.onnx"
    path.write_bytes(model.SerializeToString())
    request = ConversionRequest(tmp_path / "models", HW, tensor(0, HW))
    with pytest.raises(ModelError, match="cannot be made into LiteRT's format"):
        OnnxToTflite.convert(model_file(path), request)
    assert not list((tmp_path / "models").iterdir())
