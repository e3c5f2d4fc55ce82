"""Semantic segmentation: a class per pixel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from saccade.data.contract import LabelledImage
from saccade.errors import ModelError
from saccade.models.description import ModelDescription
from saccade.pipeline.config import PipelineConfig
from saccade.pipeline.geometry import Letterbox
from saccade.tasks.argmax import running_argmax
from saccade.tasks.contract import Postprocessor
from saccade.tasks.drawing import class_color, write_line
from saccade.tasks.results import SegmentationResult

# Share of pixels that rounding may change: those on the border between two classes.
SAME_PIXELS = 0.001
OPACITY = 0.5
# Below this share of the image, a class is not worth a line.
SHOWN_SHARE = 0.01


@dataclass(frozen=True, eq=False)
class Masks:
    """Class ids per pixel of many images, each ``(H, W)`` uint8 or int32."""

    masks: tuple[NDArray[np.integer[Any]], ...]

    def __len__(self) -> int:
        return len(self.masks)


class SegmentationTask:
    """A class per pixel; judged by mean intersection over union."""

    name: ClassVar[str] = "segmentation"
    metrics: ClassVar[tuple[str, ...]] = ("miou",)
    model_noun: ClassVar[str] = "segmenter"
    usual_size: ClassVar[int] = 512

    @staticmethod
    def describe(path: str | Path, overrides: Mapping[str, Any] | None = None) -> ModelDescription:
        """See `saccade.models.segmenter.describe_segmenter`."""
        from saccade.models.segmenter import describe_segmenter

        return describe_segmenter(path, overrides)

    @staticmethod
    def postprocessor(config: PipelineConfig) -> Postprocessor:
        """The best class per pixel, at the size of the frame.

        Raises:
            ModelError: the decode is not known.
        """
        decode = config.description.decode
        if decode not in ("planes", "indices"):
            raise ModelError(f"Unknown decode '{decode}'; known: planes, indices.")
        kind = np.uint8 if len(config.description.class_names) <= 256 else np.int32
        ids_of = _IDS[decode, config.argmax]

        def postprocess(outputs: Sequence[NDArray[Any]], box: Letterbox) -> SegmentationResult:
            return SegmentationResult(to_frame(ids_of(outputs[0][0], kind), box))

        return postprocess

    @staticmethod
    def collect(results: Sequence[SegmentationResult]) -> Masks:
        """All masks."""
        return Masks(tuple(result.mask for result in results))

    @staticmethod
    def same(first: Masks, second: Masks) -> bool:
        """The same class in all but a thousandth of each image's pixels."""
        return len(first) == len(second) and all(
            a.shape == b.shape and float(np.mean(a != b)) <= SAME_PIXELS
            for a, b in zip(first.masks, second.masks, strict=True)
        )

    @staticmethod
    def fit(result: SegmentationResult, image: LabelledImage) -> float:
        """Share of the labelled pixels that have the right class."""
        from saccade.data.masks import read_mask

        if image.mask is None:
            return float("nan")
        truth = read_mask(image.mask, image.void_ids)
        labelled = truth >= 0
        if not labelled.any():
            return float("nan")
        return float(np.mean(result.mask[labelled] == truth[labelled]))

    @staticmethod
    def classes_in(result: SegmentationResult) -> Sequence[int]:
        """Every class that covers something."""
        found: list[int] = np.unique(result.mask).tolist()
        return found

    @staticmethod
    def draw(
        image: NDArray[np.uint8], result: SegmentationResult, class_names: Sequence[str]
    ) -> NDArray[np.uint8]:
        """Tint a copy by class, and name the classes that cover most of it."""
        ids, counts = np.unique(result.mask, return_counts=True)
        palette = np.zeros((int(ids.max()) + 1, 3), np.float32)
        for class_id in ids:
            palette[class_id] = class_color(int(class_id))
        tinted = image * np.float32(1 - OPACITY) + palette[result.mask] * np.float32(OPACITY)
        canvas = np.ascontiguousarray(tinted.astype(np.uint8))
        shares = sorted(zip(counts / result.mask.size, ids, strict=True), reverse=True)
        for row, (share, class_id) in enumerate(s for s in shares if s[0] >= SHOWN_SHARE):
            name = class_names[class_id] if class_id < len(class_names) else str(class_id)
            write_line(canvas, f"{name} {share:.0%}", row)
        return canvas


def _given(values: NDArray[Any], kind: type[np.integer[Any]]) -> NDArray[Any]:
    """Class ids ``(1, h, w)`` or ``(h, w)`` as the model gives them."""
    return values.reshape(-1, values.shape[-1]).astype(kind)


def _plain(planes: NDArray[Any], kind: type[np.integer[Any]]) -> NDArray[Any]:
    """The best class ``(h, w)`` of planes ``(C, h, w)``, as commonly written."""
    ids: NDArray[Any] = np.argmax(planes, axis=0).astype(kind)
    return ids


# Decode and the way of choosing the class → what turns one frame's output into class ids. All of
# them give a new array: the output belongs to the runtime.
_IDS: dict[tuple[str, str], Callable[[NDArray[Any], type[np.integer[Any]]], NDArray[Any]]] = {
    ("planes", "plain"): _plain,
    ("planes", "running"): running_argmax,
    ("indices", "plain"): _given,
    ("indices", "running"): _given,
}


def to_frame(ids: NDArray[Any], box: Letterbox) -> NDArray[Any]:
    """Class ids ``(h, w)`` of the model's output as ``(H, W)`` of the frame, nearest pixel.

    Outputs that are smaller than the input by a whole factor are taken as they are.
    """
    import cv2

    down = ids.shape[0] / box.input_hw[0]
    top, left = round(box.top * down), round(box.left * down)
    height, width = (max(1, round(side * down)) for side in box.scaled_hw)
    part = ids[top : top + height, left : left + width]
    if part.shape == box.frame_hw:
        return np.ascontiguousarray(part)
    scaled: NDArray[Any] = cv2.resize(part, box.frame_hw[::-1], interpolation=cv2.INTER_NEAREST)
    return scaled
