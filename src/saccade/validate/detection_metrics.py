"""Detection accuracy by pycocotools, with the matches that the bootstrap resamples.

The matching and the figures are those of the reference implementation (COCOeval, bounding boxes
or masks, area ``all``, 100 detections per image and class); nothing is scored here.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from saccade.data.contract import Dataset, LabelledImage
from saccade.data.outlines import Outline
from saccade.errors import DataError
from saccade.tasks.detections import Detections

MAX_DETECTIONS = 100
# By the overlap of what a detection matches an object, and pycocotools' word for it.
Overlap = Literal["boxes", "masks"]
_IOU_TYPES = {"boxes": "bbox", "masks": "segm"}
# 4:2:0 video has even sides, so an image judged as a frame of it may have lost a row or column.
_LOST_PX = 1
_EVERY_AREA = {"all": (0.0, 1e10)}
# COCO's object sizes, by area in pixels of the original image. The labels' boxes give the area,
# since not all label formats have outlines; COCO itself takes the outline's.
SIZES = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}


@dataclass(frozen=True, eq=False)
class ClassMatches:
    """How the detections of one class matched, best score first (COCO's order).

    Attributes:
        class_id: the class.
        image: ``(D,)`` int64, index of each detection's image in the dataset.
        scores: ``(D,)`` float64, falling.
        true_positive: ``(T, D)`` bool at each of the T IoU thresholds.
        ignored: ``(T, D)`` bool; matched to a crowd region, neither right nor wrong.
        objects: ``(images,)`` int64, objects of this class per image, crowds left out.
    """

    class_id: int
    image: NDArray[np.int64]
    scores: NDArray[np.float64]
    true_positive: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    objects: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class DetectionAccuracy:
    """What COCOeval says of one system on one dataset.

    Attributes:
        map50_95: mean AP over IoU 0.50:0.05:0.95 and classes, 0-1.
        map50: mean AP at IoU 0.50.
        per_class: class id → AP50-95; only classes that have objects in the dataset.
        images: number of images judged.
        matches: per class of ``per_class``, in the same order.
    """

    map50_95: float
    map50: float
    per_class: dict[int, float]
    images: int
    matches: tuple[ClassMatches, ...]


def evaluate(
    dataset: Dataset, detections: Detections, overlap: Overlap = "boxes"
) -> DetectionAccuracy:
    """Judge detections against a dataset's labels.

    Classes without an object in the dataset do not enter COCO's mean, so they are not matched.

    Args:
        dataset: with labels; with outlines where masks are judged.
        detections: one per image; with outlines where masks are judged.
        overlap: what has to overlap for a match, boxes or masks.

    Raises:
        DataError: the dataset has no labels or no objects, the detections are of other images, or
            outlines are missing on either side.
    """
    _check(dataset, detections)
    if overlap == "masks":
        _check_outlines(dataset, detections)
    classes = _classes_with_objects(dataset)
    if not classes:
        raise DataError(
            f"The {len(dataset)} images of '{dataset.name}' have no labelled object. Accuracy "
            "needs at least one; check that the label files belong to these images."
        )
    found = _run_cocoeval(dataset, detections, classes, overlap)
    precision = found.eval["precision"][:, :, :, 0, 0]
    matches = tuple(
        _class_matches(found, position, class_id, len(dataset))
        for position, class_id in enumerate(classes)
    )
    return DetectionAccuracy(
        map50_95=float(precision.mean()),
        map50=float(precision[0].mean()),
        per_class={c: float(precision[:, :, k].mean()) for k, c in enumerate(classes)},
        images=len(dataset),
        matches=matches,
    )


def evaluate_by_size(
    dataset: Dataset, detections: Detections, overlap: Overlap = "boxes"
) -> dict[str, tuple[float, int]]:
    """AP50-95 on small, medium and large objects, as COCO defines it, and how many there are.

    Sizes that no labelled object has are left out.

    Raises:
        DataError: the dataset has no labels, the detections are of other images, or outlines are
            missing on either side.
    """
    _check(dataset, detections)
    if overlap == "masks":
        _check_outlines(dataset, detections)
    classes = _classes_with_objects(dataset)
    if not classes:
        return {}
    found = _run_cocoeval(dataset, detections, classes, overlap, SIZES)
    areas = np.concatenate([_areas(image.boxes[~image.crowd]) for image in dataset.images])
    result = {}
    for index, (size, (low, high)) in enumerate(SIZES.items()):
        precision = found.eval["precision"][:, :, :, index, 0]
        judged = precision[precision > -1]  # COCOeval's mark of a class without such objects
        if judged.size:
            objects = int(np.count_nonzero((areas >= low) & (areas < high)))
            result[size] = (float(judged.mean()), objects)
    return result


def _areas(boxes: NDArray[np.float32]) -> NDArray[np.float64]:
    sides = np.maximum(0.0, boxes[:, 2:].astype(np.float64) - boxes[:, :2])
    areas: NDArray[np.float64] = np.prod(sides, axis=1)
    return areas


def _check(dataset: Dataset, detections: Detections) -> None:
    if not dataset.labelled:
        raise DataError(
            f"'{dataset.name}' has no labels, so accuracy cannot be judged on it. "
            "Give labelled images, or set a goal on 'agreement' instead."
        )
    if len(detections) != len(dataset):
        raise DataError(
            f"There are detections for {len(detections)} images, but '{dataset.name}' has "
            f"{len(dataset)}. Run the system again on exactly these images."
        )


def _check_outlines(dataset: Dataset, detections: Detections) -> None:
    bare = next((i for i in dataset.images if len(i.boxes) and i.outlines is None), None)
    if bare is not None:
        raise DataError(
            f"'{dataset.name}' has boxes without outlines, such as those of {bare.path.name}, so "
            "masks cannot be judged on it. Give polygons (YOLO) or segmentations (COCO)."
        )
    if detections.outlines is None:
        raise DataError("The results have no masks, so these cannot be judged. Judge boxes.")


def _classes_with_objects(dataset: Dataset) -> list[int]:
    found = [image.class_ids[~image.crowd] for image in dataset.images]
    return [int(c) for c in np.unique(np.concatenate(found))] if found else []


def _run_cocoeval(
    dataset: Dataset,
    detections: Detections,
    classes: Sequence[int],
    overlap: Overlap = "boxes",
    areas: Mapping[str, tuple[float, float]] = _EVERY_AREA,
) -> Any:
    # pycocotools prints progress; stdout belongs to the caller's JSON.
    with contextlib.redirect_stdout(io.StringIO()):
        truth = _index(dataset, _ground_truth(dataset.images, classes), classes)
        found = _index(dataset, _results(dataset, detections, classes), classes)
        evaluator = COCOeval(truth, found, _IOU_TYPES[overlap])
        evaluator.params.areaRng = [list(limits) for limits in areas.values()]
        evaluator.params.areaRngLbl = list(areas)
        evaluator.params.maxDets = [MAX_DETECTIONS]
        evaluator.evaluate()
        evaluator.accumulate()
    return evaluator


def _index(dataset: Dataset, annotations: list[dict[str, Any]], classes: Sequence[int]) -> Any:
    index = COCO()
    index.dataset = {
        "images": [
            {"id": i, "width": image.width, "height": image.height}
            for i, image in enumerate(dataset.images)
        ],
        "categories": [{"id": c, "name": str(c)} for c in classes],
        "annotations": annotations,
    }
    index.createIndex()
    return index


def _ground_truth(images: Sequence[LabelledImage], classes: Sequence[int]) -> list[dict[str, Any]]:
    wanted = set(classes)
    rows: list[dict[str, Any]] = []
    for index, image in enumerate(images):
        outlines = image.outlines or (None,) * len(image.boxes)
        for box, class_id, crowd, outline in zip(
            _xywh(image.boxes),
            image.class_ids.tolist(),
            image.crowd.tolist(),
            outlines,
            strict=True,
        ):
            if class_id in wanted:
                row = _annotation(len(rows), index, class_id, box, _fitted(outline, image))
                rows.append(row | {"iscrowd": int(crowd)})
    return rows


def _results(
    dataset: Dataset, detections: Detections, classes: Sequence[int]
) -> list[dict[str, Any]]:
    wanted = set(classes)
    rows: list[dict[str, Any]] = []
    for index, image in enumerate(dataset.images):
        boxes = _xywh(detections.boxes[index])
        for box, class_id, score, outline in zip(
            boxes,
            detections.class_ids[index].tolist(),
            detections.scores[index].tolist(),
            detections.outlines[index] if detections.outlines else (None,) * len(boxes),
            strict=True,
        ):
            if class_id in wanted:
                row = _annotation(len(rows), index, class_id, box, _fitted(outline, image))
                rows.append(row | {"iscrowd": 0, "score": score})
    return rows


def _fitted(outline: Outline | None, image: LabelledImage) -> Outline | None:
    """An outline on the image's pixels; pycocotools takes those of other sizes for no overlap.

    Raises:
        DataError: it is of an image of another size.
    """
    if outline is None:
        return None
    lost = (abs(image.height - outline.height), abs(image.width - outline.width))
    if max(lost) > _LOST_PX:
        raise DataError(
            f"A mask has {outline.width}x{outline.height} pixels, its image {image.path.name} "
            f"{image.width}x{image.height}. They must be of the same image."
        )
    return outline.on(image.height, image.width)


def _annotation(
    count: int, image: int, class_id: int, box: list[float], outline: Outline | None
) -> dict[str, Any]:
    segmentation = {} if outline is None else {"segmentation": outline.coco}
    return segmentation | {
        # COCOeval reads a match with id 0 as no match, so ids start at 1.
        "id": count + 1,
        "image_id": image,
        "category_id": class_id,
        "bbox": box,
        # Only tells small from large objects, which are not judged apart.
        "area": box[2] * box[3],
    }


def _xywh(boxes: NDArray[np.float32]) -> list[list[float]]:
    corners = boxes.astype(np.float64)
    joined = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    rows: list[list[float]] = joined.tolist()
    return rows


def _class_matches(found: Any, position: int, class_id: int, images: int) -> ClassMatches:
    entries = found.evalImgs[position * images : (position + 1) * images]
    present = [entry for entry in entries if entry is not None]
    scores = np.concatenate([np.asarray(e["dtScores"], np.float64) for e in present])
    order = np.argsort(-scores, kind="stable")
    ignored = np.concatenate([e["dtIgnore"] for e in present], axis=1)[:, order].astype(bool)
    matched = np.concatenate([e["dtMatches"] for e in present], axis=1)[:, order] > 0
    image = np.repeat(
        [e["image_id"] for e in present], [len(e["dtScores"]) for e in present]
    ).astype(np.int64)
    objects = np.zeros(images, np.int64)
    for entry in present:
        objects[entry["image_id"]] = np.count_nonzero(np.asarray(entry["gtIgnore"]) == 0)
    return ClassMatches(class_id, image[order], scores[order], matched & ~ignored, ignored, objects)
