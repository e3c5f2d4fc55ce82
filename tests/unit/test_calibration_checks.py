"""Calibration images are checked in the same way for every quantizer and every export."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import onnx
import pytest

from saccade import plugins
from saccade.data.assemble import unlabelled_image
from saccade.data.contract import Dataset, LabelledImage
from saccade.deploy.exports.contract import ExportRequest
from saccade.errors import DataError
from saccade.models.files import model_file
from saccade.optimize.change import PlanContext
from saccade.optimize.executorch_quantization import ExecuTorchQuantizer
from saccade.optimize.quantization.activations import observe
from saccade.optimize.quantization.calibration import CalibrationData, input_tensors
from saccade.optimize.quantization.checked import (
    LOOKED_AT,
    check_calibration,
    spread,
    why_not_calibrated,
)
from saccade.pipeline.config import PipelineConfig
from saccade.testing.optimization_conformance import example_contexts
from saccade.testing.tiny_depthwise import SIZE, tiny_depthwise
from saccade.testing.tiny_models import tiny_config

INT8 = ("onnx_int8", "onnx_int8_symmetric", "openvino_int8", "tflite_int8", "executorch_int8")


def images(folder: Path, kind: str, count: int = 10) -> tuple[LabelledImage, ...]:
    """Smooth pictures, or noise that fills the range of pixels."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    paths = []
    for index in range(count):
        coarse = random.integers(0, 255, (3, 3, 3)).astype(np.uint8)
        picture = cv2.resize(coarse, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC) // 8 + 100
        noise = np.where(random.random((SIZE, SIZE, 3)) > 0.5, 255, 0).astype(np.uint8)
        paths.append(folder / f"{index}.png")
        cv2.imwrite(str(paths[-1]), {"picture": picture, "noise": noise}[kind])
    return tuple(unlabelled_image((path, SIZE, SIZE)) for path in paths)


@pytest.fixture
def config(tmp_path: Path) -> PipelineConfig:
    path = tmp_path / "depthwise.onnx"
    onnx.save(tiny_depthwise(), str(path))
    return tiny_config(tmp_path, (SIZE, SIZE), model=model_file(path), input_size=SIZE)


def doubts(config: PipelineConfig, data: CalibrationData) -> list[str]:
    look = partial(observe, onnx.load(config.model.path))
    return check_calibration(config, data, look(input_tensors(config, data)), look)


def test_few_images_are_doubtful_and_other_kinds_refused(
    config: PipelineConfig, tmp_path: Path
) -> None:
    used, alike = images(tmp_path / "used", "picture"), images(tmp_path / "alike", "picture")
    assert doubts(config, CalibrationData(alike, None, used)) == []
    assert "only 3 images" in doubts(config, CalibrationData(alike[:3], None, used))[0]
    noise = images(tmp_path / "noise", "noise")
    with pytest.raises(DataError, match="not of the kind that the model is used on"):
        doubts(config, CalibrationData(noise, None, used))
    assert doubts(config, CalibrationData(noise)) == []  # there is nothing to compare with


def test_inputs_are_looked_at_all_over() -> None:
    many = [np.full((1,), index, np.float32) for index in range(3 * LOOKED_AT + 1)]
    found = [int(one[0]) for one in spread(many)]
    assert len(found) <= LOOKED_AT
    assert found[0] == 0
    assert found[-1] > 2.5 * LOOKED_AT
    assert len(spread(many[:5])) == 5


@pytest.fixture
def context(tmp_path: Path) -> PlanContext:
    return next(example_contexts(tmp_path))


def test_a_video_is_enough_whatever_images_there_are(context: PlanContext) -> None:
    one = Dataset("calibration", cast(Any, (None,)), (), labelled=False)
    for given, video, wanted in ((None, True, None), (one, True, None), (one, False, "single")):
        found = why_not_calibrated(replace(context, calibration=given, video=video))
        assert found is None if wanted is None else wanted in str(found)
    bare = replace(context, calibration=None, video=False)
    assert "no frames to calibrate on" in str(why_not_calibrated(bare))


@pytest.fixture
def request_of(config: PipelineConfig, tmp_path: Path) -> Any:
    def made(data: CalibrationData) -> ExportRequest:
        (tmp_path / "work").mkdir(exist_ok=True)
        tensors = tuple(input_tensors(config, data))
        return ExportRequest(config, (SIZE, SIZE), tensors, data, tmp_path / "work")

    return made


@pytest.mark.parametrize("name", ["onnx_int8", "onnx_int8_symmetric", "openvino_int8"])
def test_exports_refuse_images_of_another_kind(name: str, request_of: Any, tmp_path: Path) -> None:
    export = plugins.load("exports", name)
    used = images(tmp_path / "used", "picture")
    asked = request_of(CalibrationData(images(tmp_path / "noise", "noise"), None, used))
    if export.applies(asked) is not None:
        pytest.skip(export.applies(asked))
    with pytest.raises(DataError, match="not of the kind that the model is used on"):
        export.write(asked)


def test_exports_in_int8_refuse_a_single_image(request_of: Any, tmp_path: Path) -> None:
    asked = request_of(CalibrationData(images(tmp_path / "one", "picture", 1)))
    reasons = [str(plugins.load("exports", name).applies(asked)) for name in INT8]
    assert all("a single image" in reason or "not installed" in reason for reason in reasons)
    assert "a single image" in reasons[0]
    assert plugins.load("exports", "onnx_fp16").applies(asked) is None


def test_executorch_refuses_images_of_another_kind(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from saccade.testing.tiny_torch import exported, residual_net

    hw = (SIZE, SIZE)
    program = exported(residual_net(8), tmp_path / "net.pt2", hw)
    assert torch.export.load(str(program)) is not None
    config = tiny_config(tmp_path, hw, input_size=SIZE)
    used = images(tmp_path / "used", "picture")
    data = CalibrationData(images(tmp_path / "noise", "noise"), None, used)
    target = tmp_path / "int8.pte"
    with pytest.raises(DataError, match="not of the kind that the model is used on"):
        ExecuTorchQuantizer().run(config, data, str(program), str(target))
    assert not target.exists()
