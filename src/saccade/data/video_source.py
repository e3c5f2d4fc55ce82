"""A video source: what it is called, whether it is live, and how PyAV (FFmpeg) opens it."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import av
import av.error
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from saccade.data.images import display_path
from saccade.errors import DataError
from saccade.stream_address import is_address, without_password

Source = str | int | os.PathLike[str]

_FILE_PREFIX = "file:"
_DEVICE_PREFIX = "/dev/video"
# Seconds until a stream counts as absent, and as lost.
_OPEN_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 10.0
# FFmpeg opens still images and plain text as one-frame videos.
_NO_VIDEO_FORMATS = frozenset({"image2", "tty"})


def is_live(source: Source) -> bool:
    """Whether the source is a camera (index or device) or a network stream, not a file."""
    if isinstance(source, int):
        return True
    text = os.fspath(source)
    # A file that is called '0' is still reached as './0'.
    return (
        text.isdecimal()
        or is_address(text)
        or (text.startswith(_DEVICE_PREFIX) and text.removeprefix(_DEVICE_PREFIX).isdecimal())
    )


def source_name(source: Source) -> str:
    """The source as text for people: printable, and without a password."""
    if isinstance(source, int):
        return f"camera {source}"
    text = os.fspath(source)
    if text.isdecimal():
        return f"camera {text}"
    return without_password(text) if is_address(text) else display_path(text)


def open_container(source: Source) -> InputContainer:
    """Open a file, a camera (index or ``/dev/videoN``) or a network stream for reading.

    The caller closes it. Decoder settings may be changed on ``video_stream(container)`` until
    the first frame is decoded.

    Raises:
        DataError: the source is missing or does not answer, or is not a video.
    """
    name = source_name(source)
    try:
        text = str(source) if isinstance(source, int) else os.fspath(source)
        container = _open_live(text) if is_live(source) else _open_file(text)
    except (av.error.FFmpegError, OSError, UnicodeError) as error:
        # Not chained: FFmpeg's error repeats the address, with its password.
        raise _open_error(source, name, error) from None
    if container.format.name in _NO_VIDEO_FORMATS or container.format.name.endswith("_pipe"):
        container.close()
        raise DataError(f"{name} is not a video but a single image or text. Expected a video file.")
    try:
        video_stream(container)
    except DataError:
        container.close()
        raise
    return container


def container_name(container: InputContainer) -> str:
    """The source of an open container as text for people."""
    return source_name(container.name.removeprefix(_FILE_PREFIX))


def video_stream(container: InputContainer) -> VideoStream:
    """The first video stream that is not a cover picture.

    Raises:
        DataError: there is none.
    """
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            return stream
    raise DataError(
        f"{container_name(container)} has no video stream. Expected a file with video, "
        "such as MP4, MKV or AVI."
    )


def _open_file(path: str) -> InputContainer:
    # Without the prefix, a name with a colon would be read as a protocol.
    return av.open(f"{_FILE_PREFIX}{path}", "r")


def _open_live(text: str) -> InputContainer:
    timeout = (_OPEN_TIMEOUT_S, READ_TIMEOUT_S)
    if is_address(text):
        # Over UDP, FFmpeg's default, lost packets become grey or smeared frames.
        options = {"rtsp_transport": "tcp"} if text.lower().startswith("rtsp") else {}
        return av.open(text, "r", options=options, timeout=timeout)
    index = int(text.removeprefix(_DEVICE_PREFIX))
    if sys.platform == "linux":
        return av.open(f"{_DEVICE_PREFIX}{index}", "r", format="v4l2", timeout=timeout)
    if sys.platform == "darwin":
        options = {"framerate": "30"}  # its default, 29.97, is refused by many cameras
        return av.open(str(index), "r", format="avfoundation", options=options, timeout=timeout)
    cameras = [d for d in av.enumerate_input_devices("dshow") if "video" in d.media_types]
    if index >= len(cameras):
        raise FileNotFoundError(errno.ENOENT, f"there are {len(cameras)} cameras")
    return av.open(f"video={cameras[index].description}", "r", format="dshow", timeout=timeout)


def _open_error(source: Source, name: str, error: Exception) -> DataError:
    reason = getattr(error, "strerror", None) or type(error).__name__
    if is_live(source):
        return DataError(
            f"{name} cannot be opened: {reason}. Check that it is connected, that the address is "
            f"right and that nothing else uses it (waited up to {_OPEN_TIMEOUT_S:.0f} s)."
        )
    assert not isinstance(source, int)  # an index is live
    path = Path(source)
    if not path.exists():
        return DataError(f"The video {name} does not exist. Check the spelling.")
    if path.is_dir():
        return DataError(f"{name} is a folder. Expected a video file.")
    if isinstance(error, UnicodeError):
        return DataError(f"The name of the video {name} is not valid UTF-8. Rename the file.")
    if isinstance(error, PermissionError):
        return DataError(f"The video {name} cannot be opened: {reason}. Check its permissions.")
    if path.stat().st_size == 0:
        return DataError(f"The video {name} is empty. Download or record it again.")
    if _lacks_moov(path):
        return DataError(
            f"The video {name} is cut off: it is an MP4 without its index (the moov atom), which "
            "recorders write last. Download or record it again."
        )
    return DataError(f"{name} is not a video: {reason}. Expected a file such as MP4, MKV or AVI.")


def _lacks_moov(path: Path) -> bool:
    """Whether the file is an MP4 (ISO 14496-12) of which no top-level box is ``moov``."""
    kinds: list[bytes] = []
    size = path.stat().st_size
    with path.open("rb") as file:
        position = 0
        while position + 8 <= size:
            file.seek(position)
            header = file.read(16)
            length = int.from_bytes(header[:4], "big")
            if length == 1:  # the length did not fit and follows the kind
                length = int.from_bytes(header[8:16], "big")
            kinds.append(header[4:8])
            if length < 8:  # 0 means: to the end of the file
                break
            position += length
    return kinds[:1] == [b"ftyp"] and b"moov" not in kinds
