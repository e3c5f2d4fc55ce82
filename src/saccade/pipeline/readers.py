"""Readers: who decodes a source. Each yields `saccade.pipeline.frames.Frame` objects in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from saccade.data.contract import DataProblem
from saccade.data.images import read_image, walk_images
from saccade.data.video import decode_frames, open_container
from saccade.errors import DataError
from saccade.pipeline.config import PipelineConfig
from saccade.pipeline.frames import ArrayFrame, Frame, PlanarFrame, SwscaleFrame

OnProblem = Callable[[DataProblem], None]


class Reader(Protocol):
    """Turns a source into frames."""

    def frames(self, source: str, on_problem: OnProblem) -> Iterator[Frame]:
        """Decode ``source`` (a video, a folder of images, an URL, a camera index) once.

        Raises:
            DataError: the source cannot be opened.
        """
        ...


class OpenCvReader:
    """OpenCV's VideoCapture and imread, as most people write it: full-size BGR frames."""

    def __init__(self, config: PipelineConfig) -> None:
        self._config = config

    def frames(self, source: str, on_problem: OnProblem) -> Iterator[Frame]:
        """Decode ``source`` once into BGR frames."""
        if Path(source).is_dir():
            yield from image_frames(source, on_problem)
            return
        capture = cv2.VideoCapture(int(source) if source.isdigit() else source)
        if not capture.isOpened():
            raise DataError(
                f"OpenCV cannot open '{source}'. Expected a video file, a folder of images, a "
                "stream URL or a camera index; check the path and that the file plays elsewhere."
            )
        try:
            while True:
                ok, pixels = capture.read()
                if not ok:
                    return
                yield ArrayFrame(pixels, "bgr")
        finally:
            capture.release()


class PyAvReader:
    """FFmpeg through PyAV: frames stay in the decoder's YUV until they are small."""

    def __init__(self, config: PipelineConfig) -> None:
        self._config = config

    def frames(self, source: str, on_problem: OnProblem) -> Iterator[Frame]:
        """Decode ``source`` once into YUV frames."""
        if Path(source).is_dir():
            yield from image_frames(source, on_problem)
            return
        container = open_container(source)
        try:
            self._configure(container.streams.video[0])
            wrap = SwscaleFrame if self._config.resize == "swscale" else PlanarFrame
            for frame in decode_frames(container, on_problem):
                yield wrap(frame)
        finally:
            container.close()

    def _configure(self, stream: object) -> None:
        context = stream.codec_context  # type: ignore[attr-defined]
        threads = self._config.decode_threads
        if threads == 1:
            # One thread costs the least CPU per frame; the other cores have inference to do.
            context.thread_type = "NONE"
            context.thread_count = 1
        else:
            context.thread_type = "AUTO"
            context.thread_count = threads or 0
        if self._config.skip_loop_filter:
            context.options = {**context.options, "skip_loop_filter": "all"}


def image_frames(folder: str, on_problem: OnProblem) -> Iterator[Frame]:
    """The readable images of a folder, in the order of their names."""
    for path in sorted(walk_images(Path(folder))):
        try:
            yield ArrayFrame(np.ascontiguousarray(read_image(path)), "rgb")
        except DataError as error:
            on_problem(DataProblem("unreadable_image", str(path), str(error), "skipped"))
