"""Small PyTorch networks, exported, for tests of what changes their weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from saccade.data.contract import Dataset
from saccade.data.image_folder import ImageFolderFormat
from saccade.models.conversions.contract import ConversionRequest
from saccade.models.conversions.torch_to_onnx import TorchToOnnx
from saccade.models.files import model_file
from saccade.optimize.change import PlanContext
from saccade.pipeline.config import PipelineConfig, RuntimeOptions
from saccade.runtimes.contract import Availability
from saccade.tasks.classification import ClassificationTask
from saccade.testing.planted import planted

HW = (32, 32)
CLASSES = 5
IMAGES = 24


def residual_net(width: int = 32) -> Any:
    """Convolutions, a residual connection, a depthwise convolution, a linear head.

    Args:
        width: channels of the residual stream; within the block there are twice as many.
    """
    import torch

    class Net(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            conv, norm = torch.nn.Conv2d, torch.nn.BatchNorm2d
            self.stem = torch.nn.Sequential(conv(3, width, 3, 2, 1, bias=False), norm(width))
            self.wide = torch.nn.Sequential(conv(width, 2 * width, 1), norm(2 * width))
            self.depth = conv(2 * width, 2 * width, 3, 1, 1, groups=2 * width)
            self.narrow = conv(2 * width, width, 1)
            self.activation = torch.nn.PReLU(width)
            self.head = torch.nn.Linear(width, CLASSES)

        def forward(self, image: Any) -> Any:
            first = torch.relu(self.stem(image))
            inner = self.narrow(self.depth(torch.nn.functional.relu6(self.wide(first))))
            return self.head(self.activation(first + inner).mean((2, 3)))

    torch.manual_seed(0)
    net = Net()
    with torch.no_grad():  # statistics as training would have left them
        for _ in range(40):
            net.train()(torch.randn(16, 3, *HW))
    return net.eval()


def exported(module: Any, path: Path, hw: tuple[int, int] = HW) -> Path:
    """Save the module as an exported program."""
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    torch.export.save(torch.export.export(module, (torch.zeros(1, 3, *hw),)), str(path))
    return path


def pictures(folder: Path, count: int = IMAGES) -> Dataset:
    """Unlabelled images of coloured patches."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for index in range(count):
        patches = random.integers(0, 255, (4, 4, 3), np.uint8)
        Image.fromarray(patches.repeat(8, 0).repeat(8, 1)).save(folder / f"{index:03}.png")
    images = ImageFolderFormat.read(folder).val
    assert images is not None
    return images


def classifier_context(folder: Path, program: Path, runtime: str = "torch") -> PlanContext:
    """A classifier from PyTorch, to be improved for latency, in ``runtime``."""
    model = model_file(program)
    noise = np.random.default_rng(0).normal(size=(2, 3, *HW)).astype(np.float32)
    onnx = TorchToOnnx.convert(model, ConversionRequest(folder / "models", HW, noise))
    config = PipelineConfig(
        "classification",
        model if runtime == "torch" else onnx,
        ClassificationTask.describe(onnx.path),
        HW[0],
        0.7,
        runtime=runtime,
        options=RuntimeOptions(threads=1),
    )
    return PlanContext(
        config=config,
        profile=planted("compute_bound"),
        objective="latency",
        cores=1,
        frame_hw=HW,
        video=False,
        source=str(folder / "images"),
        runtimes={runtime: Availability(True, "1", "CPU", runtime)},
        calibration=pictures(folder / "images"),
        folder=folder / "models",
        labelled=False,
    )
