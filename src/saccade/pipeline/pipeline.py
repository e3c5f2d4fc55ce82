"""`Pipeline`: a configuration, running. What `saccade.load` returns."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from saccade import plugins
from saccade.data.contract import DataProblem, LabelledImage
from saccade.data.images import read_image
from saccade.data.sequences import clips_of, pixels_of
from saccade.errors import DataError
from saccade.pipeline.allocator import make_frugal
from saccade.pipeline.config import PipelineConfig
from saccade.pipeline.doubt import above, doubtful
from saccade.pipeline.engine import Clock, Emission, Stages, run_overlapped, run_sequential
from saccade.pipeline.frames import ArrayFrame, Frame, as_decoded
from saccade.pipeline.geometry import Letterbox, center_cropped, letterbox, stretched
from saccade.pipeline.reel import Excerpts, Reel
from saccade.pipeline.sessions import SessionPool
from saccade.pipeline.two_looks import FirstLook, run_overlapped_twice, run_sequential_twice
from saccade.runtimes.contract import Session
from saccade.stream_address import without_password

KEPT_PROBLEMS = 100

# `SessionPool.stream` or `SessionPool.image`.
PooledSession = Callable[..., Session]

SessionFor = Callable[[tuple[int, int]], Session]

# What runs frames through the stages.
Engine = Callable[[Iterator[Frame]], Iterator[Emission]]


class Pipeline:
    """Runs images and streams through one configuration.

    Use it as a context manager or call `close`. One thread at a time may call it.

    Attributes:
        config: how it runs.
        problems: what was wrong with the sources so far, each once, the first `KEPT_PROBLEMS`.
    """

    def __init__(
        self, config: PipelineConfig, *, profile: bool = False, clock: Clock = time.perf_counter
    ) -> None:
        if config.allocator == "frugal":  # before anything large is opened
            make_frugal()
        self.config = config
        self.problems: list[DataProblem] = []
        self.preprocessor = plugins.load("preprocessors", config.preprocessor)(config)
        self._task = plugins.load("tasks", config.task)
        self._sessions = SessionPool(config, self.preprocessor.in_graph, profile)
        self._clock = clock
        self._opencv_threads = _limit_opencv_threads(config)

    def __call__(self, image: NDArray[np.uint8] | str | os.PathLike[str]) -> Any:
        """Run one image, an RGB uint8 ``(H, W, 3)`` array or a path; nothing is tracked in it.

        Raises:
            DataError: the file is unreadable, or the array is not an RGB uint8 image.
        """
        pixels = checked_image(image) if isinstance(image, np.ndarray) else read_image(Path(image))
        return self._run_one(ArrayFrame(pixels, "rgb"))

    def judge(self, rgb: NDArray[np.uint8], score_threshold: float) -> Any:
        """Run one image through the path that the stream's frames take.

        A stream that is scaled in YUV is judged on images that were YUV before.
        """
        return self._run_one(as_decoded(rgb, self.config.resize), score_threshold)

    def judge_images(
        self, images: Sequence[LabelledImage], score_threshold: float
    ) -> Iterator[Any]:
        """Results on the images of a dataset, in order.

        Where objects are tracked, each run of frames is a stream, and keeps its own thresholds.
        """
        clips = clips_of(images) if self.config.tracker is not None else ()
        for clip in clips:
            yield from self.judge_clip(str(clip.source), clip.start, clip.stop)
        if not clips:
            for pixels in pixels_of(images):
                yield self.judge(pixels, score_threshold)

    def judge_frames(
        self, source: str, count: int, step: int, score_threshold: float, start: int = 0
    ) -> Iterator[Any]:
        """Results on every ``step``-th frame of ``source`` from ``start``, ``count`` at most.

        Where a result can depend on the frames before, those between are run too.
        """
        policy = self.config.dynamic_resolution
        alone = policy is None or policy.still_up_to <= 0
        end = start + count * step
        chosen = itertools.islice(self.frames(source), start, end, step if alone else 1)
        found = self._one_by_one(chosen, self._sessions.stream, score_threshold)
        for emission in itertools.islice(found, 0, None, 1 if alone else step):
            yield emission.result

    def judge_clip(self, source: str, start: int, stop: int) -> Iterator[Any]:
        """Results on frames ``start`` to ``stop`` of ``source``, as a stream of its own.

        Frame by frame, whatever the execution; the tracker begins anew, and every setting is that
        of the stream, since tracks depend on all of them.
        """
        chosen = itertools.islice(self.frames(source), start, stop)
        for emission in run_sequential(self._stages(self._sessions.stream), chosen):
            yield emission.result

    def _run_one(self, frame: Frame, score_threshold: float | None = None) -> Any:
        looks = self._one_by_one(iter([frame]), self._sessions.image, score_threshold, alone=True)
        return next(looks).result

    def _one_by_one(
        self,
        frames: Iterator[Frame],
        session_for: PooledSession,
        score_threshold: float | None = None,
        keep_frames: bool = False,
        alone: bool = False,
    ) -> Iterator[Emission]:
        """Frames through the stages, one after the other."""
        stages = self._stages(session_for, score_threshold, alone)
        first = self._first_look(session_for, score_threshold, alone)
        return _one_after_the_other(stages, first, keep_frames)(frames)

    def stream(self, source: str | os.PathLike[str]) -> Iterator[Any]:
        """Results of every frame of a video, folder, URL or camera index, in constant memory."""
        for emission in self.emissions(str(source)):
            yield emission.result

    def emissions(
        self, source: str, *, keep_frames: bool = False, loop: bool = False
    ) -> Iterator[Emission]:
        """The same with frame index, times and, where asked for, the decoded frame.

        ``loop`` starts the source again when it ends, which is how measurements get as many
        frames as they need.
        """
        yield from self._engine(keep_frames)(self.frames(source, loop))

    def excerpts(self, source: str) -> Excerpts:
        """A function that runs one excerpt of the source after the other.

        They are pieces of one stream: what a tracker knows stays from one to the next, and every
        frame of an excerpt has come out before the next begins.
        """
        reel, engine = Reel(lambda: self.frames(source, loop=True)), self._engine()
        return lambda start, count: engine(reel.frames(start, count))

    def _engine(self, keep_frames: bool = False) -> Engine:
        """What runs the frames of a new stream as this configuration says."""
        session_for, slots = self._sessions.stream, self.config.slots
        stages, first = self._stages(session_for), self._first_look(session_for)
        if self.config.execution == "sequential":
            return _one_after_the_other(stages, first, keep_frames)
        if first is not None:
            return lambda frames: run_overlapped_twice(stages, first, frames, slots, keep_frames)
        return lambda frames: run_overlapped(stages, frames, slots, keep_frames)

    def frames(self, source: str, loop: bool = False) -> Iterator[Frame]:
        """Decoded frames of a source, as this configuration reads them."""
        reader = plugins.load("readers", self.config.reader)(self.config)
        while True:
            count = 0
            for frame in reader.frames(source, self._note_problem):
                count += 1
                yield frame
            if not count:
                raise DataError(
                    f"No frame could be read from '{without_password(source)}'. Expected a "
                    "playable video, a folder with images, or a live stream; check that the file "
                    "is complete."
                )
            if not loop:
                return

    def _note_problem(self, problem: DataProblem) -> None:
        """Remember a problem once, and not without end: a live stream may have one per second."""
        if len(self.problems) < KEPT_PROBLEMS and problem not in self.problems:
            self.problems.append(problem)

    def stream_session(self, frame_hw: tuple[int, int]) -> tuple[Session, Letterbox]:
        """The session that frames of this size use, and their geometry."""
        box = self.letterbox(frame_hw)
        return self._sessions.stream(box.input_hw), box

    def letterbox(self, frame_hw: tuple[int, int]) -> Letterbox:
        """How a frame of this size lies in the model's input."""
        return letterbox_of(self.config, frame_hw)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of what `classes_in` counts."""
        return self.config.description.class_names

    @property
    def tracks(self) -> bool:
        """Whether objects are followed from frame to frame."""
        return self.config.tracker is not None

    def classes_in(self, result: Any) -> Sequence[int]:
        """Class ids of what a result holds, one per object."""
        found: Sequence[int] = self._task.classes_in(result)
        return found

    def draw(self, image: NDArray[np.uint8], result: Any) -> NDArray[np.uint8]:
        """A copy of the RGB ``(H, W, 3)`` image with the result drawn on it."""
        drawn: NDArray[np.uint8] = self._task.draw(
            image, result, self.config.description.class_names
        )
        return drawn

    def _first_look(
        self, session_for: PooledSession, score_threshold: float | None = None, alone: bool = False
    ) -> FirstLook | None:
        """The small look of a dynamic resolution, where the configuration has one.

        An image ``alone`` is followed by nothing that a rehearsal would spare the wait.
        """
        policy = self.config.dynamic_resolution
        if policy is None:
            return None
        threshold = self.config.score_threshold if score_threshold is None else score_threshold
        small = replace(
            self.config,
            input_size=policy.small_size,
            score_threshold=min(threshold, policy.doubt_above),
        )
        stages = Stages(
            # One of its own: in the overlapped engine two threads preprocess.
            plugins.load("preprocessors", small.preprocessor)(small),
            self._task.postprocessor(small),
            partial(letterbox_of, small),
            partial(session_for, score_threshold=small.score_threshold),
            self._clock,
        )
        return FirstLook(
            stages,
            partial(doubtful, policy),
            partial(above, threshold),
            self.config.options.in_flight,
            policy.still_up_to,
            rehearsed=not alone,
        )

    def _stages(
        self, session_for: PooledSession, score_threshold: float | None = None, alone: bool = False
    ) -> Stages:
        """The stages of a new stream, or of images that have nothing to do with each other."""
        config = self.config
        if score_threshold is not None:
            config = replace(config, score_threshold=score_threshold)
        if alone:
            config = replace(config, tracker=None, detect_every=1)
        postprocess = self._task.postprocessor(config)
        return Stages(
            self.preprocessor,
            postprocess,
            self.letterbox,
            partial(session_for, score_threshold=config.score_threshold),
            self._clock,
            config.detect_every,
            postprocess.fill_in if config.detect_every > 1 else None,
        )

    def close(self) -> None:
        """Release the sessions, and OpenCV's threads. Calling it twice is allowed."""
        self._sessions.close()
        if self._opencv_threads is not None:
            cv2.setNumThreads(self._opencv_threads)
            self._opencv_threads = None

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _one_after_the_other(stages: Stages, first: FirstLook | None, keep_frames: bool) -> Engine:
    if first is not None:
        return lambda frames: run_sequential_twice(stages, first, frames, keep_frames)
    return lambda frames: run_sequential(stages, frames, keep_frames)


def letterbox_of(config: PipelineConfig, frame_hw: tuple[int, int]) -> Letterbox:
    """How a frame of some size lies in the input that a configuration gives the model."""
    described = config.description
    pre = described.preprocessing
    if pre.fit == "stretch":
        return stretched(frame_hw, input_hw(config))
    if pre.fit == "center_crop":
        return center_cropped(frame_hw, input_hw(config), pre.crop_share)
    return letterbox(
        frame_hw,
        config.input_size,
        described.stride,
        config.shape,
        pre.anchor,
        config.margin,
        config.squeeze,
    )


def input_hw(config: PipelineConfig) -> tuple[int, int]:
    """Height and width of an input that every frame fills."""
    described = config.description
    height, width = described.own_hw
    ratio, stride = config.input_size / max(height, width), described.stride
    vertical, horizontal = (config.squeeze, 1.0) if height > width else (1.0, config.squeeze)
    return (
        round(height * ratio * vertical / stride) * stride,
        round(width * ratio * horizontal / stride) * stride,
    )


def checked_image(image: NDArray[Any]) -> NDArray[np.uint8]:
    """An image, if it is what pipelines take.

    Raises:
        DataError: it is not an RGB uint8 image ``(H, W, 3)``.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise DataError(
            f"Got an array of shape {image.shape} and dtype {image.dtype}. Expected an RGB uint8 "
            "image of shape (H, W, 3)."
        )
    return image


def _limit_opencv_threads(config: PipelineConfig) -> int | None:
    """OpenCV's own threads would take cores from inference when stages overlap.

    Returns:
        How many it had in this process; None where nothing was changed.
    """
    had = cv2.getNumThreads()
    if config.execution != "overlapped" or had == 1:
        return None
    cv2.setNumThreads(1)
    return had
