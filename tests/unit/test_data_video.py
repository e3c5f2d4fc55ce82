"""Video files in every state, made with PyAV and then damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from saccade.data.contract import DataProblem
from saccade.data.video import (
    decode_frames,
    is_live,
    open_container,
    probe_video,
    source_name,
)
from saccade.errors import DataError

FRAMES = 30
BASE = np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8)


def make_video(path: Path, codec: str = "libx264", options: dict[str, str] | None = None) -> Path:
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 128, 96, "yuv420p", 10
        if codec == "mjpeg":
            stream.pix_fmt = "yuvj420p"
        for index in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(np.roll(BASE, 3 * index, 1), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def faststart(path: Path) -> Path:
    """An MP4 whose index comes first, so that it can be cut and still be opened."""
    return make_video(path, options={"movflags": "faststart"})


def decode(path: Path, **kwargs: Any) -> tuple[list[av.VideoFrame], list[DataProblem]]:
    problems: list[DataProblem] = []
    with open_container(path) as container:
        frames = list(decode_frames(container, problems.append, **kwargs))
    return frames, problems


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.ts", "libx264"), ("a.avi", "mpeg4")],
)
@pytest.mark.parametrize("threads", [None, 0, 1])
def test_a_sound_video_gives_every_frame_and_no_problem(
    tmp_path: Path, name: str, codec: str, threads: int | None
) -> None:
    frames, problems = decode(make_video(tmp_path / name, codec), threads=threads)
    assert len(frames) == FRAMES
    assert problems == []


def test_probe(tmp_path: Path) -> None:
    probe = probe_video(make_video(tmp_path / "a.mp4"))
    assert (probe.width, probe.height, probe.fps, probe.frames) == (128, 96, 25.0, FRAMES)
    assert probe.codec == "h264"
    assert probe.duration_s == pytest.approx(FRAMES / 25)
    assert probe.bit_rate
    assert probe_video(make_video(tmp_path / "a.mkv")).frames is None


def test_loop_filter_and_threads_take_effect(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4")
    plain, _ = decode(path)
    again, _ = decode(path, threads=2)
    skipped, _ = decode(path, skip_loop_filter=True)
    last = [frames[-1].to_ndarray() for frames in (plain, again, skipped)]
    np.testing.assert_array_equal(last[0], last[1])
    assert np.any(last[0] != last[2])


@pytest.mark.parametrize("name", ["Straße.mp4", "影片 1.mp4", "a:b.mp4", "%03d.mp4"])
def test_unusual_names(tmp_path: Path, name: str) -> None:
    path = make_video(tmp_path / name)
    assert probe_video(path).path == str(path)
    assert len(decode(path)[0]) == FRAMES


@pytest.mark.parametrize("threads", [None, 0])
@pytest.mark.parametrize("kept", [0.9, 0.5])
def test_a_video_that_ends_mid_frame(tmp_path: Path, kept: float, threads: int | None) -> None:
    path = faststart(tmp_path / "a.mp4")
    whole = [frame.to_ndarray() for frame in decode(path)[0]]
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    frames, problems = decode(path, threads=threads)
    assert 0 < len(frames) < FRAMES
    assert [problem.kind for problem in problems] == ["video_ends_early"]
    assert "its last frame is incomplete" in problems[0].detail
    np.testing.assert_array_equal(frames[0].to_ndarray(), whole[0])


@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "libx264"), ("a.avi", "mpeg4")])
def test_other_containers_cut_short(tmp_path: Path, name: str, codec: str) -> None:
    path = make_video(tmp_path / name, codec)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    frames, problems = decode(path)
    assert 0 < len(frames) < FRAMES
    assert [problem.kind for problem in problems] == ["video_ends_early"]


def test_leaving_early_is_not_an_early_end(tmp_path: Path) -> None:
    problems: list[DataProblem] = []
    with open_container(make_video(tmp_path / "a.mp4")) as container:
        frames = decode_frames(container, problems.append)
        next(frames)
        frames.close()  # type: ignore[attr-defined]
    assert problems == []


def test_damage_in_the_middle_is_reported_and_survived(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.avi", "mjpeg")
    data = bytearray(path.read_bytes())
    with open_container(path) as container:
        packet = [bytes(p) for p in container.demux(video=0) if p.size][10]
    position = data.index(packet)
    data[position : position + len(packet)] = bytes(len(packet))
    path.write_bytes(data)
    frames, problems = decode(path)
    assert len(frames) == FRAMES - 1
    assert [(p.kind, p.action) for p in problems] == [("corrupt_frame", "skipped")]
    assert "0.40 s" in problems[0].detail


def test_mp4_without_its_index_is_named(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"cut off.*moov"):
        probe_video(path)


def test_what_is_no_video(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a video\n" * 100)
    empty = tmp_path / "empty.mp4"
    empty.touch()
    noise = tmp_path / "noise.mp4"
    noise.write_bytes(bytes(range(256)) * 8)
    for path, expected in (
        (tmp_path / "none.mp4", "does not exist"),
        (tmp_path, "is a folder"),
        (text, "not a video"),
        (empty, "is empty"),
        (noise, "not a video"),
    ):
        with pytest.raises(DataError, match=expected):
            probe_video(path)


def test_a_still_image_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    av.VideoFrame.from_ndarray(BASE, format="rgb24").save(str(path))
    with pytest.raises(DataError, match="single image"):
        probe_video(path)


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(DataError, match="no video stream"):
        probe_video(path)


def test_a_container_without_frames_is_refused(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mkv")
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"\x1f\x43\xb6\x75") + 30])  # Matroska's first cluster
    with pytest.raises(DataError, match="no frame"):
        probe_video(path)


@pytest.mark.parametrize(
    ("source", "live"),
    [
        (0, True),
        ("0", True),
        ("/dev/video2", True),
        ("rtsp://camera/1", True),
        ("HTTP://host/a.mp4", True),
        ("./0", False),
        ("a.mp4", False),
        (Path("rtsp/a.mp4"), False),
        ("/dev/video", False),
    ],
)
def test_is_live(source: str | int | Path, live: bool) -> None:
    assert is_live(source) is live


def test_passwords_stay_out_of_messages() -> None:
    assert source_name("rtsp://user:secret@host:554/s?token=secret") == "rtsp://host:554/s"
    with pytest.raises(DataError, match=r"rtsp://127\.0\.0\.1:1/s cannot be opened") as caught:
        open_container("rtsp://user:secret@127.0.0.1:1/s?token=secret")
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_camera_that_is_not_there() -> None:
    with pytest.raises(DataError, match="camera 93 cannot be opened"):
        open_container(93)


class _HesitantContainer:
    """A camera that answers 'not yet' before each packet, which no device here does."""

    def __init__(self, container: Any) -> None:
        self._container, self._packets = container, None
        self.name, self.streams, self.duration = (
            container.name,
            container.streams,
            container.duration,
        )

    def demux(self, stream: Any) -> Any:
        self._packets = self._packets or self._container.demux(stream)
        return self._one()

    def _one(self) -> Any:
        for packet in self._packets:  # type: ignore[attr-defined]
            yield packet
            if packet.size:
                raise BlockingIOError


def test_a_camera_that_is_not_ready_is_asked_again(tmp_path: Path) -> None:
    problems: list[DataProblem] = []
    with open_container(make_video(tmp_path / "a.mp4")) as container:
        hesitant: Any = _HesitantContainer(container)
        assert len(list(decode_frames(hesitant, problems.append))) == FRAMES
    assert problems == []
