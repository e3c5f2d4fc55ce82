"""Images that are frames of a sequence: their runs, and their pixels."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from saccade.data.contract import LabelledImage
from saccade.data.images import read_image
from saccade.errors import DataError


@dataclass(frozen=True)
class Clip:
    """Consecutive frames of one source.

    Attributes:
        source: the video, or the folder of images.
        start: the first frame, from 0.
        stop: the frame after the last.
    """

    source: Path
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


def clips_of(images: Sequence[LabelledImage]) -> tuple[Clip, ...]:
    """The runs of consecutive frames, in order; none for images that belong to no sequence."""
    clips: list[Clip] = []
    for frame in (image.frame for image in images):
        if frame is None:
            return ()
        last = clips[-1] if clips else None
        if last is not None and last.source == frame.source and last.stop == frame.index:
            clips[-1] = Clip(last.source, last.start, frame.index + 1)
        else:
            clips.append(Clip(frame.source, frame.index, frame.index + 1))
    return tuple(clips)


def pixels_of(images: Sequence[LabelledImage]) -> Iterator[NDArray[np.uint8]]:
    """RGB ``(H, W, 3)`` uint8 of each image, in order; a video is decoded once per run of frames.

    Raises:
        DataError: an image cannot be read, or a video ends before the frame.
    """
    for video, group in itertools.groupby(images, _video_of):
        if video is None:
            yield from (read_image(image.path) for image in group)
        else:
            yield from _video_pixels(video, list(group))


def _video_of(image: LabelledImage) -> Path | None:
    """The video that an image is a frame of; None where it has a file of its own."""
    return image.path if image.frame is not None and image.frame.source == image.path else None


def _video_pixels(video: Path, images: list[LabelledImage]) -> Iterator[NDArray[np.uint8]]:
    from saccade.data.video import decode_frames, open_container

    wanted = [image.frame.index for image in images if image.frame is not None]
    if wanted != sorted(set(wanted)):
        raise DataError(f"The frames of '{video}' were asked for out of order.")
    remaining = iter(wanted)
    awaited = next(remaining, None)
    with open_container(video) as container:
        for index, frame in enumerate(decode_frames(container, lambda _: None)):
            if awaited is None:
                return
            if index == awaited:
                yield frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
                awaited = next(remaining, None)
    if awaited is not None:
        raise DataError(f"'{video}' ends before its frame {awaited}, which has labels.")
