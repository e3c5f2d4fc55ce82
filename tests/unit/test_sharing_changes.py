"""Ways of sharing: when they apply, what they promise, and that they change what they say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from test_sharing_stages import alone, as_fused, same
from tiny_system import write_video

from saccade.errors import ModelError
from saccade.models.description import Preprocessing
from saccade.models.equivalence import check_same
from saccade.models.files import model_file
from saccade.models.merged_graph import deduplicate, merged
from saccade.models.onnx_file import read_onnx
from saccade.models.onnx_model import image_input
from saccade.models.onnx_run import run_once
from saccade.models.reshape import reshape
from saccade.optimize.sharing.contract import SharingContext
from saccade.optimize.sharing.cost import SystemCost
from saccade.optimize.sharing.decode import ShareDecode
from saccade.optimize.sharing.one_pass import OnePass, work_left
from saccade.optimize.sharing.preprocess import SharePreprocess
from saccade.optimize.sharing.search import plan_sharing
from saccade.pipeline.config import ResolutionPolicy, RuntimeOptions
from saccade.pipeline.system_pipeline import SystemPipeline
from saccade.profile.cost_model import CostModel, StageCost
from saccade.testing.sharing_conformance import tiny_context, tiny_parts
from saccade.testing.tiny_segmenter import HW, tiny_segmenter
from saccade.testing.tiny_yolo import tiny_yolo

TASKS = ("detection", "segmentation")


def context_in(folder: Path) -> SharingContext:
    """Both tiny pipelines on the tiny video."""
    video = folder / "v.mp4"
    return tiny_context(
        tiny_parts(folder), folder, str(video if video.exists() else write_video(video))
    )


@pytest.fixture
def context(tmp_path: Path) -> SharingContext:
    return context_in(tmp_path)


def after(context: SharingContext, change: Any) -> SharingContext:
    """The context once a change was kept."""
    assert change.applies(context) is None
    return replace(context, config=change.apply(context), cost=change.cost(context))


def with_parts(context: SharingContext, part: int, **changes: Any) -> SharingContext:
    parts = list(context.config.parts)
    parts[part] = replace(parts[part], **changes)
    return replace(context, config=replace(context.config, parts=(parts[0], parts[1])))


def results(context: SharingContext) -> list[dict[str, Any]]:
    with SystemPipeline(context.config) as pipeline:
        return list(pipeline.stream(context.plans[0].source))


def check_unchanged(context: SharingContext, before: SharingContext) -> None:
    found = results(context)
    for task, part in zip(TASKS, before.config.parts, strict=True):
        expected = alone(part, before.plans[0].source)
        assert same(task, expected, [result[task] for result in found])


def test_everything_can_be_shared_one_after_the_other(context: SharingContext) -> None:
    assert next(iter(plan_sharing(context)[0])).change.name == "share_decode"
    decoded = after(context, ShareDecode(0, "detection", True))
    assert decoded.config.sharing.decode
    scaled = after(decoded, SharePreprocess())
    check_unchanged(scaled, context)
    one = after(scaled, OnePass())
    assert one.config.parts[0].model == one.config.parts[1].model
    assert one.config.sharing.first_outputs == 1
    check_unchanged(one, context)
    assert "already in use" in (OnePass().applies(one) or "")
    names = {change.change.name for change in plan_sharing(one)[0]}
    assert not names & {"share_decode", "share_preprocess", "one_pass"}


def test_a_model_of_another_fixed_size_is_merged_at_the_size_that_both_see(
    context: SharingContext, tmp_path: Path
) -> None:
    part = context.config.parts[1]
    graph = read_onnx(part.model.path)
    path = tmp_path / "fixed.onnx"
    path.write_bytes(reshape(graph, (HW[0] + 32, HW[1] + 64)).SerializeToString())
    spec, _ = image_input(read_onnx(path))
    description = replace(part.description, input=spec)
    fixed = with_parts(context, 1, model=model_file(path), description=description)
    one = after(after(fixed, ShareDecode(0, "detection", True)), OnePass())
    assert one.config.parts[0].description.input.shape[2:] == HW
    check_unchanged(one, context)


def test_one_pass_runs_overlapped(context: SharingContext) -> None:
    for part in range(2):
        options = RuntimeOptions(threads=2, streams=2, in_flight=3)
        context = with_parts(context, part, execution="overlapped", options=options)
    one = after(after(context, ShareDecode(0, "detection", True)), OnePass())
    check_unchanged(one, context)


def test_one_decode_less_is_what_is_promised(context: SharingContext) -> None:
    change = ShareDecode(0, "detection", True)
    decode = context.cost.parts[1].stages["decode"].wall_ms
    total = context.cost.latency_ms
    assert change.predict(context).bound == pytest.approx(total / (total - decode) / 0.97)
    assert change.cost(context).latency_ms == pytest.approx(total - decode)


def test_readers_that_differ_are_each_tried(context: SharingContext) -> None:
    other = with_parts(context, 1, reader="pyav", resize="planes", preprocessor="fused")
    first, second = ShareDecode.variants(other)
    assert first.label != second.label and first.effect == "near_lossless"
    changed = second.apply(other)
    assert {part.reader for part in changed.parts} == {"pyav"}
    assert {part.resize for part in changed.parts} == {"planes"}
    check_unchanged(replace(other, config=changed), other)


def test_two_looks_at_a_frame_are_not_shared(context: SharingContext) -> None:
    policy = ResolutionPolicy(64, 0.1, 0.5)
    looked = with_parts(context, 0, dynamic_resolution=policy)
    assert "twice" in str(ShareDecode(0, "detection", True).applies(looked))


def test_other_geometries_are_shared_only_by_moving_one(context: SharingContext) -> None:
    description = context.config.parts[1].description
    letterboxed = replace(description, preprocessing=Preprocessing())
    other = with_parts(context, 1, description=letterboxed, input_size=96, shape="square")
    decoded = after(other, ShareDecode(0, "detection", True))
    assert "other geometries" in str(SharePreprocess().applies(decoded))
    assert "other geometries" in str(OnePass().applies(decoded))
    moves = list(SharePreprocess.variants(decoded))
    assert [move.task for move in moves] == ["segmentation", "detection"]
    assert {move.effect for move in moves} == {"lossy"}
    moved = after(decoded, moves[0])
    boxes = {part.description.preprocessing.fit for part in moved.config.parts}
    assert boxes == {"stretch"}
    assert results(moved)[0]["segmentation"].mask.shape == (96, 128)


def test_a_preprocessing_of_the_users_own_is_not_shared(context: SharingContext) -> None:
    decoded = after(context, ShareDecode(0, "detection", True))
    own = with_parts(decoded, 1, preprocessor="my.module:Own")
    assert "is yours" in str(SharePreprocess().applies(own))


def test_converted_models_are_not_merged(context: SharingContext) -> None:
    decoded = after(context, ShareDecode(0, "detection", True))
    part = decoded.config.parts[1]
    converted = with_parts(decoded, 1, model=replace(part.model, format="openvino_ir"))
    assert "openvino_ir" in str(OnePass().applies(converted))


def test_runtimes_that_differ_are_each_tried(context: SharingContext) -> None:
    decoded = after(context, ShareDecode(0, "detection", True))
    other = with_parts(decoded, 1, runtime="openvino")
    changes = list(OnePass.variants(other))
    assert [change.runs_as for change in changes] == [0, 1]
    assert {part.runtime for part in changes[1].apply(other).parts} == {"openvino"}


# Graphs


def fed(pixels: np.ndarray, pre: Preprocessing) -> np.ndarray:
    pixels = pixels if pre.channel_order == "rgb" else pixels[:, ::-1]
    mean, std = np.reshape(pre.mean, (1, 3, 1, 1)), np.reshape(pre.std, (1, 3, 1, 1))
    return ((pixels * pre.scale - mean) / std).astype(np.float32)


@pytest.mark.parametrize("mine", ["rgb", "bgr"])
@pytest.mark.parametrize("theirs", ["rgb", "bgr"])
def test_a_merged_model_answers_as_both(mine: Any, theirs: Any) -> None:
    first, second = tiny_yolo(), tiny_segmenter()
    one = Preprocessing(mine, 1 / 255, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    other = Preprocessing(theirs, 1.0, (100, 90, 80), (50, 60, 70))
    pixels = np.random.default_rng(0).uniform(0, 255, (1, 3, *HW))
    both = merged(first, second, ("images", "images"), (one, other))
    onnx.checker.check_model(both)
    expected = [
        *run_once(first, {"images": fed(pixels, one)}),
        *run_once(second, {"images": fed(pixels, other)}),
    ]
    check_same(expected, run_once(both, {"images": fed(pixels, one)}), "It")


def with_other_head(model: onnx.ModelProto) -> onnx.ModelProto:
    """The segmenter with another head on the same features."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    weights = next(t for t in changed.graph.initializer if t.name == "second")
    values = onnx.numpy_helper.to_array(weights)[::-1].copy()
    weights.CopyFrom(onnx.numpy_helper.from_array(values, "second"))
    return changed


def test_a_backbone_that_both_have_is_computed_once() -> None:
    first = tiny_segmenter()
    second = with_other_head(first)
    both = merged(first, second, ("images", "images"), (Preprocessing(), Preprocessing()))
    assert [node.op_type for node in both.graph.node] == ["Conv", "PRelu", "Conv", "Conv"]
    image = {"images": np.random.default_rng(0).random((1, 3, *HW), np.float32)}
    check_same([*run_once(first, image), *run_once(second, image)], run_once(both, image), "It")


def test_of_the_same_model_twice_both_outputs_are_left() -> None:
    model = tiny_segmenter()
    both = merged(model, model, ("images", "images"), (Preprocessing(), Preprocessing()))
    assert len(both.graph.output) == 2
    image = {"images": np.zeros((1, 3, *HW), np.float32)}
    first, second = run_once(both, image)
    assert np.array_equal(first, second)


def test_nodes_that_draw_numbers_are_never_one() -> None:
    node = onnx.helper.make_node
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node("RandomNormal", [], [name], shape=[2]) for name in ("a", "b")],
        "random",
        [],
        [value(name, onnx.TensorProto.FLOAT, [2]) for name in ("a", "b")],
    )
    model = onnx.helper.make_model(graph)
    assert deduplicate(model) == 0 and len(model.graph.node) == 2


def test_models_in_other_versions_of_onnx_are_merged() -> None:
    old, new = tiny_segmenter(), tiny_segmenter()
    new = onnx.version_converter.convert_version(new, 18)
    both = merged(old, new, ("images", "images"), (Preprocessing(), Preprocessing()))
    assert both.opset_import[0].version == 18
    assert len(run_once(both, {"images": np.zeros((1, 3, *HW), np.float32)})) == 2


def test_operators_of_other_libraries_must_be_of_one_version() -> None:
    models = [tiny_segmenter(), tiny_segmenter()]
    for version, model in enumerate(models, start=1):
        model.opset_import.append(onnx.helper.make_opsetid("own", version))
    with pytest.raises(ModelError, match="'own'"):
        merged(models[0], models[1], ("images", "images"), (Preprocessing(), Preprocessing()))


def test_the_work_that_is_left_is_predicted(context: SharingContext, tmp_path: Path) -> None:
    first = replace(context.config.parts[1], task="other")
    path = tmp_path / "head.onnx"
    path.write_bytes(with_other_head(read_onnx(first.model.path)).SerializeToString())
    second = replace(context.config.parts[1], model=model_file(path))
    assert work_left((context.config.parts[0], second), HW) == pytest.approx(1.0, abs=0.05)
    assert 0 < work_left((first, second), HW) < 0.5
    assert work_left((first, replace(first, task="twin")), HW) == 0.0


def test_a_merge_that_answers_differently_is_refused(
    context: SharingContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = after(context, ShareDecode(0, "detection", True))
    module = "saccade.optimize.sharing.one_pass._merge"

    def wrong(graphs: Any, _merge: Any) -> Any:
        same_input = (Preprocessing(), Preprocessing())
        return merged(graphs[0], graphs[1], ("images", "images"), same_input)

    monkeypatch.setattr(module, wrong)
    with pytest.raises(ModelError, match="answers differently"):
        OnePass().apply(decoded)
    assert not list(decoded.plans[0].folder.glob("both-*.onnx"))


def test_pipelines_are_left_alone_by_planning(context: SharingContext) -> None:
    before = context.config.hash
    plan_sharing(context)
    assert context.config.hash == before
    assert as_fused(context.config.parts[0]).preprocessor == "fused"


def test_one_pass_decodes_once_where_that_alone_did_not_pay(context: SharingContext) -> None:
    one = after(context, OnePass())
    assert one.config.sharing.decode and one.config.sharing.one_pass
    check_unchanged(one, context)
    scaled = after(context, SharePreprocess())
    assert scaled.config.sharing.decode
    check_unchanged(scaled, context)


def test_joining_a_sequential_pipeline_to_an_overlapped_one_is_no_miracle() -> None:
    """Its model still has one request at a time, whoever feeds it."""
    stages = {name: StageCost(4.0, 4.0) for name in ("decode", "preprocess", "postprocess")}
    fast = CostModel({**stages, "infer": StageCost(20.0, 30.0)}, 2, True, 2)
    slow = CostModel({**stages, "infer": StageCost(80.0, 80.0)}, 2, False, 1)
    beside, joined = SystemCost((fast, slow)), SystemCost((fast, slow), joined=True)
    assert beside.frame_ms == pytest.approx(92.0)
    assert joined.scaled(1, "decode", 0.0).frame_ms == pytest.approx(80.0)
    assert SystemCost((slow, slow)).frame_ms == pytest.approx(184.0)
