"""Two small PyTorch networks on one kind of backbone, for tests of what two tasks can share.

The images are coloured patches; the classifier says which colour there is most of, and the
segmenter says of every pixel which colour it has. Both questions are about colour, so one backbone
can serve them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from saccade.models.conversions.contract import ConversionRequest
from saccade.models.conversions.torch_to_onnx import TorchToOnnx
from saccade.models.description import ModelDescription, Preprocessing
from saccade.models.files import model_file
from saccade.optimize.change import PlanContext
from saccade.optimize.sharing.contract import SharingContext
from saccade.optimize.sharing.cost import SystemCost
from saccade.pipeline.config import PipelineConfig, RuntimeOptions
from saccade.pipeline.system import SystemConfig
from saccade.runtimes.contract import Availability
from saccade.tasks.classification import ClassificationTask
from saccade.tasks.segmentation import SegmentationTask
from saccade.testing.planted import planted
from saccade.testing.tiny_torch import exported, pictures

HW = (32, 32)
COLOURS = ("red", "green", "blue")
# Channels of the backbone; wide enough that an inference is what a frame's time goes into.
WIDTH = 48
_PATCH = 8
# Channels where only the structure matters.
NARROW = 8
_FORMATS = {"torch": ("torch_export",), "onnxruntime": ("onnx",)}
_KNOWN = {"scale": 1 / 255, "mean": (0.0,) * 3, "std": (1.0,) * 3, "class_names": COLOURS}


def backbone(width: int = WIDTH) -> Any:
    """Convolutions with normalization, half the size of the image."""
    import torch

    layers: list[Any] = []
    for index in range(4):
        layers += [
            torch.nn.Conv2d(3 if index == 0 else width, width, 3, 2 if index == 0 else 1, 1),
            torch.nn.BatchNorm2d(width),
            torch.nn.ReLU(),
        ]
    return torch.nn.Sequential(*layers)


def classifier(features: Any, width: int = WIDTH) -> Any:
    """``(N, 3)`` scores of an image's main colour."""
    import torch

    class Classifier(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.features = features
            self.head = torch.nn.Linear(width, len(COLOURS))

        def forward(self, image: Any) -> Any:
            return self.head(self.features(image).mean((2, 3)))

    return Classifier()


def segmenter(features: Any, width: int = WIDTH) -> Any:
    """``(N, 3, H, W)`` scores of every pixel's colour."""
    import torch

    class Segmenter(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.features = features
            self.head = torch.nn.Conv2d(width, len(COLOURS), 1)

        def forward(self, image: Any) -> Any:
            planes = self.head(self.features(image))
            return torch.nn.functional.interpolate(
                planes, scale_factor=2.0, mode="bilinear", align_corners=False
            )

    return Segmenter()


def scenes(count: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images ``(N, H, W, 3)`` RGB of noisy patches, and the colour id of each pixel ``(N, H, W)``.

    One colour has more patches than the others.
    """
    random = np.random.default_rng(seed)
    rows, columns = HW[0] // _PATCH, HW[1] // _PATCH
    masks = np.empty((count, *HW), np.uint8)
    for index in range(count):
        shares = np.full(len(COLOURS), 0.25)
        shares[index % len(COLOURS)] = 0.5
        ids = random.choice(len(COLOURS), (rows, columns), p=shares).astype(np.uint8)
        masks[index] = ids.repeat(_PATCH, 0).repeat(_PATCH, 1)
    bright = np.eye(len(COLOURS))[masks] * 120 + 60
    noisy = bright + random.normal(0, 25, bright.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8), masks


def main_colours(masks: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The colour that most pixels of each image have."""
    counts = np.stack([(masks == colour).sum((1, 2)) for colour in range(len(COLOURS))], 1)
    return np.asarray(counts.argmax(1), np.int64)


def trained(
    module: Any,
    images: NDArray[np.uint8],
    wanted: NDArray[Any],
    steps: int = 120,
    learning_rate: float = 3e-3,
) -> Any:
    """The module, taught labels of images or of pixels, in evaluation mode."""
    import torch

    tensors = torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32) / 255)
    labels = torch.from_numpy(wanted.astype(np.int64))
    learning = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(learning, lr=learning_rate)
    module.train()
    for step in range(steps):
        part = torch.arange(8) + 8 * step
        part = part % len(tensors)
        loss = torch.nn.functional.cross_entropy(module(tensors[part]), labels[part])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return module.eval()


def write_scenes(folder: Path, count: int, seed: int = 1) -> tuple[Path, Path]:
    """The scenes as labelled data; the classifier's folder and the segmenter's."""
    images, masks = scenes(count, seed)
    labels = main_colours(masks)
    classified, segmented = folder / "classified", folder / "segmented"
    for index, (image, mask) in enumerate(zip(images, masks, strict=True)):
        for place in (
            classified / "val" / COLOURS[labels[index]],
            segmented / "val",
            segmented / "valannot",
        ):
            place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(classified / "val" / COLOURS[labels[index]] / f"{index:03}.png")
        Image.fromarray(image).save(segmented / "val" / f"{index:03}.png")
        Image.fromarray(mask).save(segmented / "valannot" / f"{index:03}.png")
    (segmented / "classes.txt").write_text("\n".join(COLOURS) + "\n", encoding="utf-8")
    return classified, segmented


def tiny_pair(shared: bool, seed: int = 0) -> tuple[Any, Any]:
    """An untrained classifier and segmenter; on one backbone, or on two of one architecture."""
    import torch

    torch.manual_seed(seed)
    features = backbone(NARROW)
    other = features if shared else backbone(NARROW)
    return classifier(features, NARROW).eval(), segmenter(other, NARROW).eval()


def pair_context(folder: Path, modules: tuple[Any, Any], runtime: str) -> SharingContext:
    """A classifier and a segmenter from PyTorch in ``runtime``, nothing shared yet."""
    first = _plan(folder, modules[0], "classification", runtime, ClassificationTask.describe)
    second = _plan(folder, modules[1], "segmentation", runtime, SegmentationTask.describe)
    parts = first.config, second.config
    cost = SystemCost((first.cost, second.cost))
    return SharingContext(SystemConfig(parts), (first, second), parts, cost)


def _plan(
    folder: Path,
    module: Any,
    task: str,
    runtime: str,
    describe: Callable[[str, dict[str, Any]], ModelDescription],
) -> PlanContext:
    program = model_file(exported(module, folder / f"{task}.pt2", HW))
    noise = np.random.default_rng(0).random((2, 3, *HW), np.float32)
    model = TorchToOnnx.convert(program, ConversionRequest(folder / "models", HW, noise))
    description = replace(
        describe(model.path, _KNOWN),
        preprocessing=Preprocessing(fit="stretch"),
        input_hw=HW,
        input_size=HW[0],
    )
    config = PipelineConfig(
        task,
        program if runtime == "torch" else model,
        description,
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
        runtimes={runtime: Availability(True, "1", "CPU", formats=_FORMATS[runtime])},
        calibration=pictures(folder / "images"),
        folder=folder / "models",
        labelled=False,
    )
