"""Video files, cameras and network streams through one reader, PyAV: what is in a source.

`open_container` opens one, `decode_frames` decodes it, `probe_video` describes it. Importing
this module imports PyAV.
"""

from __future__ import annotations

from dataclasses import dataclass

from saccade.data.video_decode import declared_duration_s, decode_frames
from saccade.data.video_source import (
    Source,
    is_live,
    open_container,
    source_name,
    video_stream,
)

__all__ = [
    "Source",
    "VideoProbe",
    "decode_frames",
    "is_live",
    "open_container",
    "probe_video",
    "source_name",
    "video_stream",
]


@dataclass(frozen=True)
class VideoProbe:
    """What a video source says about itself.

    Attributes:
        path: the source as text; a password in a URL is left out.
        width: pixels, as stored (a rotation in the metadata is not applied).
        height: pixels.
        fps: average frames per second; 0 where the container does not say.
        frames: as counted by the container; None where it does not count, as in MKV or live.
        codec: FFmpeg's name, such as ``"h264"``.
        duration_s: seconds; None where unknown or live.
        bit_rate: of the video stream or else the file, bit/s; None where unknown.
        rotation_deg: counter-clockwise rotation that players apply to show it upright.
    """

    path: str
    width: int
    height: int
    fps: float
    frames: int | None
    codec: str
    duration_s: float | None
    bit_rate: int | None
    rotation_deg: int = 0


def probe_video(source: Source) -> VideoProbe:
    """Read the container's description and decode the first frame, as proof that it decodes.

    Raises:
        DataError: the source is missing, is not a video, or holds no frame.
    """
    with open_container(source) as container:
        stream = video_stream(container)
        first = next(decode_frames(container, lambda _: None), None)
        assert first is not None  # decode_frames refuses a video without frames
        rate = stream.average_rate or stream.guessed_rate
        duration = None if is_live(source) else declared_duration_s(container, stream)
        return VideoProbe(
            path=source_name(source),
            width=first.width,
            height=first.height,
            fps=float(rate) if rate else 0.0,
            frames=stream.frames or None,
            codec=stream.codec_context.name,
            duration_s=duration,
            bit_rate=stream.bit_rate or container.bit_rate or None,
            rotation_deg=first.rotation,
        )
