"""int8 engines for TensorRT: what is calibrated on, and where it runs; TensorRT is a stand-in."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from fake_tensorrt import PREFIX, fake_tensorrt

from saccade.data.assemble import unlabelled_image
from saccade.data.contract import LabelledImage
from saccade.errors import DataError, RuntimeFailure
from saccade.models.onnx_file import read_onnx
from saccade.models.onnx_model import image_input
from saccade.optimize import tensorrt_quantization
from saccade.optimize.quantization.calibration import CalibrationData
from saccade.optimize.quantization.make import details_path
from saccade.optimize.tensorrt_quantization import TensorRtQuantizer
from saccade.optimize.worker import Worker
from saccade.runtimes import tensorrt_cache
from saccade.runtimes.tensorrt_cache import Builder
from saccade.testing.tiny_models import tiny_config


def pictures(folder: Path, count: int, contrast: float) -> tuple[LabelledImage, ...]:
    """Smooth random images, grey where the contrast is small."""
    folder.mkdir()
    random = np.random.default_rng(1)
    found = []
    for index in range(count):
        coarse = 128 + contrast * random.uniform(-127, 127, (8, 8, 3))
        image = cv2.resize(coarse.astype(np.uint8), (64, 64))
        cv2.imwrite(str(folder / f"{index}.png"), image)
        found.append(unlabelled_image((folder / f"{index}.png", 64, 64)))
    return tuple(found)


@pytest.fixture
def trt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    module = fake_tensorrt()
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    monkeypatch.setenv(tensorrt_cache.FOLDER_VARIABLE, str(tmp_path / "engines"))
    monkeypatch.setattr(tensorrt_quantization, "_builder", lambda: Builder("10.3.0", "NVIDIA L4"))
    return module


def test_images_of_the_kind_in_use_calibrate(tmp_path: Path, trt: Any) -> None:
    images = pictures(tmp_path / "images", 10, 1.0)
    data = CalibrationData(images[:5], compared=images[5:])
    target = tmp_path / "int8.engine"
    TensorRtQuantizer().run(tiny_config(tmp_path, (64, 64)), (64, 64), data, str(target))
    assert target.read_bytes() == PREFIX + b"FP16+INT8"
    assert list(tmp_path.glob("partial-*")) == []
    details = json.loads(details_path(target).read_text("utf-8"))
    assert details["images"] == 5
    assert "only 5 images calibrate" in details["doubts"][0]
    assert (tmp_path / "engines").is_dir()  # the kernel timings


def test_tensorrt_is_fed_every_sample_and_then_told_the_end(
    tmp_path: Path, trt: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[Any] = []

    class OnGpu:
        def __init__(self, array: Any) -> None:
            self.array = array

        def cuda(self) -> OnGpu:
            held.append(self.array)
            return self

        def data_ptr(self) -> int:
            return len(held)

    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(from_numpy=OnGpu))
    config = tiny_config(tmp_path, (64, 64))
    samples = [np.full((1, 3, 64, 64), value, np.float32) for value in (0.25, 0.75)]
    TensorRtQuantizer().engine(config, (64, 64), samples)
    calibrator = trt.config.int8_calibrator
    assert calibrator.get_batch_size() == 1
    given = [calibrator.get_batch(["images"]) for _ in range(3)]
    assert given == [[1], [2], None]
    assert [float(array.mean()) for array in held] == [0.25, 0.75]


def test_a_fixed_model_is_built_for_the_size_in_use(
    tmp_path: Path, trt: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = []

    def built(model: Path, *_: Any) -> bytes:
        shapes.append(image_input(read_onnx(model))[0].shape)
        return b"engine"

    monkeypatch.setattr(tensorrt_quantization, "built_engine", built)
    TensorRtQuantizer().engine(tiny_config(tmp_path, (96, 96)), (64, 64), [])
    assert shapes == [(1, 3, 64, 64)]


def test_images_of_another_kind_are_refused_before_anything_is_built(
    tmp_path: Path, trt: Any
) -> None:
    blank = pictures(tmp_path / "blank", 8, 0.0)
    used = pictures(tmp_path / "used", 8, 1.0)
    target = tmp_path / "int8.engine"
    with pytest.raises(DataError, match="not of the kind that the model is used on"):
        data = CalibrationData(blank, compared=used)
        TensorRtQuantizer().run(tiny_config(tmp_path, (64, 64)), (64, 64), data, str(target))
    assert not target.exists()
    assert trt.log == []


def test_a_failure_in_the_worker_is_one_that_the_search_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorRT's and CUDA's own errors share no base; the study has to go on after them."""
    monkeypatch.setenv(tensorrt_cache.FOLDER_VARIABLE, str(tmp_path / "engines"))
    # Neither this package nor a GPU is of use to the worker.
    package = tmp_path / "path" / "tensorrt"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("__version__ = '10.3.0'\n")
    images = pictures(tmp_path / "images", 4, 1.0)
    config = tiny_config(tmp_path, (64, 64))
    kind = "saccade.optimize.tensorrt_quantization:TensorRtQuantizer"
    with Worker(kind, (), environment={"PYTHONPATH": str(package.parent)}) as worker:
        target = tmp_path / "int8.engine"
        with pytest.raises(RuntimeFailure):
            worker.call("run", config, (64, 64), CalibrationData(images), str(target))
        assert worker.alive
    assert not target.exists()
