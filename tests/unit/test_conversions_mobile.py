"""Conversions to the formats of phones: right, or refused with the reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from saccade.environments.tool_environment import FOLDER_VARIABLE
from saccade.errors import MissingEnvironmentError, ModelError
from saccade.models.conversions.compared import check_converted
from saccade.models.conversions.contract import (
    ConversionRequest,
    Route,
    conversion_to,
)
from saccade.models.conversions.onnx_to_ncnn import OnnxToNcnn
from saccade.models.conversions.onnx_to_tflite import OnnxToTflite
from saccade.models.conversions.torch_to_onnx import TorchToOnnx
from saccade.models.conversions.torch_to_tflite import TorchToTflite, _refusal
from saccade.models.files import model_file
from saccade.models.torch_lowering import _refusal as lowering_refusal
from saccade.optimize.converting import converted
from saccade.runtimes.ncnn import Ncnn
from saccade.testing.runtime_conformance import tensor
from saccade.testing.tiny_models import reference, write_tiny

HW = (64, 96)


def request_of(folder: Path) -> ConversionRequest:
    inputs = np.concatenate([tensor(0, HW), tensor(1, HW)])
    return ConversionRequest(folder / "models", HW, inputs)


def write_graph(path: Path, node: onnx.NodeProto, *constants: onnx.TensorProto) -> Path:
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, "side", "side"])
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, None)
    relu = helper.make_node("Relu", ["images"], ["active"])
    graph = helper.make_graph([relu, node], "odd", [image], [output], list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


class TestOnnxToNcnn:
    @pytest.fixture(autouse=True)
    def installed(self) -> None:
        pytest.importorskip("ncnn")
        if OnnxToNcnn.why_not() is not None:
            pytest.skip(str(OnnxToNcnn.why_not()))

    def test_the_converted_model_answers_the_same(self, tmp_path: Path) -> None:
        # One of another fixed size is given the size that is asked for.
        model = model_file(write_tiny("onnx", tmp_path, (96, 96)))
        model, request = replace(model, program="net.pt2"), request_of(tmp_path)
        made = OnnxToNcnn.convert(model, request)
        assert (made.format, made.stored, made.program) == ("ncnn", "fp32", "net.pt2")
        check_converted(lambda image: [reference(image)], made, Ncnn, request.inputs)
        assert OnnxToNcnn.convert(model, request) == made

    def test_an_operator_that_ncnn_lacks_is_named(self, tmp_path: Path) -> None:
        path = write_graph(tmp_path / "m.onnx", helper.make_node("Det", ["active"], ["output"]))
        square = replace(request_of(tmp_path), hw=(64, 64))
        with pytest.raises(ModelError, match="no layer for Det"):
            OnnxToNcnn.convert(model_file(path), square)
        assert not list((tmp_path / "models").iterdir())

    def test_a_graph_that_ncnn_crashes_on_ends_a_worker_only(self, tmp_path: Path) -> None:
        grid = helper.make_tensor("grid", TensorProto.FLOAT, [1, 4, 4, 2], np.zeros(32))
        node = helper.make_node("GridSample", ["active", "grid"], ["output"])
        path = write_graph(tmp_path / "m.onnx", node, grid)
        with pytest.raises(ModelError, match="from onnx to ncnn"):
            converted(model_file(path), ("ncnn",), request_of(tmp_path))

    def test_other_answers_are_refused_with_the_numbers(self, tmp_path: Path) -> None:
        made = model_file(write_tiny("ncnn", tmp_path))
        with pytest.raises(ModelError, match=r"off by \d+\.\d% of its largest value"):
            check_converted(
                lambda image: [reference(image) * 1.1], made, Ncnn, request_of(tmp_path).inputs
            )


def test_the_way_to_ncnn_leads_through_onnx() -> None:
    way = conversion_to("torch_export", ("ncnn",))
    assert way == Route((TorchToOnnx, OnnxToNcnn))  # type: ignore[arg-type]


class TestWays:
    """Which conversions are chained, by what is installed."""

    @staticmethod
    def lacking(monkeypatch: pytest.MonkeyPatch, *steps: Any) -> None:
        for step in (TorchToOnnx, TorchToTflite, OnnxToTflite, OnnxToNcnn):
            reason = "not here" if step in steps else None
            monkeypatch.setattr(step, "why_not", staticmethod(lambda reason=reason: reason))

    def test_the_shortest_is_taken(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lacking(monkeypatch)
        assert conversion_to("torch_export", ("tflite", "ncnn")) is TorchToTflite
        assert conversion_to("onnx", ("tflite",)) is OnnxToTflite
        assert conversion_to("tflite", ("ncnn",)) is None

    def test_a_longer_one_that_can_be_gone_comes_first(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.lacking(monkeypatch, TorchToTflite)
        assert conversion_to("torch_export", ("tflite",)) == Route((TorchToOnnx, OnnxToTflite))

    def test_where_none_can_the_shortest_says_what_it_lacks(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.lacking(monkeypatch, TorchToTflite, OnnxToTflite)
        assert conversion_to("torch_export", ("tflite",)) is TorchToTflite


def test_without_its_environment_a_conversion_says_what_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ai_edge_litert")
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "none"))
    assert "saccade doctor --install litert" in str(TorchToTflite.why_not())
    path = tmp_path / "model.pt2"
    path.write_bytes(b"whatever")
    with pytest.raises(MissingEnvironmentError, match="doctor --install litert"):
        TorchToTflite.convert(model_file(path), request_of(tmp_path))


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ("RuntimeError: Lowering not found: aten.histc.default\n in node", "aten.histc.default"),
        ("error: 'tf.MatrixInverse' op is neither a custom op", "'tf.MatrixInverse'"),
    ],
)
def test_litert_torch_names_the_operator(said: str, named: str) -> None:
    assert f"no lowering for the operator {named}." in _refusal("m.pt2", said)


@pytest.mark.parametrize(
    "said",
    [
        "Missing out variants: {'aten::histc'}",
        "Operator torch._ops.aten.histc.default is not in Core ATen opset",
    ],
)
def test_executorch_names_the_operator(said: str) -> None:
    assert "no kernel for" in lowering_refusal("m.pt2", said, "RuntimeError")
    assert "histc" in lowering_refusal("m.pt2", said, "RuntimeError").partition(". It still")[0]
