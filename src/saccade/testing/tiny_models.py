"""A detector small enough to build in a test, and what it must answer."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from saccade.models.description import InputSpec, ModelDescription, Preprocessing
from saccade.models.files import model_file
from saccade.models.torch_lowering import lowered
from saccade.pipeline.config import PipelineConfig
from saccade.runtimes.openvino_core import openvino_core
from saccade.testing.tiny_formats import write_ncnn, write_tflite

STRIDE = 8
SIZE = 64
CLASSES = ("cat", "dog")
_CHANNELS = 4 + len(CLASSES)


def tiny_detector(hw: tuple[int, int] | None = None) -> onnx.ModelProto:
    """One convolution per cell of 8 pixels: ``(1, 3, H, W)`` in, ``(1, 4 + 2, cells)`` out.

    The output is laid out as YOLOv8's; the boxes are arbitrary but always the same.

    Args:
        hw: fixed input height and width, multiples of 8; None for a dynamic size.
    """
    weight, bias = _parameters()
    sides: tuple[int | str, int | str] = hw if hw is not None else ("height", "width")
    cells = hw[0] * hw[1] // STRIDE**2 if hw is not None else "cells"
    graph = helper.make_graph(
        [
            helper.make_node(
                "Conv", ["images", "weight", "bias"], ["features"], "conv", strides=[STRIDE] * 2
            ),
            helper.make_node("Relu", ["features"], ["active"], "relu"),
            helper.make_node("Reshape", ["active", "target"], ["output0"], "join"),
        ],
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, *sides])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, _CHANNELS, cells])],
        [
            numpy_helper.from_array(weight, "weight"),
            numpy_helper.from_array(bias, "bias"),
            numpy_helper.from_array(np.array([1, _CHANNELS, -1]), "target"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def reference(tensor: NDArray[np.float32]) -> NDArray[np.float32]:
    """What `tiny_detector` answers to ``(1, 3, H, W)`` float32, computed with NumPy."""
    weight, bias = _parameters()
    _, _, height, width = tensor.shape
    cells = tensor.reshape(1, 3, height // STRIDE, STRIDE, width // STRIDE, STRIDE)
    features = np.einsum("ncydxe,kcde->nkyx", cells, weight) + bias.reshape(1, -1, 1, 1)
    answer: NDArray[np.float32] = np.maximum(features, 0).reshape(1, _CHANNELS, -1)
    return answer.astype(np.float32)


def write_tiny(model_format: str, folder: Path, hw: tuple[int, int] | None = None) -> Path:
    """Write `tiny_detector` in a format; a new format needs one more line in `WRITERS`."""
    return WRITERS[model_format](folder, hw)


def _write_onnx(folder: Path, hw: tuple[int, int] | None) -> Path:
    path = folder / f"model-{hw}.onnx"
    path.write_bytes(tiny_detector(hw).SerializeToString())
    return path


def _write_torch(folder: Path, hw: tuple[int, int] | None) -> Path:
    """The same convolution as an exported PyTorch program."""
    import torch

    path = folder / f"model-{hw}.pt2"
    torch.export.save(_torch_program(hw), str(path))
    return path


def _torch_program(hw: tuple[int, int] | None) -> Any:
    import torch

    weight, bias = (torch.from_numpy(array) for array in _parameters())

    class Tiny(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, _CHANNELS, STRIDE, STRIDE)
            self.conv.weight.data, self.conv.bias.data = weight, bias

        def forward(self, image: Any) -> Any:
            return self.conv(image).relu().flatten(2)

    free = {2: STRIDE * torch.export.Dim("rows"), 3: STRIDE * torch.export.Dim("columns")}
    example = torch.zeros(1, 3, *(hw or (SIZE, 2 * SIZE)))
    return torch.export.export(Tiny().eval(), (example,), dynamic_shapes=(None if hw else free,))


@cache
def _lowered(hw: tuple[int, int]) -> bytes:
    return lowered(_torch_program(hw), "tiny")


def _write_executorch(folder: Path, hw: tuple[int, int] | None) -> Path:
    path = folder / f"model-{hw}.pte"
    path.write_bytes(_lowered(hw or (SIZE, SIZE)))
    return path


def _write_tflite(folder: Path, hw: tuple[int, int] | None) -> Path:
    return write_tflite(folder / f"model-{hw}.tflite", *_parameters(), hw)


def _write_ncnn(folder: Path, hw: tuple[int, int] | None) -> Path:
    return write_ncnn(folder / f"model-{hw}.param", *_parameters())


def _write_ir(folder: Path, hw: tuple[int, int] | None) -> Path:
    import openvino

    path = folder / f"model-{hw}.xml"
    source = openvino_core().read_model(str(_write_onnx(folder, hw)))
    openvino.save_model(source, str(path), compress_to_fp16=False)
    return path


# How the model is written, by format.
WRITERS = {
    "onnx": _write_onnx,
    "openvino_ir": _write_ir,
    "torch_export": _write_torch,
    "tflite": _write_tflite,
    "ncnn": _write_ncnn,
    "executorch": _write_executorch,
}


def tiny_config(folder: Path, hw: tuple[int, int] | None = None, **changes: Any) -> PipelineConfig:
    """A configuration of `tiny_detector`, which is written into ``folder``.

    Args:
        folder: an existing folder; a model already there is used again.
        hw: as for `tiny_detector`.
        changes: fields of the configuration that differ from the naive ones.
    """
    path = folder / ("tiny.onnx" if hw is None else f"tiny-{hw[0]}x{hw[1]}.onnx")
    if not path.exists():
        path.write_bytes(tiny_detector(hw).SerializeToString())
    described = ModelDescription(
        input=InputSpec("images", "NCHW", (1, 3, *(hw or (None, None))), "float32"),
        preprocessing=Preprocessing(),
        decode="yolov8",
        input_size=max(hw) if hw else SIZE,
        stride=STRIDE,
        class_names=CLASSES,
    )
    naive = PipelineConfig(
        task="detection",
        model=model_file(path),
        description=described,
        input_size=described.input_size,
        iou_threshold=described.iou_threshold,
    )
    return replace(naive, **changes)


def _parameters() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    random = np.random.default_rng(0)
    weight = random.normal(0, 0.05, (_CHANNELS, 3, STRIDE, STRIDE)).astype(np.float32)
    bias = np.array([20, 20, 12, 12, 0.3, 0.3], np.float32)
    return weight, bias
