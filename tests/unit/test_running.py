"""Running a bundle on sources in every state, and drawing what it finds."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from tiny_system import CLASSES, FRAMES, picture, write_model, write_video

from saccade.data.mot_text import read_rows
from saccade.data.video import probe_video
from saccade.deploy.running import VideoCanvas, open_canvas, run_source
from saccade.errors import DataError, StorageError
from saccade.models.files import model_file
from saccade.models.onnx_model import describe
from saccade.pipeline.config import PipelineConfig, TrackerOptions
from saccade.pipeline.pipeline import Pipeline


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> PipelineConfig:
    path = write_model(tmp_path_factory.mktemp("model"))
    return PipelineConfig(
        "detection", model_file(path), describe(path), 64, 0.7, reader="pyav", nms="vectorized"
    )


@pytest.fixture
def pipeline(config: PipelineConfig) -> Iterator[Pipeline]:
    with Pipeline(config) as opened:
        yield opened


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "in.mp4")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two images of the same name in two folders, and a name that is not ASCII."""
    folder = tmp_path / "images"
    for index, name in enumerate(("a/x.png", "b/x.png", "größe.jpg")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(index)).save(folder / name)
    return folder


def snapshot(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_video_is_counted_frame_by_frame(pipeline: Pipeline, video: Path) -> None:
    document = run_source(pipeline, str(video), None, None)
    results = list(pipeline.stream(video))
    assert document["frames"] == FRAMES == len(results)
    assert document["objects"] == sum(len(result) for result in results) > FRAMES
    assert sum(document["classes"].values()) == document["objects"]
    assert set(document["classes"]) <= set(CLASSES)
    assert (document["saved"], document["problems"]) == (None, [])
    assert document["fps"] > 0


@pytest.mark.parametrize("execution", ["sequential", "overlapped"])
def test_a_video_is_drawn_into_a_video(
    config: PipelineConfig, video: Path, tmp_path: Path, execution: Any
) -> None:
    out = tmp_path / "new" / "out.mp4"
    with Pipeline(replace(config, execution=execution)) as pipeline:
        document = run_source(pipeline, str(video), out, None)
    assert document["saved"] == str(out)
    probe = probe_video(out)
    assert (probe.frames, probe.width, probe.height, probe.fps) == (FRAMES, 128, 96, 25.0)
    with av.open(str(out)) as drawn, av.open(str(video)) as plain:
        pairs = zip(drawn.decode(video=0), plain.decode(video=0), strict=True)
        changed = [
            np.abs(a.to_ndarray(format="gray").astype(int) - b.to_ndarray(format="gray")).max()
            for a, b in pairs
        ]
    assert min(changed) > 40  # boxes are on every frame


def test_a_limit_ends_the_run_and_the_video_is_whole(
    pipeline: Pipeline, video: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.mkv"
    assert run_source(pipeline, str(video), out, 7)["frames"] == 7
    with av.open(str(out)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 7


def test_a_folder_is_drawn_into_a_folder_of_the_same_shape(
    pipeline: Pipeline, images: Path, tmp_path: Path
) -> None:
    before = snapshot(images)
    document = run_source(pipeline, str(images), tmp_path / "out", None)
    assert document["frames"] == 3
    assert set(snapshot(tmp_path / "out")) == set(before)
    assert snapshot(images) == before
    drawn = np.asarray(Image.open(tmp_path / "out" / "a" / "x.png"))
    assert drawn.shape == (96, 128, 3)
    assert not np.array_equal(drawn, picture(0))


def test_one_image_goes_into_a_file_or_a_folder(
    pipeline: Pipeline, images: Path, tmp_path: Path
) -> None:
    source = str(images / "a" / "x.png")
    assert run_source(pipeline, source, tmp_path / "new" / "drawn.jpg", None)["frames"] == 1
    assert (tmp_path / "new" / "drawn.jpg").is_file()
    run_source(pipeline, source, tmp_path / "folder", None)
    assert (tmp_path / "folder" / "x.png").is_file()


@pytest.mark.parametrize(
    ("source", "save"),
    [
        ("in.mp4", "in.mp4"),
        ("in.mp4", "images/../in.mp4"),
        ("in.mp4", "link.mp4"),
        ("images", "images"),
        ("images", "images/a"),
        ("images", "images/new"),
        ("images", "images/a/x.png"),
        ("images/a/x.png", "images/a/x.png"),
        ("images/a/x.png", "images/a"),
    ],
)
@pytest.mark.usefixtures("video", "images")
def test_the_source_is_never_written_over(
    pipeline: Pipeline, tmp_path: Path, source: str, save: str
) -> None:
    (tmp_path / "link.mp4").symlink_to(tmp_path / "in.mp4")
    before = snapshot(tmp_path)
    with pytest.raises(DataError, match="would write over the source") as caught:
        run_source(pipeline, str(tmp_path / source), tmp_path / save, None)
    assert caught.value.exit_code == 2
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("save", ["in.mp4", "out.jpg"])
@pytest.mark.usefixtures("video")
def test_a_folder_is_not_drawn_into_a_file(
    pipeline: Pipeline, images: Path, tmp_path: Path, save: str
) -> None:
    before = snapshot(tmp_path)
    with pytest.raises(DataError, match=r"Expected the name of a folder|was left alone"):
        run_source(pipeline, str(images), tmp_path / save, None)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    ("source", "save", "mot"),
    [
        ("in.mp4", "old.mp4", None),
        ("images", "drawn", None),
        ("images/a/x.png", "drawn", None),
        ("images/a/x.png", "drawn/x.png", None),
        ("in.mp4", None, "gt.txt"),
    ],
)
@pytest.mark.usefixtures("video", "images")
def test_what_exists_is_never_written_over(
    pipeline: Pipeline, tmp_path: Path, source: str, save: str | None, mot: str | None
) -> None:
    (tmp_path / "drawn").mkdir()
    for name in ("old.mp4", "gt.txt", "drawn/x.png"):
        (tmp_path / name).write_bytes(b"mine")
    before = snapshot(tmp_path)
    places = (tmp_path / save if save else None, None, tmp_path / mot if mot else None)
    with pytest.raises(DataError, match="exists and was left alone"):
        run_source(pipeline, str(tmp_path / source), *places)
    assert snapshot(tmp_path) == before


def test_ctrl_c_is_the_end_of_a_live_source_only(
    pipeline: Pipeline, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def frames(self: Pipeline, source: str, **_: Any) -> Iterator[Any]:
        yield from itertools.islice(whole(self, str(video)), 3)
        raise KeyboardInterrupt

    whole = Pipeline.emissions
    monkeypatch.setattr(Pipeline, "emissions", frames)
    assert run_source(pipeline, "rtsp://user:secret@host/1", None, None)["frames"] == 3
    with pytest.raises(KeyboardInterrupt):
        run_source(pipeline, str(video), None, None)


@pytest.mark.parametrize("save", ["out.txt", "out", "out.webm", "images"])
@pytest.mark.usefixtures("images")
def test_a_place_that_cannot_hold_a_video_is_refused(
    pipeline: Pipeline, video: Path, tmp_path: Path, save: str
) -> None:
    before = snapshot(tmp_path)
    with pytest.raises((DataError, StorageError)) as caught:
        run_source(pipeline, str(video), tmp_path / save, None)
    assert save in str(caught.value)
    assert "\n" not in str(caught.value)
    kept = {name: content for name, content in snapshot(tmp_path).items() if name in before}
    assert kept == before


def test_a_video_that_ends_within_a_frame_is_survived_and_named(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    whole = write_video(tmp_path / "whole.mp4", fast_start=True).read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole[: int(len(whole) * 0.6)])
    out = tmp_path / "out.mp4"
    document = run_source(pipeline, str(cut), out, None)
    assert 0 < document["frames"] < FRAMES
    assert "video_ends_early" in [problem["kind"] for problem in document["problems"]]
    assert probe_video(out).frames == document["frames"]


def test_an_image_that_is_cut_off_is_skipped_and_named(pipeline: Pipeline, images: Path) -> None:
    path = images / "größe.jpg"
    path.write_bytes(path.read_bytes()[:300])
    document = run_source(pipeline, str(images), None, None)
    assert document["frames"] == 2
    assert document["problems"] == [{"kind": "unreadable_image", "action": "skipped", "count": 1}]
    with pytest.raises(DataError, match="größe"):
        run_source(pipeline, str(path), None, None)


def test_a_folder_without_a_readable_image_is_refused(pipeline: Pipeline, tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    with pytest.raises(DataError, match="no readable image"):
        run_source(pipeline, str(folder), None, None)
    (folder / "a.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match="no readable image"):
        run_source(pipeline, str(folder), None, None)


def test_a_source_that_is_not_there_leaves_nothing(pipeline: Pipeline, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        run_source(pipeline, str(tmp_path / "none.mp4"), tmp_path / "out.mp4", None)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_before_the_first_frame_leaves_no_empty_video(
    config: PipelineConfig, video: Path, tmp_path: Path
) -> None:
    broken = replace(config, model=replace(config.model, path=str(tmp_path / "gone.onnx")))
    with Pipeline(broken) as pipeline, pytest.raises(Exception, match="gone"):
        run_source(pipeline, str(video), tmp_path / "out.mp4", None)
    assert not (tmp_path / "out.mp4").exists()


def test_a_full_disk_is_said_to_be_full(
    pipeline: Pipeline, images: Path, video: Path, tiny_disk: Path
) -> None:
    big = images / "big.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8)).save(big)
    with pytest.raises(StorageError, match="disk is full"):
        run_source(pipeline, str(images), tiny_disk / "out", None)
    (tiny_disk / "filler").write_bytes(b"x" * (tiny_disk.stat().st_blksize))
    with pytest.raises(StorageError, match="disk is full") as caught:
        for index in range(10):
            run_source(pipeline, str(video), tiny_disk / f"{index}.mp4", None)
    assert caught.value.exit_code == 1


def test_odd_sides_lose_a_row_and_a_column(tmp_path: Path) -> None:
    canvas = VideoCanvas(tmp_path / "a.mp4", Fraction(10))
    for _ in range(3):
        canvas.write(np.zeros((33, 47, 3), np.uint8), "")
    canvas.close()
    probe = probe_video(tmp_path / "a.mp4")
    assert (probe.width, probe.height, probe.frames) == (46, 32, 3)


def test_the_drawn_video_keeps_the_frame_rate(tmp_path: Path) -> None:
    path = tmp_path / "ntsc.mp4"
    canvas = VideoCanvas(path, Fraction(30000, 1001))
    for _ in range(3):
        canvas.write(np.zeros((32, 48, 3), np.uint8), "")
    canvas.close()
    again = open_canvas(str(path), tmp_path / "again.mp4")
    again.write(np.zeros((32, 48, 3), np.uint8), "")
    again.close()
    assert probe_video(tmp_path / "again.mp4").fps == pytest.approx(30000 / 1001)


def test_a_folder_of_videos_names_the_video_and_leaves_no_folder_behind(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    write_video(folder / "in.mp4")
    save = tmp_path / "drawn"
    with pytest.raises(DataError, match=r"in\.mp4"):
        run_source(pipeline, str(folder), save, None)
    assert not save.exists()


def tracking(config: PipelineConfig) -> Pipeline:
    options = TrackerOptions(high_score=0.3, new_track_score=0.3)
    return Pipeline(replace(config, task="tracking", tracker=options))


def test_tracks_are_written_as_motchallenge_reads_them(
    config: PipelineConfig, video: Path, tmp_path: Path
) -> None:
    pytest.importorskip("trackers")
    out = tmp_path / "new" / "tracks.txt"
    with tracking(config) as pipeline:
        document = run_source(pipeline, str(video), None, None, out)
        results = list(pipeline.stream(video))
    rows = read_rows(out)
    assert document["tracks"] == str(out)
    assert len(rows.frames) == sum(int((r.track_ids > 0).sum()) for r in results) > 0
    for frame in (1, 7, FRAMES - 1):
        here, result = rows.frames == frame, results[frame]
        kept = result.track_ids > 0
        assert rows.track_ids[here].tolist() == result.track_ids[kept].tolist()
        assert np.allclose(rows.boxes[here], result.boxes[kept], atol=0.01)


def test_a_folder_of_frames_is_tracked_as_a_sequence(
    config: PipelineConfig, tmp_path: Path
) -> None:
    pytest.importorskip("trackers")
    folder = tmp_path / "img1"
    folder.mkdir()
    for index in range(5):
        Image.fromarray(picture(index)).save(folder / f"{index + 1:06d}.png")
    with tracking(config) as pipeline:
        run_source(pipeline, str(folder), tmp_path / "drawn", None, tmp_path / "tracks.txt")
    assert set(read_rows(tmp_path / "tracks.txt").frames.tolist()) > {2, 3}
    assert len(list((tmp_path / "drawn").iterdir())) == 5


def test_tracks_of_what_does_not_track_are_refused(
    pipeline: Pipeline, video: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="--task tracking"):
        run_source(pipeline, str(video), None, None, tmp_path / "tracks.txt")
    with pytest.raises(DataError, match=r"--mot .* would write over the source"):
        run_source(pipeline, str(video), None, None, video)
    assert not (tmp_path / "tracks.txt").exists()
