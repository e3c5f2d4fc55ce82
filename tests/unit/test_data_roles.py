"""Opening a data path, and giving its images disjoint roles."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from saccade.data.contract import Dataset, DataSplits
from saccade.data.open import Roles, check_disjoint, open_labelled, split_roles
from saccade.errors import DataError

RANDOM = np.random.default_rng(2)


def write_split(root: Path, split: str, count: int, *, labelled: bool = True) -> None:
    for index in range(count):
        image = root / "images" / split / f"{split}{index:03d}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        pixels = RANDOM.integers(0, 255, (16, 16, 3), np.uint8)
        image.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
        if labelled:
            label = root / "labels" / split / f"{split}{index:03d}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text("0 .5 .5 .5 .5")


def yolo(root: Path, **counts: int) -> Path:
    for split, count in counts.items():
        write_split(root, split, count)
    path = root / "data.yaml"
    path.write_text("names: [cat]\n" + "".join(f"{s}: images/{s}\n" for s in counts))
    return path


def names(data: Dataset | None) -> list[str]:
    return [] if data is None else [image.path.name for image in data.images]


def sizes(roles: Roles) -> tuple[int, int, int]:
    return len(names(roles.calibration)), len(names(roles.selection)), len(names(roles.report))


def test_a_quarter_of_train_calibrates_and_val_reports(tmp_path: Path) -> None:
    roles = split_roles(open_labelled(yolo(tmp_path, train=12, val=4)))
    assert sizes(roles) == (3, 9, 4)
    dealt = names(roles.calibration) + names(roles.selection)
    assert sorted(dealt) == [f"train{index:03d}.png" for index in range(12)]
    # Dealt by hash, not by position.
    assert names(roles.calibration) != [f"train{index:03d}.png" for index in range(3)]
    assert names(roles.calibration) == sorted(names(roles.calibration))
    for role in (roles.calibration, roles.selection, roles.report):
        assert role is not None
        assert role.labelled
    assert len({role.digest for role in (roles.calibration, roles.selection) if role}) == 2


def test_dealing_depends_on_seed_and_names_only(tmp_path: Path) -> None:
    path = yolo(tmp_path / "one", train=20, val=2)
    first = split_roles(open_labelled(path))
    assert names(split_roles(open_labelled(path), seed=1).calibration) != names(first.calibration)
    (tmp_path / "one").rename(tmp_path / "two")
    moved = split_roles(open_labelled(tmp_path / "two"))
    assert names(moved.calibration) == names(first.calibration)
    assert moved.calibration is not None
    assert first.calibration is not None
    assert moved.calibration.digest == first.calibration.digest


@pytest.mark.parametrize(
    ("count", "expected"),
    [(64, (16, 24, 24)), (8, (2, 3, 3)), (3, (1, 1, 1)), (2, (0, 1, 1)), (1, (0, 0, 1))],
)
@pytest.mark.parametrize("split", ["train", "val"])
def test_one_split_serves_all_roles(
    tmp_path: Path, split: str, count: int, expected: tuple[int, int, int]
) -> None:
    assert sizes(split_roles(open_labelled(yolo(tmp_path, **{split: count})))) == expected


def test_one_folder_named_as_both_splits_is_one_split(tmp_path: Path) -> None:
    path = yolo(tmp_path, val=8)
    path.write_text("names: [cat]\ntrain: images/val\nval: images/val")
    assert sizes(split_roles(open_labelled(path))) == (2, 3, 3)


@pytest.mark.parametrize("judged", ["train", "val"])
def test_a_split_without_labels_calibrates(tmp_path: Path, judged: str) -> None:
    other = "val" if judged == "train" else "train"
    path = yolo(tmp_path, train=0, val=0)
    write_split(tmp_path, judged, 6)
    write_split(tmp_path, other, 5, labelled=False)
    roles = split_roles(open_labelled(path))
    assert sizes(roles) == (5, 3, 3)
    assert roles.report is not None
    assert roles.report.labelled


def test_shared_content_is_refused_whatever_its_name(tmp_path: Path) -> None:
    path = yolo(tmp_path, train=6, val=4)
    shutil.copy(tmp_path / "images/train/train001.png", tmp_path / "images/val/ünlike.png")
    with pytest.raises(DataError, match=r"train001\.png and .*ünlike\.png") as caught:
        split_roles(open_labelled(path))
    assert "share 1 with the same content" in str(caught.value)


def test_equal_names_with_other_content_are_no_overlap(tmp_path: Path) -> None:
    path = yolo(tmp_path, train=2, val=2)
    for name in ("000", "001"):
        for folder, suffix in (("images", ".png"), ("labels", ".txt")):
            file = tmp_path / folder / "val" / f"val{name}{suffix}"
            file.rename(file.with_name(f"train{name}{suffix}"))
    check_disjoint(split_roles(open_labelled(path)))


def test_the_same_file_in_two_roles_is_refused(tmp_path: Path) -> None:
    val = open_labelled(yolo(tmp_path, val=3)).val
    check_disjoint(Roles(val, None, None))
    with pytest.raises(DataError, match="calibration and for report share 3"):
        check_disjoint(Roles(val, None, val))
    with pytest.raises(DataError, match="share 3"):
        Roles.disjoint(val, val, None)


def test_duplicates_within_a_split_are_dealt_once(tmp_path: Path) -> None:
    path = yolo(tmp_path, val=8)
    for index in range(4):
        shutil.copy(
            tmp_path / f"images/val/val{index:03d}.png", tmp_path / f"images/val/x{index}.png"
        )
    roles = split_roles(open_labelled(path))
    assert sum(sizes(roles)) == 8
    duplicates = [p for p in roles.problems if p.kind == "duplicate_image"]
    assert sorted(Path(p.path).name for p in duplicates) == ["x0.png", "x1.png", "x2.png", "x3.png"]


def test_problems_of_all_splits_are_kept(tmp_path: Path) -> None:
    path = yolo(tmp_path, train=4, val=4)
    (tmp_path / "labels/train/train000.txt").unlink()
    (tmp_path / "images/val/broken.png").write_bytes(b"x")
    roles = split_roles(open_labelled(path, ["dog"]))
    assert sorted(problem.kind for problem in roles.problems) == [
        "class_names_differ",
        "missing_label_file",
        "unreadable_image",
    ]


def test_no_data_at_all() -> None:
    with pytest.raises(DataError, match="no images"):
        split_roles(DataSplits(None, None))


def test_a_path_in_no_known_format_lists_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        open_labelled(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"data\.yaml.*COCO instances.*folder with images"):
        open_labelled(tmp_path)
    video = tmp_path / "a.mp4"
    video.touch()
    with pytest.raises(DataError, match="pass it as the video"):
        open_labelled(video)
