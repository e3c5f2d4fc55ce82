"""A model that comes quantized is known as such, and nothing rounds it again."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from saccade.deploy.exports.contract import ExportRequest
from saccade.deploy.exports.onnx_given import OnnxGiven
from saccade.models.files import model_file
from saccade.models.inspect import summarize
from saccade.models.sources.contract import SourceRequest
from saccade.models.sources.onnx import OnnxSource
from saccade.models.stored_as import stored_as
from saccade.optimize.change import PlanContext
from saccade.optimize.changes.bf16 import UseBf16
from saccade.optimize.changes.int8 import QuantizeInt8
from saccade.optimize.changes.int8_weights import CompressWeights
from saccade.optimize.changes.runtime import SwitchRuntime
from saccade.optimize.quantization.calibration import CalibrationData
from saccade.optimize.quantization.weights import as_fp16, as_int8
from saccade.pipeline.config import RuntimeOptions
from saccade.plugins import load, names
from saccade.runtimes import onnxruntime as runtime
from saccade.runtimes.contract import Availability, SessionRequest
from saccade.runtimes.onnxruntime import OnnxRuntime
from saccade.testing.example_contexts import example_contexts
from saccade.testing.tiny_models import tiny_config, tiny_detector
from saccade.testing.tiny_quantized import HW, Form, write_quantized_tiny

FORMS: tuple[Form, ...] = ("QDQ", "QOperator")
EVERYTHING = ("fp32", "bf16", "int8")


@pytest.fixture(scope="module", params=FORMS)
def given(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_quantized_tiny(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture
def context(given: Path, tmp_path: Path) -> PlanContext:
    """The start of a search, where everything is installed and fast."""
    offered = {
        name: Availability(True, "1", "CPU", name, EVERYTHING)
        for name in ("onnxruntime", "openvino")
    }
    offered["ncnn"] = Availability(True, "1", "CPU", "ncnn", EVERYTHING, ("ncnn",))
    context = next(iter(example_contexts(tmp_path, runtimes=offered)))
    config = tiny_config(tmp_path, HW, model=model_file(given))
    return replace(context, config=config, unquantized=config, missed=frozenset({"model_mb"}))


def test_the_source_tells(given: Path, tmp_path: Path) -> None:
    resolved = OnnxSource.resolve(SourceRequest(str(given), tmp_path))
    assert resolved.model.quantized
    assert resolved.model.stored == "int8"
    assert summarize(given)["precision"] == "int8"


def test_harmful_optimizers_are_off(given: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disabled: list[Any] = []
    real = onnxruntime.InferenceSession

    def opened(*said: Any, disabled_optimizers: Any = None, **settings: Any) -> Any:
        disabled.append(disabled_optimizers)
        return real(*said, disabled_optimizers=disabled_optimizers, **settings)

    monkeypatch.setattr(onnxruntime, "InferenceSession", opened)
    request = SessionRequest(model_file(given), HW, RuntimeOptions(), "images")
    with closing(OnnxRuntime.open(request)) as session:
        assert session.infer(np.zeros((1, 3, *HW), np.float32))
    assert disabled == [list(runtime.HARMFUL)]


def test_changes_that_need_floats_say_so(context: PlanContext) -> None:
    changes = [QuantizeInt8("onnxruntime"), UseBf16(), CompressWeights()]
    reasons = [change.applies(context) for change in changes]
    assert "no float model" in str(reasons[0])
    assert "quantized" in str(reasons[1])
    assert reasons[2] == "the weights are stored as int8"
    assert "conversions start from a float model" in str(SwitchRuntime("ncnn").applies(context))


def test_it_belongs_to_no_runtime(context: PlanContext) -> None:
    """Unlike a file that was quantized here, for one runtime's kernels."""
    found = {change.runtime: change for change in SwitchRuntime.variants(context)}
    assert found["openvino"].precision == "fp32"
    assert found["openvino"].applies(context) is None
    floats = tiny_config(context.folder.parent, HW)
    ours = replace(context, unquantized=floats)
    assert found["openvino"].applies(ours) == "the model was quantized for onnxruntime"


def test_exports_start_from_floats(context: PlanContext) -> None:
    request = ExportRequest(
        context.config, HW, (np.zeros((1, 3, *HW), np.float32),), CalibrationData(()), Path()
    )
    applied = [name for name in names("exports") if load("exports", name).applies(request) is None]
    assert applied == ["onnx"]
    runs = OnnxGiven.runs(request)
    assert {run.precision for run in runs} == {"int8"}
    assert len({run.runtime for run in runs}) == len(runs)
    assert not any("--calib" in flag for run in runs for flag in run.flags)


# What a graph says


def test_float_models_are_float() -> None:
    model = tiny_detector(HW)
    assert stored_as(model) == "fp32"
    big = graph_of([helper.make_node("Conv", ["x", "w"], ["y"])], {"w": np.ones((8, 3, 4, 4), "f")})
    assert stored_as(as_fp16(big)) == "fp32"
    assert stored_as(as_int8(big)) == "int8_weights"


def graph_of(nodes: list[onnx.NodeProto], constants: dict[str, Any]) -> onnx.ModelProto:
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 3, 8, 8]) for n in ("x", "y")]
    weights = [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


STEP = {"s": np.float32(0.1), "z": np.int8(0)}


@pytest.mark.parametrize(
    ("taken", "stored"), [("x", "int8"), ("w", "int8_weights"), ("reshaped", "int8_weights")]
)
def test_what_is_rounded_decides(taken: str, stored: str) -> None:
    """Weights that are rounded while loading leave activations in floats."""
    nodes = [
        helper.make_node("Reshape", ["w", "shape"], ["reshaped"]),
        helper.make_node("QuantizeLinear", [taken, "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    constants = {"w": np.ones((1, 192), np.float32), "shape": np.array([1, 3, 8, 8]), **STEP}
    assert stored_as(graph_of(nodes, constants)) == stored


def test_branches_and_functions_are_looked_into() -> None:
    nodes = [helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"])]
    branch = helper.make_graph(nodes, "b", [], [])
    condition = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    assert stored_as(graph_of([condition], {"c": np.array(True)})) == "int8"
    called = graph_of([helper.make_node("Rounded", ["x"], ["y"], domain="own")], {})
    assert stored_as(called) == "fp32"
    opsets = [helper.make_opsetid("", 17)]
    called.functions.append(helper.make_function("own", "Rounded", ["x"], ["q"], nodes, opsets))
    assert stored_as(called) == "int8"
