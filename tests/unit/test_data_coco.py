"""COCO instances files, with images where people keep them, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.testing import assert_allclose

from saccade.data.coco import CocoFormat
from saccade.data.contract import Dataset
from saccade.data.open import open_labelled
from saccade.errors import DataError

RANDOM = np.random.default_rng(1)


def write_image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RANDOM.integers(0, 255, (48, 64, 3), np.uint8)
    path.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())


def document(**changes: Any) -> dict[str, Any]:
    content = {
        "images": [
            {"id": 7, "file_name": "ä.jpg", "width": 64, "height": 48},
            {"id": 9, "file_name": "b.jpg", "width": 64, "height": 48},
        ],
        "categories": [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 18, "bbox": [8, 6, 16, 12], "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 1, "bbox": [0, 0, 64, 48], "iscrowd": 1},
        ],
    }
    return {**content, **changes}


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def coco(root: Path, **changes: Any) -> Path:
    for name in ("ä.jpg", "b.jpg"):
        write_image(root / "val2017" / name)
    return write(root / "annotations" / "instances_val2017.json", document(**changes))


def read_val(path: Path, class_names: list[str] | None = None) -> Dataset:
    val = open_labelled(path, class_names).val
    assert val is not None
    return val


def kinds(data: Dataset) -> list[tuple[str, str]]:
    return sorted((problem.kind, problem.action) for problem in data.problems)


def test_categories_become_contiguous_in_the_order_of_their_ids(tmp_path: Path) -> None:
    val = read_val(coco(tmp_path))
    assert val.labelled
    assert val.class_names == ("person", "dog")
    image = next(image for image in val.images if image.path.name == "ä.jpg")
    assert image.class_ids.tolist() == [1, 0]
    assert image.crowd.tolist() == [False, True]
    assert_allclose(image.boxes, [[8, 6, 24, 18], [0, 0, 64, 48]])
    assert image.boxes.dtype == np.float32
    assert val.problems == ()
    assert len(val) == 2


def test_classes_of_the_model_are_matched_by_name(tmp_path: Path) -> None:
    val = read_val(coco(tmp_path), ["Dog", "cat", "person"])
    image = next(image for image in val.images if len(image.boxes))
    assert image.class_ids.tolist() == [0, 2]
    assert val.class_names == ("Dog", "cat", "person")


@pytest.mark.parametrize(
    ("json_path", "image_folder"),
    [
        ("instances.json", "."),
        ("instances.json", "images"),
        ("annotations/instances_val2017.json", "val2017"),
        ("annotations/instances_val2017.json", "images/val2017"),
        ("annotations/instances_val2017.json", "images"),
        ("labels/coco.json", "."),
    ],
)
def test_where_images_may_lie(tmp_path: Path, json_path: str, image_folder: str) -> None:
    for name in ("ä.jpg", "b.jpg"):
        write_image(tmp_path / image_folder / name)
    path = write(tmp_path / json_path, document())
    assert len(read_val(path)) == 2


def test_a_folder_with_both_splits(tmp_path: Path) -> None:
    coco(tmp_path)
    for name in ("ä.jpg", "b.jpg"):
        write_image(tmp_path / "train2017" / name)
    write(tmp_path / "annotations" / "instances_train2017.json", document())
    assert CocoFormat.recognizes(tmp_path)
    splits = open_labelled(tmp_path)
    assert splits.train is not None
    assert splits.val is not None
    assert splits.train.images[0].path.parent.name == "train2017"
    assert splits.val.images[0].path.parent.name == "val2017"


def test_train_images_that_were_not_downloaded(tmp_path: Path) -> None:
    coco(tmp_path)
    write(tmp_path / "annotations" / "instances_train2017.json", document())
    splits = open_labelled(tmp_path)
    assert splits.train is None
    assert splits.val is not None
    assert [problem.kind for problem in splits.problems] == ["missing_split"]


def test_roboflow_layout(tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        for name in ("ä.jpg", "b.jpg"):
            write_image(tmp_path / split / name)
        write(tmp_path / split / "_annotations.coco.json", document())
    splits = open_labelled(tmp_path)
    assert splits.train is not None
    assert splits.val is not None
    assert splits.val.images[0].path.parent.name == "valid"


def test_several_candidates_for_one_split_are_refused(tmp_path: Path) -> None:
    coco(tmp_path)
    write(tmp_path / "annotations" / "instances_val2014.json", document())
    with pytest.raises(DataError, match=r"instances_val2014\.json, instances_val2017\.json"):
        open_labelled(tmp_path)


def test_problems_are_counted_and_survived(tmp_path: Path) -> None:
    good = {"image_id": 7, "category_id": 1, "bbox": [8, 6, 16, 12]}
    entries = document()["images"]
    path = coco(
        tmp_path,
        images=[*entries, entries[0] | {"id": 70}, {"id": 3, "file_name": "gone.jpg"}, {"id": 4}],
        annotations=[
            good,
            good | {"bbox": [60, 40, 30, 30]},
            good | {"bbox": [200, 200, 5, 5]},
            good | {"bbox": [5, 5, 0, 5]},
            good | {"bbox": [5, 5, 5]},
            good | {"bbox": [5, 5, float("nan"), 5]},
            good | {"image_id": 1234},
            good | {"image_id": []},
            {"image_id": 7, "category_id": 1},
            "nonsense",
        ],
    )
    val = read_val(path)
    assert len(val) == 2
    assert sum(len(image.boxes) for image in val.images) == 2
    assert kinds(val) == sorted(
        [
            ("bad_annotation", "skipped"),
            ("bad_annotation", "skipped"),
            ("bad_annotation", "skipped"),
            ("bad_annotation", "skipped"),
            ("bad_annotation", "skipped"),
            ("bad_annotation", "skipped"),
            ("bad_image_entry", "skipped"),
            ("box_out_of_range", "clipped"),
            ("box_out_of_range", "skipped"),
            ("duplicate_image", "skipped"),
            ("missing_image", "skipped"),
            ("zero_area_box", "skipped"),
        ]
    )


def test_labels_for_another_size_are_left_out(tmp_path: Path) -> None:
    images = document()["images"]
    images[1] |= {"width": 48, "height": 64}
    val = read_val(coco(tmp_path, images=images))
    assert len(val) == 1
    assert kinds(val) == [("wrong_size_image", "skipped")]


def test_without_annotations_there_is_nothing_to_judge_on(tmp_path: Path) -> None:
    content = document()
    del content["annotations"]
    path = coco(tmp_path)
    write(path, content)
    assert not read_val(path).labelled


def test_an_unknown_category_is_refused(tmp_path: Path) -> None:
    bad = {"image_id": 7, "category_id": 90, "bbox": [1, 2, 3, 4]}
    with pytest.raises(DataError, match=r"category_id 90 in annotations\[0\].*2 classes"):
        open_labelled(coco(tmp_path, annotations=[bad]))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "not a COCO instances file"),
        ('{"a": 1}', "not a COCO instances file"),
        ('{"images": {}}', "not a list"),
        ('{"images": []}', "lists no image"),
        ('{"images": [{"id": 1, "file_name": "a.jpg"}], "categories": [{}]}', "whole-number id"),
        (
            '{"images": [{"id": 1, "file_name": "a.jpg"}], '
            '"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}',
            "one id for several",
        ),
        ('{"images": [{"id": 1, "file_name": "a.jpg"}]}', "in none of these folders"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, content: str, expected: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(DataError, match=expected):
        open_labelled(path)
