"""Ranges from single images, and when LiteRT models are quantized."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from unittest.mock import Mock

import cv2
import numpy as np
import pytest
from litert_nets import SIDE, write_chain

from saccade.data.assemble import unlabelled_image
from saccade.data.contract import Dataset, LabelledImage
from saccade.errors import DataError
from saccade.models.files import model_file
from saccade.optimize.change import PlanContext, Tried
from saccade.optimize.changes.litert_int8 import RANGES, QuantizeLiteRt
from saccade.optimize.litert_activations import run, watching
from saccade.optimize.litert_bias import _layers, corrected, rounded
from saccade.optimize.litert_calibrated import Calibrated, _full_integer, combined
from saccade.optimize.litert_quantization import LiteRtQuantizer
from saccade.optimize.litert_recipe import LiteRtRecipe, Ranges
from saccade.optimize.litert_sensitivity import measure, weighted
from saccade.optimize.quantization.calibration import CalibrationData
from saccade.optimize.quantization.make import details_of
from saccade.pipeline.config import PipelineConfig, RuntimeOptions
from saccade.runtimes.contract import SessionRequest
from saccade.runtimes.litert import LiteRt
from saccade.testing.optimization_conformance import example_contexts
from saccade.testing.tiny_models import reference, tiny_config, write_tiny


@pytest.mark.parametrize(
    ("ranges", "low", "high"), [("mean", -2.0, 5.0), ("widest", -3.0, 13.0), ("inner", -2.8, 10.6)]
)
def test_ranges_of_single_images_are_combined(ranges: Ranges, low: float, high: float) -> None:
    ends = [(-1.0, 1.0), (-2.0, 1.0), (-3.0, 13.0)]
    each = [
        {"relu": {"min": np.array([[a]]), "max": np.array([[b]]), "num_samples": 1}, "weight": {}}
        for a, b in ends
    ]
    found = combined(each, ranges)
    assert found["weight"] == {}
    assert found["relu"]["min"].item() == pytest.approx(low)
    assert found["relu"]["max"].item() == pytest.approx(high)
    assert found["relu"]["min"].shape == (1, 1)


@pytest.fixture
def context(tmp_path: Path) -> PlanContext:
    pytest.importorskip("ai_edge_quantizer")
    for context in example_contexts(tmp_path):
        if context.config.runtime == "litert":
            return replace(context, video=True)
    raise AssertionError("no context runs in LiteRT")


def test_it_applies_to_a_float_model_in_litert(context: PlanContext) -> None:
    assert QuantizeLiteRt().applies(context) is None


def test_a_quantized_model_is_left_alone(context: PlanContext) -> None:
    model = replace(context.config.model, stored="int8")
    done = replace(context, config=replace(context.config, model=model))
    assert QuantizeLiteRt().applies(done) == "the model is quantized already"


def test_without_images_there_is_nothing_to_calibrate_on(context: PlanContext) -> None:
    assert "no frames" in str(QuantizeLiteRt().applies(replace(context, video=False)))


def climbed(
    context: PlanContext, first: QuantizeLiteRt, drops: dict[str, float]
) -> list[QuantizeLiteRt]:
    """Every step of a ladder on which nothing was good enough; ranges cost what is said."""
    tried = [Tried(first, drops.get(first.ranges, 0.5))]
    while (step := first.next_rung(tried, context)) is not None:
        tried.append(Tried(step, drops.get(step.ranges, 0.5)))
        assert len(tried) < 20
    return [cast(QuantizeLiteRt, one.change) for one in tried]


def test_the_ladder_goes_from_ranges_to_layers_that_stay_float(context: PlanContext) -> None:
    floats, integers = (
        climbed(context, first, {"widest": 0.1}) for first in QuantizeLiteRt.variants(context)
    )
    assert [step.ranges for step in floats] == [*RANGES, "widest", "widest"]
    assert [step.sensitive for step in floats] == ["none"] * len(RANGES) + ["skip", "mixed"]
    assert [step.ranges for step in integers] == list(RANGES)
    assert len({step.label for step in floats + integers}) == len(floats + integers)


def test_closed_rungs_say_why(context: PlanContext) -> None:
    floats, integers = (
        dict(first.closed_rungs(context)) for first in QuantizeLiteRt.variants(context)
    )
    assert "not as .tflite" in floats["quantization-aware training"]
    assert "most sensitive layers float" not in floats
    assert "Edge TPU" in integers["most sensitive layers float"]


def test_a_video_calibrates_whatever_images_there_are(context: PlanContext) -> None:
    one = Dataset("calibration", cast(Any, (None,)), (), labelled=False)
    assert QuantizeLiteRt().applies(replace(context, calibration=one)) is None
    alone = replace(context, calibration=one, video=False)
    assert "a single image to calibrate on" in str(QuantizeLiteRt().applies(alone))


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Calibrated:
    """A net whose second layer gives one channel hundreds of times as wide as the others."""
    pytest.importorskip("ai_edge_quantizer")
    path = write_chain(tmp_path_factory.mktemp("wide") / "wide.tflite", 500.0)
    random = np.random.default_rng(1)
    samples = [random.random((1, 3, SIDE, SIDE), np.float32) for _ in range(8)]
    return Calibrated.of(path, samples, LiteRtRecipe())


def outputs(content: bytes, images: Sequence[Any]) -> Any:
    interpreter = watching(content)
    found = []
    for image in images:
        run(interpreter, image)
        found.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).copy())
    return np.concatenate(found)


def test_the_layers_beside_a_wide_activation_are_the_most_sensitive(wide: Calibrated) -> None:
    assert [name for name, _ in weighted(wide.model.read_bytes())] == ["c0", "c1", "c2", "c3"]
    ranked = measure(wide)
    assert len(ranked) == 4
    assert {item.node for item in ranked[:2]} == {"c1", "c2"}
    assert ranked[1].error > 10 * ranked[2].error


def test_layers_kept_float_repair_what_a_wide_activation_breaks(wide: Calibrated) -> None:
    exact = outputs(wide.model.read_bytes(), wide.images)
    errors = [
        float(np.square(outputs(wide.quantized(LiteRtRecipe(), kept), wide.images) - exact).mean())
        for kept in ((), ("c1", "c2"))
    ]
    assert errors[1] < 0.1 * errors[0]


def test_one_layer_alone_is_int8(wide: Calibrated) -> None:
    kinds = [op["op_name"] for op in operators(wide.only("c1"))]
    assert kinds == ["CONV_2D", "QUANTIZE", "CONV_2D", "DEQUANTIZE", "CONV_2D", "CONV_2D"]


def operators(content: bytes) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(model_content=content)._get_ops_details()


def test_only_the_layer_that_gives_an_output_answers_in_floats(tmp_path: Path) -> None:
    """A layer whose name begins like an output's is another one."""
    pytest.importorskip("ai_edge_quantizer")
    asked = Mock()
    _full_integer(asked, "float", write_chain(tmp_path / "net.tflite"))
    pattern = asked.add_dynamic_config.call_args.args[0]
    assert re.search(pattern, "c3;")
    assert not re.search(pattern, "c30;")


def test_input_and_outputs_keep_their_widest_range() -> None:
    each = [{"out": {"min": np.array([0.0]), "max": np.array([top])}} for top in (1.0, 9.0)]
    assert combined(each, "mean")["out"]["max"].item() == 5.0
    assert combined(each, "mean", ends={"out"})["out"]["max"].item() == 9.0


def test_biases_take_back_what_rounding_shifts(tmp_path: Path) -> None:
    """Coarse weights on a constant image shift every channel; the correction removes that."""
    pytest.importorskip("ai_edge_litert")
    path = write_tiny("tflite", tmp_path, (64, 64))
    model = path.read_bytes()
    image = np.full((1, 3, 64, 64), 0.7, np.float32)
    images = [np.ascontiguousarray(image.transpose(0, 2, 3, 1))]
    plain = bytearray(model)
    for layer in _layers(plain):
        layer.weight[...] = rounded(layer.weight, layer.axis)
    shifts = []
    for index, content in enumerate((bytes(plain), corrected(model, images))):
        target = tmp_path / f"{index}.tflite"
        target.write_bytes(content)
        request = SessionRequest(model_file(target), (64, 64), RuntimeOptions(), "images")
        shifts.append(np.abs(LiteRt.open(request).infer(image)[0] - reference(image)).max())
    assert shifts[1] < shifts[0] / 10


def test_weights_lie_on_the_steps_of_their_channel() -> None:
    weight = np.array([[1.0, 0.5, 0.001], [0.0, 0.0, 0.0]], np.float32)
    found = rounded(weight, axis=0)
    assert found == pytest.approx(np.array([[1.0, 64 / 127, 0.0], [0.0, 0.0, 0.0]]))


# What the worker does, with real images


def images_of(folder: Path, kind: str, count: int = 10) -> tuple[LabelledImage, ...]:
    """Smooth pictures, or noise that fills the range of pixels."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    paths = []
    for index in range(count):
        coarse = random.integers(0, 255, (3, 3, 3)).astype(np.uint8)
        picture = cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC) // 8 + 100
        noise = np.where(random.random((SIDE, SIDE, 3)) > 0.5, 255, 0).astype(np.uint8)
        paths.append(folder / f"{index}.png")
        cv2.imwrite(str(paths[-1]), {"picture": picture, "noise": noise}[kind])
    return tuple(unlabelled_image((path, SIDE, SIDE)) for path in paths)


@pytest.fixture
def config(tmp_path: Path) -> PipelineConfig:
    pytest.importorskip("ai_edge_quantizer")
    model = model_file(write_chain(tmp_path / "chain.tflite", 500.0))
    return tiny_config(tmp_path, (SIDE, SIDE), model=model, runtime="litert", input_size=SIDE)


def test_what_is_known_of_a_file_is_written_beside_it(
    config: PipelineConfig, tmp_path: Path
) -> None:
    data = CalibrationData(images_of(tmp_path / "some", "picture", 4))
    target = tmp_path / "int8.tflite"
    LiteRtQuantizer().run(config, data, LiteRtRecipe(sensitive="skip"), str(target))
    known = details_of(target)
    assert known["float_layers"][0] in ("c1", "c2")
    assert len(known["sensitivity"]) == 4
    assert "only 4 images" in known["doubts"][0]
    assert list(tmp_path.glob("sensitivity-*.json"))
    assert not list(tmp_path.glob("partial-*"))


def test_images_of_another_kind_are_refused(config: PipelineConfig, tmp_path: Path) -> None:
    used = images_of(tmp_path / "used", "picture")
    data = CalibrationData(images_of(tmp_path / "other", "noise"), None, used)
    with pytest.raises(DataError, match="not of the kind that the model is used on"):
        LiteRtQuantizer().run(config, data, LiteRtRecipe(), str(tmp_path / "int8.tflite"))
    assert not (tmp_path / "int8.tflite").exists()
    alike = CalibrationData(images_of(tmp_path / "alike", "picture"), None, used)
    LiteRtQuantizer().run(config, alike, LiteRtRecipe(), str(tmp_path / "int8.tflite"))
    assert details_of(tmp_path / "int8.tflite")["doubts"] == []
