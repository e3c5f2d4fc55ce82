"""YOLO data sets: label lines, data.yaml, and what is wrong with them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from saccade.data.boxes import clip_boxes
from saccade.data.contract import Dataset
from saccade.data.open import open_labelled
from saccade.data.yolo import YoloFormat
from saccade.data.yolo_labels import parse_yolo_labels, to_pixels
from saccade.errors import DataError

WIDTH, HEIGHT = 64, 48
RANDOM = np.random.default_rng(0)


def write_image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RANDOM.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    path.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())
    return path


def dataset(root: Path, labels: dict[str, str | None], split: str = "val") -> Path:
    """A data set with two classes; None writes no label file."""
    for name, text in labels.items():
        write_image(root / "images" / split / f"{name}.jpg")
        if text is not None:
            label = root / "labels" / split / f"{name}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text(text, encoding="utf-8")
    path = root / "data.yaml"
    path.write_text(f"{split}: images/{split}\nnames: [cat, dog]\n")
    return path


def read_val(path: Path, class_names: list[str] | None = None) -> Dataset:
    val = open_labelled(path, class_names).val
    assert val is not None
    return val


def kinds(data: Dataset) -> Counter[tuple[str, str]]:
    return Counter((problem.kind, problem.action) for problem in data.problems)


# --- label lines ---------------------------------------------------------------------------------

corners = st.tuples(*[st.floats(0, 1) for _ in range(4)]).map(
    lambda v: (min(v[0], v[2]), min(v[1], v[3]), max(v[0], v[2]), max(v[1], v[3]))
)
labels = st.lists(st.tuples(st.integers(0, 79), corners), max_size=20)


def box_line(class_id: int, box: tuple[float, float, float, float]) -> str:
    x1, y1, x2, y2 = box
    return f"{class_id} {(x1 + x2) / 2!r} {(y1 + y2) / 2!r} {x2 - x1!r} {y2 - y1!r}"


@given(labels)
def test_boxes_survive_a_round_trip(written: list[tuple[int, tuple[float, ...]]]) -> None:
    text = "\n".join(box_line(class_id, box) for class_id, box in written)  # type: ignore[arg-type]
    parsed = parse_yolo_labels(text, "a.txt", 80)
    assert parsed.problems == ()
    assert parsed.class_ids.tolist() == [class_id for class_id, _ in written]
    expected = np.array([box for _, box in written]).reshape(-1, 4)
    assert_allclose(parsed.boxes, expected, atol=1e-12)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=12))
def test_a_polygon_becomes_its_bounding_box(points: list[tuple[float, float]]) -> None:
    line = "3 " + " ".join(f"{x!r} {y!r}" for x, y in points)
    parsed = parse_yolo_labels(line, "a.txt", 80)
    array = np.array(points)
    assert_array_equal(parsed.boxes[0], [*array.min(axis=0), *array.max(axis=0)])


@given(st.text(max_size=200))
def test_no_text_crashes_the_parser(text: str) -> None:
    try:
        parsed = parse_yolo_labels(text, "a.txt", 80)
    except DataError as error:
        assert "class id" in str(error)
        return
    assert len(parsed.boxes) == len(parsed.class_ids)
    assert np.isfinite(parsed.boxes).all()


@given(
    st.lists(st.tuples(*[st.floats(-200, 200, width=32) for _ in range(4)]), max_size=20),
)
def test_clipped_boxes_lie_in_the_image_and_have_area(boxes: list[tuple[float, ...]]) -> None:
    given_boxes = np.array(boxes, np.float64).reshape(-1, 4)
    clipped, keep, problems = clip_boxes(given_boxes, WIDTH, HEIGHT, "a.txt")
    assert clipped.dtype == np.float32
    assert len(clipped) == keep.sum()
    assert sum(problem.action == "skipped" for problem in problems) == (~keep).sum()
    assert (clipped >= 0).all()
    assert (clipped <= [WIDTH, HEIGHT, WIDTH, HEIGHT]).all()
    assert (clipped[:, 2:] > clipped[:, :2]).all()
    inside = keep & (given_boxes >= 0).all(1) & (given_boxes <= [64, 48, 64, 48]).all(1)
    assert_array_equal(clipped[inside[keep]], given_boxes[inside].astype(np.float32))


@pytest.mark.parametrize(
    "line",
    [
        "0 0.5 0.5 0.5",
        "0 0.5 0.5 0.5 x",
        "cat 0.5 0.5 0.5 0.5",
        "0 nan 0.5 0.5 0.5",
        "0 inf 0.5 0.5 0.5",
        "0 1e300 0.5 0.5 0.5",
        "0.5 0.5 0.5 0.5 0.5",
        "0 0.5 0.5 0.5 0.5 0.9",
        "0,0.5,0.5,0.5,0.5",
    ],
)
def test_bad_lines_are_left_out_and_counted(line: str) -> None:
    parsed = parse_yolo_labels(f"1 0.5 0.5 1 1\n{line}\n", "a.txt", 80)
    assert parsed.class_ids.tolist() == [1]
    assert [(p.kind, p.action) for p in parsed.problems] == [("bad_label_line", "skipped")]
    assert "line 2" in parsed.problems[0].detail


@pytest.mark.parametrize("class_id", ["80", "-1", "100000"])
def test_a_class_id_that_the_names_lack_is_refused(class_id: str) -> None:
    with pytest.raises(DataError, match=rf"a\.txt has class id {class_id} on line 1, .*80 classes"):
        parse_yolo_labels(f"{class_id} 0.5 0.5 1 1", "a.txt", 80)


def test_keypoints_are_not_a_polygon() -> None:
    line = "0 0.5 0.5 0.2 0.4 " + "0.1 0.9 " * 5
    parsed = parse_yolo_labels(line, "a.txt", 1, keypoints=True)
    assert_allclose(parsed.boxes, [[0.4, 0.3, 0.6, 0.7]])


def test_byte_order_mark_and_windows_lines() -> None:
    parsed = parse_yolo_labels("\ufeff0 0.5 0.5 1 1\r\n\r\n1 0.5 0.5 1 1\r\n", "a.txt", 2)
    assert parsed.class_ids.tolist() == [0, 1]
    assert parsed.problems == ()


def test_fractions_become_pixels() -> None:
    assert_allclose(to_pixels(np.array([[0.25, 0.5, 0.75, 1.0]]), 64, 48), [[16, 24, 48, 48]])


# --- data sets -----------------------------------------------------------------------------------


def test_a_sound_data_set(tmp_path: Path) -> None:
    path = dataset(tmp_path, {"写真": "0 0.5 0.5 0.5 0.5\n1 0.25 0.25 0.5 0.5", "b": "1 .5 .5 1 1"})
    val = read_val(path)
    assert val.labelled
    assert val.class_names == ("cat", "dog")
    assert val.problems == ()
    by_name = {image.path.stem: image for image in val.images}
    assert_allclose(by_name["写真"].boxes, [[16, 12, 48, 36], [0, 0, 32, 24]])
    assert by_name["写真"].boxes.dtype == np.float32
    assert by_name["b"].class_ids.tolist() == [1]
    assert by_name["b"].class_ids.dtype == np.int64
    assert by_name["b"].crowd.tolist() == [False]


def test_problems_are_counted_and_survived(tmp_path: Path) -> None:
    path = dataset(
        tmp_path,
        {
            "good": "0 0.5 0.5 0.5 0.5",
            "empty": "  \n",
            "absent": None,
            "odd": "0 0.9 0.5 0.5 0.5\n0 3 3 0.1 0.1\n0 0.5 0.5 0 0.5\nx\n1 0.5 0.5 0.2 0.2",
            "cut": "0 0.5 0.5 0.5 0.5",
        },
    )
    cut = tmp_path / "images/val/cut.jpg"
    cut.write_bytes(cut.read_bytes()[:-30])
    val = read_val(path)
    assert [image.path.stem for image in val.images] == ["absent", "empty", "good", "odd"]
    assert kinds(val) == {
        ("empty_label_file", "kept"): 1,
        ("missing_label_file", "kept"): 1,
        ("box_out_of_range", "clipped"): 1,
        ("box_out_of_range", "skipped"): 1,
        ("zero_area_box", "skipped"): 1,
        ("bad_label_line", "skipped"): 1,
        ("truncated_image", "skipped"): 1,
    }
    odd = val.images[3]
    assert_allclose(odd.boxes[0], [0.65 * WIDTH, 12, WIDTH, 36], rtol=1e-6)
    assert odd.class_ids.tolist() == [0, 1]


def test_no_label_file_at_all_means_unlabelled(tmp_path: Path) -> None:
    val = read_val(dataset(tmp_path, {"a": None, "b": None}))
    assert not val.labelled
    assert val.problems == ()


def test_labels_without_any_box_cannot_judge(tmp_path: Path) -> None:
    val = read_val(dataset(tmp_path, {"a": "", "b": ""}))
    assert not val.labelled
    assert kinds(val) == {("empty_label_file", "kept"): 2, ("no_boxes", "kept"): 1}


def test_class_id_out_of_range_names_the_file(tmp_path: Path) -> None:
    path = dataset(tmp_path, {"a": "0 .5 .5 .1 .1", "b": "0 .5 .5 .1 .1\n2 .5 .5 .1 .1"})
    with pytest.raises(DataError, match=r"b\.txt has class id 2 on line 2.*2 classes"):
        open_labelled(path)


def test_labels_in_pixels_are_refused(tmp_path: Path) -> None:
    path = dataset(tmp_path, {"a": "0 30 20 5 5\n" * 12})
    with pytest.raises(DataError, match=r"12 of the 12 labels .* 0 to 1 of the image"):
        open_labelled(path)


def test_classes_of_the_model_are_matched_by_name(tmp_path: Path) -> None:
    path = dataset(tmp_path, {"a": "0 .5 .5 .1 .1\n1 .5 .5 .1 .1"})
    val = read_val(path, ["person", "Dog", "cat"])
    assert val.images[0].class_ids.tolist() == [2, 1]
    assert val.class_names == ("person", "Dog", "cat")


def test_a_class_the_model_lacks_is_left_out(tmp_path: Path) -> None:
    path = dataset(tmp_path, {"a": "0 .5 .5 .1 .1\n1 .5 .5 .1 .1"})
    splits = open_labelled(path, ["person", "car", "dog"])
    assert splits.val is not None
    assert splits.val.images[0].class_ids.tolist() == [2]
    assert [(p.kind, p.action) for p in splits.problems] == [("unknown_class", "skipped")]


def test_renamed_classes_keep_their_place(tmp_path: Path) -> None:
    path = dataset(tmp_path, {"a": "0 .5 .5 .1 .1\n1 .5 .5 .1 .1"})
    splits = open_labelled(path, ["kitten", "dog"])
    assert splits.val is not None
    assert splits.val.images[0].class_ids.tolist() == [0, 1]
    assert [p.kind for p in splits.problems] == ["class_names_differ"]


def test_classes_with_nothing_in_common_are_refused(tmp_path: Path) -> None:
    path = dataset(tmp_path, {"a": "0 .5 .5 .1 .1"})
    with pytest.raises(DataError, match="None of the 2 classes"):
        open_labelled(path, ["person", "car", "bus"])


def test_a_list_file_with_duplicates_and_missing_images(tmp_path: Path) -> None:
    dataset(tmp_path, {"a": "0 .5 .5 .1 .1", "b": "0 .5 .5 .1 .1"})
    (tmp_path / "val.txt").write_text(
        "./images/val/a.jpg\nimages/val/b.jpg\n\nimages\\val\\a.jpg\nimages/val/gone.jpg\n"
        f"{tmp_path}/images/val/b.jpg\n"
    )
    path = tmp_path / "data.yaml"
    path.write_text("val: val.txt\nnames: {0: cat, 1: dog}\n")
    val = read_val(path)
    assert len(val) == 2
    assert kinds(val) == {("duplicate_image", "skipped"): 2, ("missing_image", "skipped"): 1}


@pytest.mark.parametrize(
    "yaml",
    [
        "path: .\nval: images/val",
        "path: ..\nval: data/images/val",
        "path: /nowhere/on/this/machine\nval: images/val",
        "val: [images/val]",
        "val: ../images/val",
        "val: images/val/*.jpg",
        "test: images/val",
        "{train: null, val: images/val}",
    ],
)
def test_ways_to_name_the_images(tmp_path: Path, yaml: str) -> None:
    path = dataset(tmp_path / "data", {"a": "0 .5 .5 .1 .1"})
    path.write_text(yaml)
    assert len(read_val(path)) == 1
    assert read_val(path).labelled


def test_labels_beside_the_images_and_a_folder_without_yaml(tmp_path: Path) -> None:
    write_image(tmp_path / "flat" / "a.png")
    (tmp_path / "flat" / "a.txt").write_text("0 .5 .5 .1 .1")
    (tmp_path / "flat.yaml").write_text("val: flat\nnames: [cat]")
    assert len(read_val(tmp_path / "flat.yaml").images[0].boxes) == 1

    root = tmp_path / "layout"
    dataset(root, {"a": "0 .5 .5 .1 .1"}, "train").unlink()
    dataset(root, {"b": "1 .5 .5 .1 .1"}, "val").unlink()
    splits = open_labelled(root, ["cat", "dog"])
    assert splits.train is not None
    assert splits.val is not None
    assert splits.val.images[0].class_ids.tolist() == [1]


def test_a_missing_train_split_is_survived_and_named(tmp_path: Path) -> None:
    path = dataset(tmp_path, {"a": "0 .5 .5 .1 .1"})
    path.write_text("train: images/train\nval: images/val\nnames: [cat]")
    splits = open_labelled(path)
    assert splits.train is None
    assert [p.kind for p in splits.problems] == ["missing_split"]


@pytest.mark.parametrize(
    ("yaml", "expected"),
    [
        ("val: [1, 2]", "expected a path"),
        ("names: [a]", "names no images"),
        ("- a\n- b", "expected keys"),
        ("val: [", "not valid YAML"),
        ("", "expected keys"),
        ("val: nowhere\nnames: [a]", "do not exist"),
        ("val: images/val\nnames: {0: a, 2: b}", "none with id 1"),
        ("val: images/val\nnames: {a: b}", "not a whole number"),
        ("val: images/val\nnames: cat", "expected a list"),
        ("val: images/val\nnames: [a]\nnc: 80", "nc: 80"),
    ],
)
def test_a_yaml_that_cannot_be_used(tmp_path: Path, yaml: str, expected: str) -> None:
    path = dataset(tmp_path, {"a": "0 .5 .5 .1 .1"})
    path.write_text(yaml)
    with pytest.raises(DataError, match=expected):
        open_labelled(path)


def test_digest_follows_content_and_not_place(tmp_path: Path) -> None:
    path = dataset(tmp_path / "one", {"a": "0 .5 .5 .1 .1", "b": ""})
    before = read_val(path).digest
    moved = (tmp_path / "one").rename(tmp_path / "two")
    assert read_val(moved / "data.yaml").digest == before
    (moved / "labels/val/a.txt").write_text("1 .5 .5 .1 .1")
    assert read_val(moved / "data.yaml").digest != before


def test_recognizes(tmp_path: Path) -> None:
    path = dataset(tmp_path, {"a": None})
    assert YoloFormat.recognizes(path)
    assert YoloFormat.recognizes(tmp_path)
    assert not YoloFormat.recognizes(tmp_path / "images")
    (tmp_path / "images" / "other.yaml").write_text("a: 1")
    assert not YoloFormat.recognizes(tmp_path / "images")
