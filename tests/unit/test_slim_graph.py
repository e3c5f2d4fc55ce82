"""Outputs that nobody reads go, with what computes them, and the rest says the same."""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from saccade.errors import MissingExtraError, ModelError
from saccade.models import graph_slim
from saccade.models.description import BoxOutputs
from saccade.models.graph_argmax import why_not_argmax
from saccade.models.onnx_file import read_onnx
from saccade.models.onnx_run import run_once
from saccade.models.read_outputs import described_with, read_outputs, with_outputs
from saccade.optimize.change import PlanContext
from saccade.optimize.changes import slim_graph as module
from saccade.optimize.changes.slim_graph import SlimGraph
from saccade.pipeline.pipeline import Pipeline
from saccade.runtimes.contract import OperatorTime
from saccade.testing.example_contexts import example_contexts
from saccade.testing.tiny_auxiliary import tiny_auxiliary, tiny_auxiliary_config
from saccade.testing.tiny_segmenter import HW


@pytest.fixture
def context(tmp_path: Path) -> PlanContext:
    module._examined.cache_clear()
    base = next(example_contexts(tmp_path))
    return replace(base, config=tiny_auxiliary_config(tmp_path), folder=tmp_path / "made")


def noise() -> dict[str, NDArray[np.float32]]:
    return {"images": np.random.default_rng(2).normal(size=(1, 3, *HW)).astype(np.float32)}


def test_the_description_names_what_is_read(context: PlanContext) -> None:
    described = context.config.description
    assert read_outputs(described) == (0,)
    assert read_outputs(replace(described, decode="logits+background")) == (0,)
    assert read_outputs(replace(described, decode="yolov8_seg")) is None
    boxes = replace(described, decode="nms_inside", outputs=BoxOutputs(3, 1, 4))
    assert read_outputs(boxes) == (1, 3, 4)
    left = described_with(boxes, (1, 3, 4)).outputs
    assert left == BoxOutputs(1, 0, 2)


def test_an_auxiliary_head_is_gone_and_the_masks_are_the_same(context: PlanContext) -> None:
    before = context.config
    assert SlimGraph().applies(context) is None
    after = SlimGraph().apply(context)
    whole, left = read_onnx(before.model.path), read_onnx(after.model.path)
    assert why_not_argmax(whole) == "the model has 2 outputs"
    assert why_not_argmax(left) is None
    assert "aux" not in {name for node in left.graph.node for name in node.output}
    assert "third" not in {tensor.name for tensor in left.graph.initializer}
    assert after.model.size_mb < before.model.size_mb
    image = np.random.default_rng(5).integers(0, 255, (50, 70, 3), np.uint8)
    masks = []
    for config in (before, after):
        with Pipeline(config) as pipeline:
            masks.append(pipeline(image).mask)
    assert np.array_equal(*masks) and len(np.unique(masks[0])) > 1
    reason = SlimGraph().applies(replace(context, config=after))
    assert reason is not None and "every output is read" in reason


def test_the_gain_is_the_time_of_what_goes(context: PlanContext) -> None:
    times = (OperatorTime("first", "Conv", 2.0), OperatorTime("auxiliary", "Conv", 6.0))
    measured = replace(context, profile=replace(context.profile, operators=times))
    unknown = replace(context, profile=replace(context.profile, operators=()))
    many, some = SlimGraph().predict(measured), SlimGraph().predict(unknown)
    assert many.gain > some.gain > 1
    assert "measured" in many.basis and "number of nodes" in some.basis
    assert many.shrinks["model_mb"] < 1


def test_without_onnxslim_dead_outputs_go_all_the_same(
    context: PlanContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_slim, "can_slim", lambda: False)
    monkeypatch.setitem(sys.modules, "onnxslim", None)
    left = read_onnx(SlimGraph().apply(context).model.path)
    assert [output.name for output in left.graph.output] == ["planes"]
    with pytest.raises(MissingExtraError, match=r"saccade\[slim\]"):
        graph_slim.slimmed(left)


def test_a_rewriting_that_says_something_else_is_refused(
    context: PlanContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoiled(model: onnx.ModelProto) -> onnx.ModelProto:
        result = onnx.ModelProto()
        result.CopyFrom(model)
        for tensor in result.graph.initializer:
            if tensor.name == "second":
                values = numpy_helper.to_array(tensor) * np.float32(1.01)
                tensor.CopyFrom(numpy_helper.from_array(values, "second"))
        return result

    monkeypatch.setattr(graph_slim, "slimmed", spoiled)
    monkeypatch.setattr(graph_slim, "can_slim", lambda: True)
    with pytest.raises(ModelError, match="output 0 differs by"):
        SlimGraph().apply(context)
    assert not any(context.folder.iterdir())


@pytest.mark.parametrize(
    ("stored", "kind", "said"),
    [("int8", "onnx", "stored as int8"), ("fp32", "openvino_ir", "openvino_ir format")],
)
def test_what_slimming_would_undo_is_left_alone(
    context: PlanContext, stored: Any, kind: str, said: str
) -> None:
    model = replace(context.config.model, stored=stored, format=kind)
    reason = SlimGraph().applies(replace(context, config=replace(context.config, model=model)))
    assert reason is not None and said in reason


def folded_graph() -> onnx.ModelProto:
    """A tiny model that says in nine nodes what two can."""
    names = [f"x{index}" for index in range(8)]
    nodes = [helper.make_node("Identity", [a], [b], b) for a, b in pairwise(names)]
    nodes.insert(0, helper.make_node("Conv", ["images", "w"], ["x0"], "conv"))
    nodes.append(helper.make_node("Relu", ["x7"], ["planes"], "relu"))
    weights = np.random.default_rng(0).normal(size=(4, 3, 1, 1)).astype(np.float32)
    graph = helper.make_graph(
        nodes,
        "folded",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, *HW])],
        [helper.make_tensor_value_info("planes", TensorProto.FLOAT, [1, 4, *HW])],
        [numpy_helper.from_array(weights, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_onnxslim_leaves_fewer_nodes_metadata_and_the_program(context: PlanContext) -> None:
    pytest.importorskip("onnxslim")
    from saccade.models.files import model_file

    model = folded_graph()
    model.metadata_props.add(key="names", value="{0: 'a'}")
    path = context.folder.parent / "folded.onnx"
    onnx.save(model, str(path))
    found = replace(model_file(path), program="net.pt2")
    foldable = replace(context, config=replace(context.config, model=found))
    assert SlimGraph().applies(foldable) is None
    after = SlimGraph().apply(foldable)
    left = read_onnx(after.model.path)
    assert len(left.graph.node) == 2
    assert left.metadata_props == model.metadata_props
    assert after.model.program == "net.pt2"
    assert after.description == context.config.description
    assert np.allclose(run_once(model, noise())[0], run_once(left, noise())[0], atol=1e-6)


def test_subgraphs_and_old_inputs_keep_what_they_read() -> None:
    """Graphs inside `If` name values of the outer one, and old files list constants as inputs."""
    inner = [
        helper.make_graph(
            [helper.make_node("Add", [name, "bias"], [f"{name}_out"], f"{name}_add")],
            name,
            [],
            [helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, [2])],
        )
        for name in ("kept", "other")
    ]
    vector = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xyz"]
    old = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [2]) for n in ("bias", "unused")]
    graph = helper.make_graph(
        [
            helper.make_node("Relu", ["x"], ["kept"], "a"),
            helper.make_node("Neg", ["x"], ["other"], "b"),
            helper.make_node("If", ["yes"], ["y"], "c", then_branch=inner[0], else_branch=inner[1]),
            helper.make_node("Add", ["x", "unused"], ["z"], "d"),
        ],
        "branches",
        [vector[0], *old],
        vector[1:],
        [
            numpy_helper.from_array(np.array(True), "yes"),
            numpy_helper.from_array(np.float32([1, 2]), "bias"),
            numpy_helper.from_array(np.float32([3, 4]), "unused"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    left = with_outputs(model, [0])
    onnx.checker.check_model(left)
    assert [node.name for node in left.graph.node] == ["a", "b", "c"]
    assert [value.name for value in left.graph.input] == ["x", "bias"]
    x = {"x": np.float32([5, -6])}
    assert np.array_equal(run_once(model, x)[0], run_once(left, x)[0])
    assert [output.name for output in model.graph.output] == ["y", "z"]
    with pytest.raises(ModelError, match="the model has 2"):
        with_outputs(model, [2])


def test_the_other_head_may_be_the_one_that_is_read() -> None:
    left = with_outputs(tiny_auxiliary(), [1])
    assert [output.name for output in left.graph.output] == ["aux"]
    assert np.array_equal(run_once(tiny_auxiliary(), noise())[1], run_once(left, noise())[0])
