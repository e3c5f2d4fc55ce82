"""OpenVINO IRs that users bring: read, described, run and quantized without ever being ONNX."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper
from tiny_system import picture

from saccade.errors import MissingExtraError, ModelError, RuntimeFailure
from saccade.models.description import ModelDescription
from saccade.models.files import model_file
from saccade.models.ir_outline import DOMAIN, outline
from saccade.models.onnx_run import run_once
from saccade.models.sources.contract import ResolvedModel, SourceRequest
from saccade.models.sources.resolve import resolve_model
from saccade.optimize.ir_quantization import observe_ir
from saccade.pipeline.config import RuntimeOptions
from saccade.pipeline.pipeline import Pipeline
from saccade.playbook.draft import draft_spec
from saccade.playbook.model import describe_model
from saccade.playbook.partial import estimate_only
from saccade.playbook.prepare import naive
from saccade.runtimes.contract import SessionRequest
from saccade.runtimes.openvino import OpenVino
from saccade.runtimes.openvino_core import openvino_core
from saccade.spec import Spec, make_spec
from saccade.tasks.detection import DetectionTask
from saccade.testing.tiny_models import CLASSES, tiny_detector
from saccade.testing.tiny_yolo import HW, STRIDES, tiny_yolo

ov = pytest.importorskip("openvino")
NAMES = {"class_names": list(CLASSES)}


@pytest.fixture
def ir(tmp_path: Path) -> Path:
    return saved(tiny_yolo(), tmp_path / "model.xml")


def resolved(path: Path, **changes: Any) -> ResolvedModel:
    return resolve_model(
        replace(SourceRequest(str(path), path.parent / "made", usual_size=640), **changes)
    )


def described(path: Path, **overrides: Any) -> ModelDescription:
    return DetectionTask.describe(resolved(path).graph, {**NAMES, **overrides})


def saved(model: onnx.ModelProto, path: Path, fp16: bool = False) -> Path:
    """The ONNX model as an IR; fp16 is what OpenVINO's own tools store by default."""
    loaded = openvino_core().read_model(model.SerializeToString())
    ov.save_model(loaded, str(path), compress_to_fp16=fp16)
    return path


def raw_detector(hw: tuple[int, int] | None) -> onnx.ModelProto:
    """Grid offsets as YOLOX gives them, ``(1, cells, 5 + 2)``, for one size or for any."""
    random = np.random.default_rng(0)
    constants: dict[str, Any] = {"rows": np.array([1, 7, -1]), "bias": np.zeros(7, np.float32)}
    nodes = []
    for stride in STRIDES:
        weight = random.normal(0, 0.05, (7, 3, stride, stride)).astype(np.float32)
        constants[f"w{stride}"] = weight
        given = ["images", f"w{stride}", "bias"]
        nodes += [
            helper.make_node("Conv", given, [f"map{stride}"], strides=[stride] * 2),
            helper.make_node("Reshape", [f"map{stride}", "rows"], [f"level{stride}"]),
        ]
    levels = [f"level{stride}" for stride in STRIDES]
    nodes.append(helper.make_node("Concat", levels, ["columns"], axis=2))
    nodes.append(helper.make_node("Transpose", ["columns"], ["output"], perm=[0, 2, 1]))
    sides: tuple[int | str, int | str] = hw or ("height", "width")
    graph = helper.make_graph(
        nodes,
        "raw",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, *sides])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, None, 7])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def same_but_for_words(first: ModelDescription, second: ModelDescription) -> bool:
    return replace(first, evidence=()) == replace(second, evidence=())


@pytest.mark.parametrize("free", [False, True], ids=["fixed", "any size"])
@pytest.mark.parametrize("fp16", [False, True], ids=["fp32", "fp16"])
def test_an_ir_is_described_as_the_onnx_model_it_was_made_from(
    tmp_path: Path, free: bool, fp16: bool
) -> None:
    model = raw_detector(None) if free else tiny_yolo()
    original = tmp_path / "model.onnx"
    original.write_bytes(model.SerializeToString())
    path = saved(model, tmp_path / "model.xml", fp16)
    expected = DetectionTask.describe(original, NAMES)
    assert expected.input.dynamic == free
    assert same_but_for_words(described(path), expected)
    assert resolved(path).model.stored == ("fp16" if fp16 else "fp32")


@pytest.mark.parametrize("fp16", [False, True], ids=["fp32", "fp16"])
def test_boxes_that_the_graph_leaves_raw_are_told_from_decoded_ones(
    tmp_path: Path, fp16: bool
) -> None:
    """A bias is a part of ONNX's convolution, and an operator of its own behind OpenVINO's."""
    model = raw_detector(HW)
    original = tmp_path / "raw.onnx"
    onnx.save(model, str(original))
    words = DetectionTask.describe(original, NAMES).evidence
    assert any("raw grid offsets" in sentence for sentence in words)
    found = described(saved(model, tmp_path / "raw.xml", fp16))
    assert any("raw grid offsets" in sentence for sentence in found.evidence)


def test_an_outline_is_no_model(tmp_path: Path) -> None:
    made = onnx.load(str(resolved(saved(tiny_yolo(), tmp_path / "yolo.xml")).graph))
    assert {node.domain for node in made.graph.node} == {DOMAIN}
    largest = max(len(tensor.raw_data) for tensor in made.graph.initializer)
    assert largest <= 128, "weights are in it"
    with pytest.raises(ModelError):
        run_once(made, {"images": np.zeros((1, 3, 64, 96), np.float32)})


def test_a_scale_in_the_graph_is_seen(tmp_path: Path) -> None:
    model = tiny_yolo()
    model.graph.initializer.append(numpy_helper.from_array(np.float32(255), "white"))
    model.graph.node.insert(0, helper.make_node("Div", ["images", "white"], ["shares"], "scale"))
    for node in model.graph.node[1:]:
        node.input[:] = ["shares" if name == "images" else name for name in node.input]
    assert described(saved(model, tmp_path / "scaled.xml")).preprocessing.scale == 1.0


def test_it_runs_and_gives_what_the_onnx_model_gives(tmp_path: Path) -> None:
    original = tmp_path / "model.onnx"
    square = tiny_yolo((96, 96))
    original.write_bytes(square.SerializeToString())
    found = []
    for path in (original, saved(square, tmp_path / "square.xml")):
        spec = make_spec({"model": path, "overrides": NAMES, "score_threshold": 0.01})
        model = describe_model(spec, tmp_path / "made")
        config = naive(spec, model.resolved.model, model.description)
        with Pipeline(replace(config, runtime="openvino")) as pipeline:
            found.append(pipeline(picture((48, 64))))
    assert naive(spec, model.resolved.model, model.description).runtime == "openvino"
    assert len(found[0].boxes)
    np.testing.assert_allclose(found[1].boxes, found[0].boxes, atol=1e-3)


def test_a_size_that_the_ir_cannot_take_is_named(ir: Path) -> None:
    request = SessionRequest(model_file(ir), (96, 96), RuntimeOptions(), "images")
    with pytest.raises(RuntimeFailure, match=r"made for inputs of 64x96.*not be changed to 96x96"):
        OpenVino.open(request)


def test_names_come_from_the_exporter(tmp_path: Path, ir: Path) -> None:
    model = openvino_core().read_model(str(ir))
    model.set_rt_info("cat guide_dog", ["model_info", "labels"])
    labelled = tmp_path / "labelled.xml"
    ov.save_model(model, str(labelled), compress_to_fp16=False)
    assert DetectionTask.describe(resolved(labelled).graph).class_names == ("cat", "guide dog")
    beside = {"names": {0: "a", 1: "b"}, "imgsz": [96, 64], "license": "own"}
    (tmp_path / "metadata.yaml").write_text(yaml.safe_dump(beside), encoding="utf-8")
    found = DetectionTask.describe(resolved(labelled).graph)
    assert (found.class_names, found.license) == (("a", "b"), "own")


def test_a_size_that_the_exporter_states_is_used_where_the_input_is_open(tmp_path: Path) -> None:
    path = saved(raw_detector(None), tmp_path / "free.xml")
    stated = {"names": dict(enumerate(CLASSES)), "imgsz": [96, 96]}
    (tmp_path / "metadata.yaml").write_text(yaml.safe_dump(stated), encoding="utf-8")
    found = DetectionTask.describe(resolved(path).graph)
    assert (found.input_size, found.stride) == (96, 32)
    assert found.input.dynamic


def test_what_is_wrong_with_the_files_is_said(tmp_path: Path, ir: Path) -> None:
    content = ir.read_text(encoding="utf-8")
    weights = ir.with_suffix(".bin").read_bytes()
    with pytest.raises(ModelError, match=r"model file .*none\.xml does not exist"):
        resolved(tmp_path / "none.xml")
    ir.with_suffix(".bin").write_bytes(weights[:10])
    with pytest.raises(ModelError, match=r"cannot read .*\.bin beside it belongs to another"):
        resolved(ir)
    ir.with_suffix(".bin").unlink()
    with pytest.raises(ModelError, match=r"weights file .*\.bin does not exist.*two files"):
        resolved(ir)
    ir.with_suffix(".bin").write_bytes(weights)
    ir.write_text(content[: len(content) // 2], encoding="utf-8")
    with pytest.raises(ModelError, match=r"cannot read .*damaged or no OpenVINO IR"):
        resolved(ir)


def test_other_weights_and_random_ones_are_refused(ir: Path) -> None:
    with pytest.raises(ModelError, match="has its own"):
        resolved(ir, weights=Path("other.pt"))
    with pytest.raises(ModelError, match="random_weights"):
        resolved(ir, random_weights=True)


def test_without_openvino_the_extra_is_named(ir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    openvino_core.cache_clear()
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"saccade\[openvino\]"):
        resolved(ir)


def test_estimates_for_other_machines_say_what_they_start_from(tmp_path: Path, ir: Path) -> None:
    spec = Spec(model=str(ir), target="jetson-orin-nano", overrides=NAMES)
    with pytest.raises(ModelError, match="cannot be made into ONNX"):
        estimate_only(spec, tmp_path / "run")


def test_a_draft_tells_the_size_of_the_ir_and_not_of_its_outline(ir: Path) -> None:
    _, facts = draft_spec(str(ir), None, None)
    files = ir.stat().st_size + ir.with_suffix(".bin").stat().st_size
    assert facts["model"]["size_mb"] == round(files / 1e6, 3)
    assert "parameters" not in facts["model"]


def test_an_int8_ir_is_known_as_such(tmp_path: Path, ir: Path) -> None:
    nncf = pytest.importorskip("nncf")
    model = openvino_core().read_model(str(ir))
    random = np.random.default_rng(0)
    images = [random.random((1, 3, *HW), np.float32) for _ in range(2)]
    rounded = nncf.quantize(model, nncf.Dataset(images), subset_size=2)
    path = tmp_path / "int8.xml"
    ov.save_model(rounded, str(path), compress_to_fp16=False)
    assert resolved(path).model.quantized
    assert described(path).decode == described(ir).decode


def test_ranges_are_those_of_what_layers_give(tmp_path: Path) -> None:
    """The last layer's, which is the output as it is, is not asked for twice."""
    weight = np.full((2, 3, 1, 1), 2, np.float32)
    nodes = [
        helper.make_node("Conv", ["images", "w"], ["first"], "first"),
        helper.make_node("Relu", ["first"], ["active"], "relu"),
        helper.make_node("Conv", ["active", "v"], ["output"], "last"),
    ]
    graph = helper.make_graph(
        nodes,
        "two",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 4, 4])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 1, 4, 4])],
        [
            numpy_helper.from_array(weight, "w"),
            numpy_helper.from_array(np.ones((1, 2, 1, 1), np.float32), "v"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    loaded = openvino_core().read_model(model.SerializeToString())
    ranges = observe_ir(loaded, [np.ones((1, 3, 4, 4), np.float32)])
    assert {name: high.tolist() for name, high in ranges.high.items()} == {"first": [[6.0, 6.0]]}
    assert len(loaded.outputs) == 1, "the model was changed"


def test_shapes_that_cannot_be_closed_leave_outputs_as_declared() -> None:
    loaded = openvino_core().read_model(tiny_detector(None).SerializeToString())
    sides = [
        d.dim_value for d in outline(loaded, {}, 64).graph.output[0].type.tensor_type.shape.dim
    ]
    assert sides == [1, 6, 64]
    assert loaded.inputs[0].partial_shape.is_dynamic, "the model was changed"
