"""What int8 after training is made of, each on a graph whose right answer is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from models_graphs import attention
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from saccade.data.assemble import unlabelled_image
from saccade.errors import DataError, ModelError, RuntimeFailure
from saccade.models.onnx_run import run_once
from saccade.optimize import executorch_quantization
from saccade.optimize.changes.int8 import _situation
from saccade.optimize.quantization import make
from saccade.optimize.quantization.activations import float_session, observe
from saccade.optimize.quantization.bias import corrected
from saccade.optimize.quantization.calibration import CalibrationData, calibration_tensors
from saccade.optimize.quantization.domain import domain_gap
from saccade.optimize.quantization.equalize import equalized
from saccade.optimize.quantization.kept_float import worst
from saccade.optimize.quantization.layers import head_nodes, layers, named
from saccade.optimize.quantization.qdq import OnnxRuntimeQdq
from saccade.optimize.quantization.recipe import Recipe
from saccade.optimize.quantization.rounding import rounded_weights
from saccade.optimize.quantization.sensitivity import Sensitivity, measure, relative_error
from saccade.optimize.quantization.weights import as_fp16, as_int8
from saccade.pipeline.config import TrackerOptions
from saccade.testing.optimization_conformance import example_contexts
from saccade.testing.tiny_depthwise import BLOCKS, textures, tiny_depthwise
from saccade.testing.tiny_instance_segmenter import tiny_instance_segmenter_config
from saccade.testing.tiny_models import tiny_config
from saccade.testing.tiny_segmenter import tiny_segmenter_config
from saccade.testing.wide_ranges import pairs, widen

FACTOR = 300.0
LAYERS = 2 + 3 * BLOCKS


def outputs(model: onnx.ModelProto, samples: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    session = float_session(model)
    return np.concatenate([session.run(None, {"images": sample})[0] for sample in samples])


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return tiny_depthwise()


@pytest.fixture(scope="module")
def samples() -> list[NDArray[np.float32]]:
    return textures(12)


@pytest.fixture(scope="module")
def wide(model: onnx.ModelProto) -> onnx.ModelProto:
    """One activation widened: between the depthwise layer and the projection of block 2."""
    chosen = [pair for pair in pairs(model) if pair.second == "project2"]
    assert len(chosen) == 1
    return widen(model, chosen, FACTOR)


def test_layers_are_told_with_what_they_take_and_give(model: onnx.ModelProto) -> None:
    found = {layer.node: layer for layer in layers(model)}
    assert len(found) == LAYERS
    assert found["depth1"].depthwise
    assert not found["expand1"].depthwise
    assert found["depth1"].taken == "expand1_r"
    assert found["depth1"].given == "depth1_r"  # with the ReLU, which runtimes fuse
    assert found["project1"].given == "project1"
    assert found["classes"].channel_axis == 0


def test_nodes_without_names_get_some(model: onnx.ModelProto) -> None:
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    for node in bare.graph.node:
        node.name = ""
    names = [node.name for node in named(bare).graph.node]
    assert len(set(names)) == len(names)
    assert all(names)


def test_the_head_is_what_follows_the_last_layers(model: onnx.ModelProto) -> None:
    assert head_nodes(model, 0) == []
    assert set(head_nodes(model, 1)) == {"classes"}
    assert set(head_nodes(model, 2)) == {"classes", "flat", "pooled", f"project{BLOCKS - 1}"}


def test_products_of_two_activations_are_no_layers() -> None:
    model = attention()
    assert head_nodes(model, 1) == ["out"]
    products = {"out", "mixed", "attended", "alike", "turned"}
    assert set(head_nodes(model, 2)) == products | set("qkv")


def test_weights_are_rounded_in_steps_of_their_own_channel() -> None:
    weights = np.array([[1.0, 0.5], [100.0, 30.0]], np.float32)
    rounded = rounded_weights(weights, 0)
    assert np.abs(rounded - weights).max(axis=1) == pytest.approx([0, 0], abs=0.5)
    assert abs(rounded[0, 1] - 0.5) <= 0.5 / 127
    assert rounded_weights(weights, 1)[0, 1] == pytest.approx(0.5, abs=30 / 127 / 2 + 1e-6)


def test_widening_changes_nothing_in_float(
    model: onnx.ModelProto, wide: onnx.ModelProto, samples: list[NDArray[np.float32]]
) -> None:
    before, after = outputs(model, samples), outputs(wide, samples)
    assert np.abs(before - after).max() <= 1e-4 * np.abs(before).max()
    ends = [observe(m, samples).of("depth2_r", per_channel=False)[1] for m in (model, wide)]
    assert ends[1] > 20 * ends[0]


def test_a_sample_that_is_refused_is_a_failure_of_the_runtime(model: onnx.ModelProto) -> None:
    with pytest.raises(RuntimeFailure, match="refused a sample"):
        observe(model, [np.zeros((1, 5, 8, 8), np.float32)])


def test_the_layers_beside_a_wide_activation_are_the_most_sensitive(
    wide: onnx.ModelProto, samples: list[NDArray[np.float32]]
) -> None:
    ranked = measure(wide, samples, observe(wide, samples), OnnxRuntimeQdq.scheme)
    assert len(ranked) == LAYERS
    assert {item.node for item in ranked[:2]} == {"depth2", "project2"}
    assert ranked[1].error > 10 * ranked[2].error
    assert {item.node for item in worst(ranked, 0.95, 0.15)} == {"depth2", "project2"}


def test_the_worst_layers_are_as_few_as_hold_the_error() -> None:
    ranked = [Sensitivity(str(i), "Conv", error) for i, error in enumerate((8.0, 1.0, 0.5, 0.5))]
    assert [item.node for item in worst(ranked, 0.75, 1.0)] == ["0"]
    assert [item.node for item in worst(ranked, 0.9, 1.0)] == ["0", "1"]
    assert [item.node for item in worst(ranked, 1.0, 0.5)] == ["0", "1"]


def test_errors_of_small_channels_count_as_much_as_those_of_large_ones() -> None:
    """A detector's boxes are hundreds of pixels, its scores below one."""
    exact = np.stack([np.full(50, 400.0), np.full(50, 0.5)])[None]
    boxes, scores = exact.copy(), exact.copy()
    boxes[:, 0] *= 1.1
    scores[:, 1] *= 1.1
    assert relative_error([[exact]], [[boxes]]) == pytest.approx(
        relative_error([[exact]], [[scores]])
    )
    # Samples of different sizes are summed, not stacked.
    assert relative_error([[exact], [exact[..., :20]]], [[exact], [exact[..., :20]]]) == 0


def test_a_channel_that_is_always_zero_does_not_drown_the_others() -> None:
    exact = np.stack([np.full(50, 3.0), np.zeros(50)])[None]
    rough = exact + 0.03
    assert relative_error([[exact]], [[rough]]) == pytest.approx(1e-4)
    assert relative_error([[exact * 0]], [[rough]]) == 0


def test_equalizing_undoes_wide_ranges_and_changes_nothing_in_float(
    wide: onnx.ModelProto, samples: list[NDArray[np.float32]]
) -> None:
    ranges = observe(wide, samples)
    even, count = equalized(wide, ranges)
    assert count == len(pairs(wide)) + BLOCKS - 1  # projections are followed without a ReLU
    before, after = outputs(wide, samples), outputs(even, samples)
    assert np.abs(before - after).max() <= 1e-4 * np.abs(before).max()
    _, high = observe(even, samples).of("depth2_r", per_channel=True)
    live = high > 0
    assert high[live].max() <= 1.01 * high[live].min()


def test_bias_correction_takes_back_the_shift_of_means(
    model: onnx.ModelProto, samples: list[NDArray[np.float32]], tmp_path: Path
) -> None:
    """The biases of one layer are moved away on purpose, by what rounding could have done."""
    target = tmp_path / "int8.onnx"
    OnnxRuntimeQdq.quantize(model, samples, Recipe(), (), target)
    quantized = onnx.load(str(target))
    spoiled, shift = spoil(quantized, model)
    fixed = corrected(spoiled, quantized, samples)
    name = next(n for n in quantized.graph.node if n.name == "expand0").input[2]
    before, after = (bias_of(m, name) for m in (quantized, fixed))
    assert np.abs(shift).max() > 0.05
    assert np.corrcoef(after - before, shift)[0, 1] > 0.99


def spoil(
    quantized: onnx.ModelProto, model: onnx.ModelProto
) -> tuple[onnx.ModelProto, NDArray[np.float32]]:
    """A float model whose rounded weights are known to be too small; by how much means move."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    tensor = next(t for t in copy.graph.initializer if t.name == "w_expand0")
    values = numpy_helper.to_array(tensor)
    added = np.random.default_rng(1).uniform(0.05, 0.2, len(values)).astype(np.float32)
    changed = values + added[:, None, None, None]
    tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))
    return copy, added


def bias_of(model: onnx.ModelProto, name: str) -> NDArray[np.float64]:
    node = next(n for n in model.graph.node if name in n.output)
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    return constants[node.input[0]].astype(np.float64) * constants[node.input[1]]


def test_a_refused_model_is_a_failure_of_the_library(tmp_path: Path) -> None:
    with pytest.raises(RuntimeFailure, match="could not quantize"):
        OnnxRuntimeQdq.quantize(
            tiny_depthwise(), [np.zeros((1, 3, 5), np.float32)] * 2, Recipe(), (), tmp_path / "x"
        )
    assert not list(tmp_path.iterdir())


# The domain of calibration images


@pytest.mark.parametrize(
    ("kind", "wider"), [("constant", False), ("noise", True)], ids=["constant", "noise"]
)
def test_images_of_another_kind_are_told_by_their_activations(
    model: onnx.ModelProto, samples: list[NDArray[np.float32]], kind: str, wider: bool
) -> None:
    random = np.random.default_rng(0)
    other = {
        "constant": [np.full_like(s, 0.1 * i - 0.4) for i, s in enumerate(samples)],
        "noise": [(6 * random.standard_normal(s.shape)).astype(np.float32) for s in samples],
    }[kind]
    used = observe(model, textures(12, seed=5))
    gap = domain_gap(observe(model, other), used)
    assert gap.gross
    assert gap.wider is wider
    assert ("wider" if wider else "narrower") in gap.reason
    assert "Calibrate on images from the same source" in gap.reason
    assert not domain_gap(observe(model, samples), used).gross


def test_a_single_image_does_not_calibrate(tmp_path: Path) -> None:
    import cv2

    path = tmp_path / "one.png"
    cv2.imwrite(str(path), np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(DataError, match=r"single calibration image.*some tens"):
        calibration_tensors(
            tiny_config(tmp_path), CalibrationData((unlabelled_image((path, 64, 64)),))
        )


def test_files_are_told_apart_by_all_that_calibrates(tmp_path: Path) -> None:
    context = next(iter(example_contexts(tmp_path)))
    videos = [tmp_path / name for name in ("a.mp4", "b.mp4")]
    for video in videos:
        video.write_bytes(video.name.encode())
    context = replace(context, video=True, source=str(videos[0]))
    settings: dict[str, Any] = {"input_size": 96, "margin": 16, "squeeze": 0.75}
    others = [
        replace(context, config=replace(context.config, **{name: value}))
        for name, value in settings.items()
    ]
    others.append(replace(context, source=str(videos[1])))
    program = context.config.model
    for path in (
        lambda found: make.quantized_path(found, "onnxruntime", Recipe()),
        lambda found: executorch_quantization.quantized_path(found, program),
    ):
        assert len({path(found) for found in (context, *others)}) == 1 + len(others)
    faster = replace(context.config, nms="vectorized", preprocessor="fused")
    same = replace(context, config=faster)
    assert make.quantized_path(same, "onnxruntime", Recipe()) == make.quantized_path(
        context, "onnxruntime", Recipe()
    )


def test_whatever_has_a_detection_head_may_leave_it_float(tmp_path: Path) -> None:
    context = next(iter(example_contexts(tmp_path)))
    masks = tiny_instance_segmenter_config(tmp_path)
    tracking = replace(context.config, task="tracking", tracker=TrackerOptions())
    for config in (context.config, tracking, masks):
        assert _situation("onnxruntime", replace(context, config=config)).has_head
    without = replace(context, config=tiny_segmenter_config(tmp_path))
    assert not _situation("onnxruntime", without).has_head


# Weights stored otherwise


def test_fp16_weights_take_half_and_answer_the_same(
    model: onnx.ModelProto, samples: list[NDArray[np.float32]]
) -> None:
    half = as_fp16(model)
    onnx.checker.check_model(half)
    assert half.ByteSize() < 0.7 * model.ByteSize()
    before, after = outputs(model, samples), outputs(half, samples)
    assert np.abs(before - after).max() < 0.01 * np.abs(before).max()
    assert run_once(half, {"images": samples[0]})[0].dtype == np.float32


def test_weights_that_fp16_cannot_hold_are_refused(model: onnx.ModelProto) -> None:
    large = onnx.ModelProto()
    large.CopyFrom(model)
    tensor = next(t for t in large.graph.initializer if t.name == "w_expand0")
    values = np.full(tensor.dims, 1e6, np.float32)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    with pytest.raises(ModelError, match=r"'w_expand0' hold values beyond fp16's"):
        as_fp16(large)


def test_depthwise_weights_stay_finer_where_they_are_a_small_part_of_the_file() -> None:
    random = np.random.default_rng(0)
    shapes = {"depthwise": (64, 1, 3, 3), "pointwise": (256, 64, 1, 1)}
    arrays = {name: random.normal(0, 1, shape).astype(np.float32) for name, shape in shapes.items()}
    nodes = [
        helper.make_node("Conv", ["images", "depthwise"], ["a"], group=64, pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["a", "pointwise"], ["b"]),
    ]
    ends = [
        [helper.make_tensor_value_info(name, 1, [1, channels, 8, 8])]
        for name, channels in (("images", 64), ("b", 256))
    ]
    tensors = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    made = helper.make_model(
        helper.make_graph(nodes, "separable", *ends, tensors),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    kinds = {node.op_type: node.output[0] for node in as_int8(made).graph.node if node.name}
    assert kinds["Cast"] == "depthwise"
    assert kinds["DequantizeLinear"] == "pointwise"
    sample = random.normal(0, 1, (1, 64, 8, 8)).astype(np.float32)
    before, after = (run_once(m, {"images": sample})[0] for m in (made, as_int8(made)))
    assert np.abs(before - after).max() < 0.02 * np.abs(before).max()


def test_int8_weights_take_a_quarter(
    model: onnx.ModelProto, samples: list[NDArray[np.float32]]
) -> None:
    small = as_int8(model)
    stored = {t.name: t for t in small.graph.initializer}
    weights = sum(len(t.raw_data) for t in stored.values())
    assert weights < 0.5 * sum(len(t.raw_data) for t in model.graph.initializer)
    before, after = outputs(model, samples), outputs(small, samples)
    assert np.abs(before - after).max() < 0.1 * np.abs(before).max()
