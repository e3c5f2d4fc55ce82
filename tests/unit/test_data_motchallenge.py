"""MOTChallenge sequences: both dialects, images and video, what is refused, and roles in runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_system import picture, write_video

from saccade.data.counted import counted_classes, only_classes
from saccade.data.mot_text import read_rows, written_rows
from saccade.data.motchallenge import MotChallengeFormat
from saccade.data.roles import split_roles
from saccade.data.sequences import clips_of, pixels_of
from saccade.errors import DataError, SpecError

MODEL = ("bicycle", "Person", "car")


def write_truth(folder: Path, lines: list[str]) -> Path:
    (folder / "gt").mkdir(parents=True)
    (folder / "gt" / "gt.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def write_frames(folder: Path, count: int) -> None:
    (folder / "img1").mkdir(parents=True, exist_ok=True)
    for index in range(count):
        Image.fromarray(picture(index)).save(folder / "img1" / f"{index + 1:06d}.png")


def walking(frames: int, tail: str = "1,-1,-1,-1") -> list[str]:
    return [f"{f + 1},7,{10 + f},20,30,40,{tail}" for f in range(frames)]


def test_images_and_mot15_ground_truth(tmp_path: Path) -> None:
    """The ten columns of MOT15 hold a place in the world, which is not a class."""
    lines = [
        "1,7,10,20,30,40,1,-4.15,-7.36,0",
        "3,9,1,2,3,4,1,2.0,8.0,0",
        "3,7,11,20,30,40,0,1,1,0",
    ]
    folder = write_truth(tmp_path / "walk", lines)
    write_frames(folder, 3)
    found = MotChallengeFormat.read(folder, MODEL).val
    assert found is not None
    assert [image.frame.index for image in found.images if image.frame] == [0, 1, 2]
    first, second, third = found.images
    assert first.boxes.tolist() == [[10, 20, 40, 60]]
    assert (first.class_ids.tolist(), first.track_ids.tolist()) == ([1], [7])  # type: ignore[union-attr]
    assert len(second.boxes) == 0
    assert third.track_ids is not None
    assert third.track_ids.tolist() == [9], "a box whose flag is 0 does not count"
    assert (first.width, first.height) == (128, 96)


def test_mot17_classes_and_distractors(tmp_path: Path) -> None:
    lines = [
        "1,1,10,20,30,40,1,1,0.9",  # a pedestrian
        "1,2,50,20,30,40,0,1,0.1",  # one that is not to be judged
        "1,3,60,20,30,40,1,7,1.0",  # a static person: found or not, it does not count
        "1,4,70,20,30,40,1,3,1.0",  # a car
    ]
    folder = write_truth(tmp_path / "walk", lines)
    write_frames(folder, 1)
    found = MotChallengeFormat.read(folder, MODEL).val
    assert found is not None
    image = found.images[0]
    assert image.track_ids is not None
    assert dict(zip(image.track_ids.tolist(), image.crowd.tolist(), strict=True)) == {
        1: False,
        3: True,
    }


def test_a_video_beside_the_folder_and_its_frames(tmp_path: Path) -> None:
    folder = write_truth(tmp_path / "PETS09-S2L1", walking(12))
    write_video(tmp_path / "pets09-s2l1.mp4", 12)
    found = MotChallengeFormat.read(folder).val
    assert found is not None
    assert found.class_names == ("person",)
    assert {image.path.name for image in found.images} == {"pets09-s2l1.mp4"}
    assert len(clips_of(found.images)) == 1
    chosen = (found.images[3], found.images[9])
    for pixels, index in zip(pixels_of(chosen), (3, 9), strict=True):
        distances = [np.abs(pixels.astype(int) - picture(i)).mean() for i in range(12)]
        assert int(np.argmin(distances)) == index


def test_seqinfo_says_where_the_frames_are(tmp_path: Path) -> None:
    folder = write_truth(tmp_path / "walk", walking(2))
    write_frames(folder, 3)
    (folder / "img1").rename(folder / "frames")
    (folder / "seqinfo.ini").write_text("[Sequence]\nname=walk\nimDir=frames\n", encoding="utf-8")
    found = MotChallengeFormat.read(folder).val
    assert found is not None
    assert len(found) == 3


def test_a_folder_of_sequences_keeps_them_apart(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_frames(write_truth(tmp_path / name, walking(10)), 10)
    splits = MotChallengeFormat.read(tmp_path)
    assert splits.val is not None
    assert [(clip.source.parent.name, len(clip)) for clip in clips_of(splits.val.images)] == [
        ("a", 10),
        ("b", 10),
    ]


def test_roles_are_runs_of_frames_that_share_none(tmp_path: Path) -> None:
    folder = write_truth(tmp_path / "walk", walking(30))
    write_video(folder / "walk.mp4", 30)
    roles = split_roles(MotChallengeFormat.read(folder))
    assert roles.selection is not None
    assert roles.calibration is not None
    assert roles.report is not None
    spans = [
        (clip.start, clip.stop)
        for role in (roles.selection, roles.calibration, roles.report)
        for clip in clips_of(role.images)
    ]
    assert spans == [(0, 12), (12, 15), (15, 30)]
    assert len({roles.selection.digest, roles.calibration.digest, roles.report.digest}) == 3


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("1,2,3", "columns"),
        ("1,2,3,4,5,x,1", "could not convert"),
        ("0,1,3,4,5,6,1", "from 1"),
        ("1,1,3,4,0,6,1", "without area"),
        ("1,1,3,nan,5,6,1", "finite"),
    ],
)
def test_a_bad_line_is_left_out_and_named(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "gt.txt"
    path.write_text(f"1,5,3,4,5,6,1\n{line}\n", encoding="utf-8")
    rows = read_rows(path)
    assert rows.track_ids.tolist() == [5]
    assert [problem.kind for problem in rows.problems] == ["bad_label_line"]
    assert said in rows.problems[0].detail
    assert "line 2" in rows.problems[0].detail


def test_an_object_in_two_places_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "gt.txt"
    path.write_text("4,5,3,4,5,6,1\n4,5,30,4,5,6,1\n", encoding="utf-8")
    with pytest.raises(DataError, match="id 5 2 times in frame 4"):
        read_rows(path)


def test_no_frames_an_unreadable_one_or_too_few_are_refused(tmp_path: Path) -> None:
    bare = write_truth(tmp_path / "bare", walking(2))
    with pytest.raises(DataError, match="no frames"):
        MotChallengeFormat.read(bare)
    broken = write_truth(tmp_path / "broken", walking(2))
    write_frames(broken, 2)
    (broken / "img1" / "000002.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="needs every frame"):
        MotChallengeFormat.read(broken)
    short = write_truth(tmp_path / "short", walking(20))
    write_video(short / "short.mp4", 10)
    with pytest.raises(DataError, match="has 10 frames, but its labels are of 20"):
        MotChallengeFormat.read(short)


def test_a_model_without_persons_is_refused(tmp_path: Path) -> None:
    folder = write_truth(tmp_path / "walk", walking(2))
    write_frames(folder, 2)
    with pytest.raises(DataError, match="person or pedestrian"):
        MotChallengeFormat.read(folder, ("cat", "dog"))


def test_classes_that_count(tmp_path: Path) -> None:
    folder = write_truth(tmp_path / "walk", walking(2))
    write_frames(folder, 2)
    splits = MotChallengeFormat.read(folder, MODEL)
    assert counted_classes((), MODEL, splits) == (1,), "those whose tracks are labelled"
    assert counted_classes((), MODEL, None) == ()
    assert counted_classes(("car", "person"), MODEL, splits) == (1, 2)
    with pytest.raises(SpecError, match="Did you mean 'bicycle'"):
        counted_classes(("bicycles",), MODEL, None)
    assert splits.val is not None
    left = only_classes(splits, (2,)).val
    assert left is not None
    assert sum(image.label_count for image in left.images) == 0
    assert left.digest != splits.val.digest


def test_written_rows_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    ids = np.array([3, -1, 12])
    boxes = np.array([[1.5, 2, 11.5, 22], [0, 0, 5, 5], [30, 40, 50, 90.25]], np.float32)
    path.write_text("".join(written_rows(4, ids, boxes, np.array([0.9, 0.8, 0.7], np.float32))))
    rows = read_rows(path)
    assert rows.frames.tolist() == [4, 4]
    assert rows.track_ids.tolist() == [3, 12], "a box without an id is no track"
    assert np.allclose(rows.boxes, boxes[[0, 2]])
    assert path.read_text().splitlines()[0] == "5,3,1.500,2.000,10.000,20.000,0.9000,-1,-1,-1"
