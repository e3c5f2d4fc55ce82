"""The data formats on real COCO images and a real video."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from saccade.data.contract import DataProblem
from saccade.data.images import read_image
from saccade.data.open import open_labelled, split_roles
from saccade.data.video import decode_frames, open_container, probe_video

pytestmark = pytest.mark.realdata


def test_coco_sample_by_yaml(data_root: Path) -> None:
    splits = open_labelled(data_root / "coco" / "data.yaml")
    assert splits.train is not None
    assert splits.val is not None
    assert (len(splits.train), len(splits.val)) == (128, 64)
    assert splits.train.labelled
    assert splits.val.labelled
    assert len(splits.val.class_names) == 80
    # Two training images show nothing of the 80 classes and have no label file.
    assert [p.kind for p in splits.train.problems] == ["missing_label_file"] * 2
    assert splits.val.problems == ()
    label_lines = sum(
        len(path.read_text().splitlines())
        for path in (data_root / "coco/labels/validation").glob("*.txt")
    )
    assert sum(len(image.boxes) for image in splits.val.images) == label_lines
    roles = split_roles(splits)
    assert [len(r) for r in (roles.calibration, roles.selection, roles.report) if r] == [32, 96, 64]


def test_probed_sizes_are_those_of_the_pixels(data_root: Path) -> None:
    val = open_labelled(data_root / "coco" / "data.yaml").val
    assert val is not None
    for image in val.images[::8]:
        assert read_image(image.path).shape == (image.height, image.width, 3)


def test_real_jpegs_cut_anywhere_are_found(data_root: Path, tmp_path: Path) -> None:
    source = data_root / "coco/images/validation"
    (tmp_path / "images").mkdir()
    for index, path in enumerate(sorted(source.glob("*.jpg"))[:12]):
        data = path.read_bytes()
        kept = len(data) if index % 3 else int(len(data) * (index + 1) / 13)
        (tmp_path / "images" / path.name).write_bytes(data[:kept])
    val = open_labelled(tmp_path / "images").val
    assert val is not None
    assert len(val) == 8
    assert [p.kind for p in val.problems] == ["truncated_image"] * 4


def test_street_video(data_root: Path) -> None:
    path = data_root / "video" / "street-1080p.mp4"
    probe = probe_video(path)
    assert (probe.width, probe.height, probe.fps, probe.frames) == (1920, 1080, 10.0, 200)
    assert probe.codec == "h264"
    assert probe.duration_s == pytest.approx(20.0)
    problems: list[DataProblem] = []
    with open_container(path) as container:
        assert sum(1 for _ in decode_frames(container, problems.append, threads=0)) == 200
    assert problems == []


def test_avi_without_presentation_times(data_root: Path, tmp_path: Path) -> None:
    data = (data_root / "video" / "pets09-s2l1.avi").read_bytes()
    cut = tmp_path / "cut.avi"
    cut.write_bytes(data[: len(data) // 8])
    problems: list[DataProblem] = []
    with open_container(cut) as container:
        frames = sum(1 for _ in decode_frames(container, problems.append))
    assert 50 < frames < 200
    assert [problem.kind for problem in problems] == ["video_ends_early"]


def test_opencv_and_pyav_agree_on_the_number_of_frames(data_root: Path) -> None:
    import cv2

    path = data_root / "video" / "TUD-Campus"
    video = next(path.rglob("*.mp4"))
    capture = cv2.VideoCapture(str(video))
    counted = 0
    problems: list[DataProblem] = []
    while capture.grab():
        counted += 1
    with open_container(video) as container:
        frames = [frame.pts for frame in decode_frames(container, problems.append)]
    assert problems == []
    assert counted == len(frames) == probe_video(video).frames
    assert np.all(np.diff(frames) > 0)
