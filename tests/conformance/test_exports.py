"""Every export of the table keeps the contract, on models of fixed and of dynamic size."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from saccade import plugins
from saccade.data.assemble import unlabelled_image
from saccade.deploy.exports.contract import ExportRequest
from saccade.models.files import model_file
from saccade.optimize.quantization.calibration import CalibrationData, calibration_tensors
from saccade.testing.export_conformance import CHECKS, Check
from saccade.testing.tiny_models import tiny_config

NAMES = plugins.names("exports")
SIDE = 32
CHANNELS = 8


def three_convolutions(dynamic: bool, opset: int = 17) -> onnx.ModelProto:
    """Enough layers that something is quantized between the first and the last."""
    random = np.random.default_rng(0)
    weights = {
        "w0": random.normal(0, 0.3, (CHANNELS, 3, 3, 3)).astype(np.float32),
        "w1": random.normal(0, 0.2, (CHANNELS, CHANNELS, 3, 3)).astype(np.float32),
        "w2": random.normal(0, 0.2, (6, CHANNELS, 1, 1)).astype(np.float32),
    }
    conv = {"pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["images", "w0"], ["a"], "c0", **conv),
        helper.make_node("Relu", ["a"], ["b"], "r0"),
        helper.make_node("Conv", ["b", "w1"], ["c"], "c1", **conv),
        helper.make_node("Relu", ["c"], ["d"], "r1"),
        helper.make_node("Conv", ["d", "w2"], ["output0"], "c2"),
    ]
    sides = ["height", "width"] if dynamic else [SIDE, SIDE]
    graph = helper.make_graph(
        nodes,
        "three",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, *sides])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 6, *sides])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


@pytest.fixture(scope="module", params=["fixed", "dynamic", "old"])
def asked(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> ExportRequest:
    folder = tmp_path_factory.mktemp(request.param)
    dynamic = request.param == "dynamic"
    path = folder / "three.onnx"
    # Scales per channel came with operator set 13.
    opset = 11 if request.param == "old" else 17
    path.write_bytes(three_convolutions(dynamic, opset).SerializeToString())
    hw = None if dynamic else (SIDE, SIDE)
    config = tiny_config(folder, hw, model=model_file(path), task="segmentation", input_size=SIDE)
    random = np.random.default_rng(1)
    images = []
    for index in range(3):
        images.append(folder / f"{index}.png")
        cv2.imwrite(str(images[-1]), random.integers(0, 255, (SIDE, SIDE, 3), np.uint8))
    data = CalibrationData(tuple(unlabelled_image((path, SIDE, SIDE)) for path in images))
    tensors = tuple(calibration_tensors(config, data))
    (folder / "work").mkdir()
    return ExportRequest(config, (SIDE, SIDE), tensors, data, folder / "work")


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_the_contract_is_kept(name: str, check: Check, asked: ExportRequest) -> None:
    check(plugins.load("exports", name), asked)


@pytest.mark.parametrize("name", ["onnx_int8", "onnx_int8_symmetric"])
def test_int8_files_are_quantized_but_for_the_head(name: str, asked: ExportRequest) -> None:
    model = onnx.load(plugins.load("exports", name).write(asked).path)
    made_by = {out: node for node in model.graph.node for out in node.output}
    convs = {node.name: node for node in model.graph.node if node.op_type == "Conv"}
    quantized = {
        key
        for key, node in convs.items()
        if made_by.get(node.input[1], node).op_type == "DequantizeLinear"
    }
    assert quantized == {"c0", "c1"}
    zeros = {
        float(numpy_helper.to_array(t).ravel()[0])
        for t in model.graph.initializer
        if t.name.endswith("_zero_point") and t.data_type == TensorProto.INT8
    }
    # TensorRT takes nothing but zero for a zero point.
    assert name == "onnx_int8" or zeros == {0.0}


def test_int8_leaves_logging_as_the_caller_wants_it(asked: ExportRequest) -> None:
    logging.disable(logging.ERROR)
    try:
        plugins.load("exports", "onnx_int8").write(asked)
        assert logging.root.manager.disable == logging.ERROR
    finally:
        logging.disable(logging.NOTSET)


def test_without_frames_there_is_no_int8(asked: ExportRequest) -> None:
    bare = replace(asked, tensors=(), calibration=CalibrationData(()))
    for name in ("onnx_int8", "onnx_int8_symmetric", "openvino_int8"):
        assert "no frames to calibrate on" in str(plugins.load("exports", name).applies(bare))


def test_a_broken_model_is_refused_with_a_reason(asked: ExportRequest, tmp_path: Path) -> None:
    """The quantizer's own errors become ours, so that the other files are still made."""
    from saccade.errors import SaccadeError

    model = three_convolutions(False)
    model.graph.node[2].op_type = "NoSuchOperator"
    path = tmp_path / "broken.onnx"
    onnx.save(model, str(path))
    shutil.copytree(asked.work, tmp_path / "work", ignore=lambda *_: ["model-float.onnx"])
    broken = replace(
        asked, config=replace(asked.config, model=model_file(path)), work=tmp_path / "work"
    )
    with pytest.raises(SaccadeError):
        plugins.load("exports", "onnx_int8").write(broken)
