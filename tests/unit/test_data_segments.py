"""Data for instance segmentation: YOLO polygons and COCO segmentations."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from saccade.data.assemble import dataset_digest
from saccade.data.open import open_labelled
from saccade.errors import DataError
from saccade.testing.sample_segments import CLASS_OF_CATEGORY, write_segments

HW = (60, 80)


def yolo(root: Path, *labels: str) -> Path:
    for folder in ("images", "labels"):
        (root / folder / "val").mkdir(parents=True)
    for index, text in enumerate(labels):
        cv2.imwrite(str(root / "images" / "val" / f"{index}.png"), np.zeros((*HW, 3), np.uint8))
        (root / "labels" / "val" / f"{index}.txt").write_text(text)
    (root / "data.yaml").write_text("val: images/val\nnames: [cat, dog]\n")
    return root / "data.yaml"


def coco(root: Path, segmentations: list[object]) -> Path:
    for index in range(len(segmentations)):
        cv2.imwrite(str(root / f"{index}.png"), np.zeros((*HW, 3), np.uint8))
    document = {
        "images": [
            {"id": i, "file_name": f"{i}.png", "height": HW[0], "width": HW[1]}
            for i in range(len(segmentations))
        ],
        "annotations": [
            {
                "id": i + 1,
                "image_id": i,
                "category_id": 1,
                "bbox": [8, 6, 40, 30],
                "iscrowd": int(isinstance(found, dict)),
                "segmentation": found,
            }
            for i, found in enumerate(segmentations)
        ],
        "categories": [{"id": 1, "name": "cat"}],
    }
    path = root / "instances.json"
    path.write_text(json.dumps(document))
    return path


SQUARE = "0.1 0.1 0.6 0.1 0.6 0.6 0.1 0.6"


def test_yolo_polygons_become_outlines(tmp_path: Path) -> None:
    found = open_labelled(yolo(tmp_path, f"1 {SQUARE}", ""), None, "instance_segmentation").val
    assert found is not None and found.labelled
    first, empty = found.images
    assert first.outlines is not None and empty.outlines is None
    assert first.outlines[0].pixels()[6:36, 8:48].all()
    assert first.outlines[0].area == 30 * 40
    assert first.boxes.tolist() == [pytest.approx([8, 6, 48, 36])]
    assert first.class_ids.tolist() == [1]


def test_an_image_with_a_bare_box_is_left_out(tmp_path: Path) -> None:
    path = yolo(tmp_path, f"1 {SQUARE}", f"1 {SQUARE}\n0 0.5 0.5 0.2 0.2")
    found = open_labelled(path, None, "instance_segmentation").val
    assert found is not None and len(found) == 1
    assert [p.kind for p in found.problems] == ["no_polygons_image"]


def test_data_with_boxes_only_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="boxes without a polygon"):
        open_labelled(yolo(tmp_path, "0 0.5 0.5 0.2 0.2"), None, "instance_segmentation")


def test_a_polygon_that_sticks_out_is_cut_off(tmp_path: Path) -> None:
    path = yolo(tmp_path, "0 -0.5 -0.5 0.5 -0.5 0.5 0.5 -0.5 0.5")
    found = open_labelled(path, None, "instance_segmentation").val
    assert found is not None and found.images[0].outlines is not None
    assert found.images[0].outlines[0].area == 30 * 40
    assert [p.kind for p in found.problems] == ["box_out_of_range"]


def test_the_same_files_hold_boxes_for_detection(tmp_path: Path) -> None:
    found = open_labelled(yolo(tmp_path, f"1 {SQUARE}"), None, "detection").val
    assert found is not None and found.images[0].outlines is None
    assert len(found.images[0].boxes) == 1


def test_other_outlines_are_another_dataset(tmp_path: Path) -> None:
    found = open_labelled(yolo(tmp_path, f"0 {SQUARE}"), None, "instance_segmentation").val
    other = "0 0.1 0.1 0.6 0.1 0.6 0.6 0.3 0.6 0.1 0.3"
    (tmp_path / "labels" / "val" / "0.txt").write_text(other)
    again = open_labelled(tmp_path / "data.yaml", None, "instance_segmentation").val
    assert found is not None and again is not None
    assert np.array_equal(found.images[0].boxes, again.images[0].boxes)
    assert dataset_digest(found.images, ()) != dataset_digest(again.images, ())


def test_coco_polygons_and_runs_become_outlines(tmp_path: Path) -> None:
    runs = {"size": list(HW), "counts": [120, 60, HW[0] * HW[1] - 180]}
    path = coco(tmp_path, [[[8, 6, 48, 6, 48, 36, 8, 36]], runs])
    found = open_labelled(path, None, "instance_segmentation").val
    assert found is not None
    outlines = [image.outlines for image in found.images]
    assert [o[0].area for o in outlines if o] == [1200, 60]
    assert [image.crowd.tolist() for image in found.images] == [[False], [True]]


def test_a_segmentation_that_cannot_be_read_loses_its_image(tmp_path: Path) -> None:
    good = [[8, 6, 48, 6, 48, 36, 8, 36]]
    found = open_labelled(coco(tmp_path, [good, good, None]), None, "instance_segmentation").val
    assert found is not None and len(found) == 2
    assert [p.kind for p in found.problems] == ["bad_segmentation_image"]
    assert "neither polygons nor run lengths" in found.problems[0].detail


def test_the_sample_becomes_a_data_set_of_polygons(data_root: Path, tmp_path: Path) -> None:
    path = write_segments(data_root / "coco", tmp_path)
    splits = open_labelled(path, None, "instance_segmentation")
    assert splits.train is not None and splits.val is not None
    assert (len(splits.train), len(splits.val)) == (100, 50)
    assert set(CLASS_OF_CATEGORY.values()) == set(range(80))
    # Ids mean the same as those of the boxes.
    boxes = open_labelled(data_root / "coco" / "data.yaml", None, "detection").val
    assert boxes is not None
    of_boxes = {image.path.name: set(image.class_ids.tolist()) for image in boxes.images}
    assert all(set(i.class_ids.tolist()) == of_boxes[i.path.name] for i in splits.val.images)
