"""Classes as folders or CSV, and masks: what is read, what is refused."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from saccade.data.class_labels import ClassLabelsFormat
from saccade.data.masks import VOID, MasksFormat, read_mask
from saccade.data.open import open_labelled
from saccade.errors import DataError

HW = (8, 12)


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((*HW, 3), np.uint8))


def csv_of(folder: Path, lines: list[str], images: int = 3) -> Path:
    for index in range(images):
        picture(folder / "images" / f"{index}.png")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_a_csv_names_files_and_classes(tmp_path: Path) -> None:
    rows = ["file,class_index,name", "0.png,2,bird", "1.png,0,cat", "gone.png,1,dog", "2.png,0,cat"]
    val = ClassLabelsFormat.read(csv_of(tmp_path, rows)).val
    assert val is not None
    assert [image.label for image in val.images] == [2, 0, 0]
    assert val.class_names == ("cat", "dog", "bird")
    assert [problem.kind for problem in val.problems] == ["missing_image"]


def test_a_csv_may_name_classes_by_name(tmp_path: Path) -> None:
    rows = ["filename,label", "0.png,dog", "1.png,cat", "2.png,dog"]
    val = ClassLabelsFormat.read(csv_of(tmp_path, rows), ("cat", "dog")).val
    assert val is not None
    assert [image.label for image in val.images] == [1, 0, 1]


def splits_of(folder: Path, **tables: str) -> Path:
    """A folder with a CSV of each name; its text names an image and a class in every word."""
    for name, text in tables.items():
        rows = [word.split(":") for word in text.split()]
        for file, _ in rows:
            picture(folder / "images" / file)
        lines = ["file,class_index", *(",".join(row) for row in rows)]
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_two_csvs_are_the_splits_of_their_names(tmp_path: Path) -> None:
    folder = splits_of(tmp_path, train="a.png:0 b.png:1 c.png:1 d.png:0", val="e.png:1 f.png:0")
    found = open_labelled(folder, ("cat", "dog"), "classification")
    assert found.train is not None and found.val is not None
    assert [i.label for i in found.train.images] == [0, 1, 1, 0]
    assert [i.path.name for i in found.val.images] == ["e.png", "f.png"]
    assert not found.train.problems and not found.val.problems
    only = ClassLabelsFormat.read(folder / "val.csv")
    assert only.train is None and only.val is not None and len(only.val) == 2


@pytest.mark.parametrize(
    ("tables", "read", "unread"),
    [
        ({"labels": "a.png:0 b.png:1"}, 2, []),
        ({"train": "a.png:0 b.png:1"}, 2, []),
        ({"labels": "a.png:0", "train": "b.png:1"}, 1, ["train.csv"]),
        ({"labels": "a.png:0", "val": "b.png:1"}, 1, ["val.csv"]),
        ({"labels": "a.png:0 b.png:1", "train": "a.png:0", "val": "b.png:1"}, 1, ["labels.csv"]),
    ],
)
def test_tables_that_are_not_read_are_named(
    tmp_path: Path, tables: dict[str, str], read: int, unread: list[str]
) -> None:
    found = ClassLabelsFormat.read(splits_of(tmp_path, **tables))
    assert (found.train is not None) == (len(tables) == 3)
    assert found.val is not None and len(found.val) == read
    assert [(p.kind, Path(p.path).name) for p in found.val.problems] == [
        ("unread_table", name) for name in unread
    ]


def test_rows_that_say_too_little_are_counted_and_left_out(tmp_path: Path) -> None:
    rows = ["file,class_index,name", "0.png,2,bird", "1.png", ",1,dog", "2.png,0,cat"]
    val = ClassLabelsFormat.read(csv_of(tmp_path, rows)).val
    assert val is not None
    assert [image.label for image in val.images] == [2, 0]
    assert [(p.kind, p.detail) for p in val.problems] == [
        ("unlabelled_image", "line 3 names no class"),
        ("unlabelled_image", "line 4 names no file"),
    ]
    with pytest.raises(DataError, match=r"2 of the 3 images .* line 3 names no class"):
        ClassLabelsFormat.read(csv_of(tmp_path, rows[:-1]))


def test_images_of_a_training_table_that_cannot_be_read_are_reported(tmp_path: Path) -> None:
    folder = splits_of(tmp_path, train="a.png:0 b.png:1 c.png:1", val="d.png:1")
    (folder / "images" / "b.png").write_bytes(b"no image")
    found = ClassLabelsFormat.read(folder)
    assert found.train is not None
    assert [Path(p.path).name for p in found.train.problems] == ["b.png"]


def test_text_that_is_not_utf_8_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    path = csv_of(tmp_path, ["file,class_index,name", "0.png,0,cat"]) / "labels.csv"
    path.write_bytes(path.read_bytes() + "1.png,1,b\u00e4r\n".encode("latin-1"))
    val = ClassLabelsFormat.read(tmp_path).val
    assert val is not None and val.class_names == ("cat", "b\ufffdr")


@pytest.mark.parametrize(
    ("numbers", "first_class", "expected"),
    [
        ((1, 2, 3), None, [0, 1, 2]),  # only counting from 1 makes sense
        ((1, 2, 2), None, [1, 2, 2]),  # both would, and counting from 0 is usual
        ((1, 2, 2), 1, [0, 1, 1]),
        ((0, 1, 2), None, [0, 1, 2]),
    ],
)
def test_a_csv_may_count_classes_from_one(
    tmp_path: Path, numbers: tuple[int, ...], first_class: int | None, expected: list[int]
) -> None:
    rows = ["file,class_index", *(f"{i}.png,{number}" for i, number in enumerate(numbers))]
    settings = {} if first_class is None else {"first_class": first_class}
    found = open_labelled(csv_of(tmp_path, rows), list("abc"), "classification", settings).val
    assert found is not None
    assert [image.label for image in found.images] == expected
    noted = ["classes_count_from_one"] if numbers == (1, 2, 3) else []
    assert [problem.kind for problem in found.problems] == noted


@pytest.mark.parametrize(("number", "first_class"), [(3, 0), (0, 1)])
def test_classes_beyond_the_given_numbers_are_refused(
    tmp_path: Path, number: int, first_class: int
) -> None:
    rows = ["file,class_index", f"0.png,{number}", "1.png,1"]
    with pytest.raises(DataError, match=rf"has class {number}, .*labels: first_class"):
        ClassLabelsFormat.read(csv_of(tmp_path, rows), list("abc"), first_class)


def test_splits_count_from_the_same_number(tmp_path: Path) -> None:
    for place in ("train/1", "train/2", "train/3", "val/1", "val/2"):
        picture(tmp_path / place / "0.png")
        picture(tmp_path / place / "1.png")
    found = ClassLabelsFormat.read(tmp_path, list("abc"))
    assert found.train is not None and found.val is not None
    assert {image.label for image in found.train.images} == {0, 1, 2}
    assert {image.label for image in found.val.images} == {0, 1}


def test_settings_of_other_labels_are_refused(tmp_path: Path) -> None:
    csv_of(tmp_path, ["file,label", "0.png,0"])
    with pytest.raises(DataError, match=r"labels\.void_ids means nothing .* only has first_class"):
        open_labelled(tmp_path, None, "classification", {"void_ids": (7,)})


def test_settings_of_a_bundle_are_used_where_the_format_has_them(tmp_path: Path) -> None:
    path = csv_of(tmp_path, ["file,class_index", "0.png,1", "1.png,2"])
    usual = {"void_ids": (7,), "first_class": 1}
    for given, expected in (({}, [0, 1]), ({"first_class": 0}, [1, 2])):
        val = open_labelled(path, list("abc"), "classification", given, usual).val
        assert val is not None and [image.label for image in val.images] == expected


@pytest.mark.parametrize(
    ("rows", "names", "said"),
    [
        (["a,b", "0.png,1"], None, "has the columns a, b"),
        (["file,label", "0.png,7", "1.png,0"], ("cat", "dog"), "has class 7, but the model has 2"),
        (["file,label", "0.png,bird"], ("cat", "dog"), "'bird' in"),
        (["file,label"], ("cat", "dog"), "names no image"),
    ],
)
def test_bad_tables_are_refused(
    tmp_path: Path, rows: list[str], names: tuple[str, ...] | None, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        ClassLabelsFormat.read(csv_of(tmp_path, rows), names)


def test_folders_are_classes_in_the_models_order(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for name in ("dog", "cat"):
            picture(tmp_path / split / name / "0.png")
    splits = open_labelled(tmp_path, ("dog", "cat"), "classification")
    assert splits.train is not None and splits.val is not None
    assert {i.path.parent.name: i.label for i in splits.val.images} == {"dog": 0, "cat": 1}


def masked(root: Path, ids: np.ndarray, names: str = "road\nsky\nvoid\n") -> Path:
    for split in ("train", "val"):
        picture(root / split / "0.png")
        (root / f"{split}annot").mkdir()
        cv2.imwrite(str(root / f"{split}annot" / "0.png"), ids)
    (root / "classes.txt").write_text(names, encoding="utf-8")
    return root


def test_masks_know_what_is_void(tmp_path: Path) -> None:
    ids = np.zeros(HW, np.uint8)
    ids[0], ids[1], ids[2] = 1, 2, 255
    val = MasksFormat.read(masked(tmp_path, ids)).val
    assert val is not None and val.class_names == ("road", "sky", "void")
    mask = val.images[0].mask
    assert mask is not None
    read = read_mask(mask, val.images[0].void_ids)
    assert (read[0] == 1).all() and (read[1] == VOID).all() and (read[2] == VOID).all()


def test_further_ids_may_be_void(tmp_path: Path) -> None:
    ids = np.zeros(HW, np.uint8)
    ids[0], ids[1] = 1, 30
    root = masked(tmp_path, ids)
    with pytest.raises(DataError, match=r"class id 30.*labels: void_ids"):
        open_labelled(root, None, "segmentation")
    val = open_labelled(root, None, "segmentation", {"void_ids": (30, 1)}).val
    assert val is not None
    mask = val.images[0].mask
    assert mask is not None
    read = read_mask(mask, val.images[0].void_ids)
    assert (read[:2] == VOID).all() and (read[2:] == 0).all()


def test_a_palette_is_read_as_ids(tmp_path: Path) -> None:
    from PIL import Image

    image = Image.new("P", (4, 3), 1)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.save(tmp_path / "mask.png")
    assert (read_mask(tmp_path / "mask.png") == 1).all()


def test_masks_that_cannot_be_right_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="class id 9, but there are 3 classes"):
        MasksFormat.read(masked(tmp_path / "a", np.full(HW, 9, np.uint8)))
    cv2.imwrite(str(tmp_path / "colour.png"), np.zeros((*HW, 3), np.uint8))
    with pytest.raises(DataError, match="has colours"):
        read_mask(tmp_path / "colour.png")
    with pytest.raises(DataError, match="it is 3x3, its image 12x8"):
        MasksFormat.read(masked(tmp_path / "b", np.zeros((3, 3), np.uint8)))
