"""`SystemPipeline`: two tasks on the same frames, running. What `saccade.load` gives for such."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade import plugins
from saccade.data.contract import LabelledImage
from saccade.data.images import read_image
from saccade.data.sequences import pixels_of
from saccade.measurement import STAGES
from saccade.pipeline.config import PipelineConfig
from saccade.pipeline.engine import (
    Clock,
    Emission,
    Stages,
    StageTimes,
    run_overlapped,
    run_sequential,
)
from saccade.pipeline.frames import ArrayFrame, Frame, as_decoded
from saccade.pipeline.joint import (
    BothResults,
    BothSessions,
    JointBox,
    SeparateInputs,
    SharedPixels,
    SingleInput,
    SplitSession,
)
from saccade.pipeline.pipeline import Engine, Pipeline, checked_image, letterbox_of
from saccade.pipeline.preprocess import Preprocessor
from saccade.pipeline.reel import Excerpts, Reel
from saccade.pipeline.sessions import SessionPool
from saccade.pipeline.system import SystemConfig
from saccade.runtimes.contract import Session

# "stream" or "image", the methods of `SessionPool`.
Use = str


class SystemPipeline:
    """Runs images and streams through both pipelines of a system; results are ``{task: result}``.

    Use it as a context manager or call `close`. One thread at a time may call it.

    Attributes:
        config: how it runs.
        problems: what was wrong with the sources so far.
        tracks: nothing is tracked.
    """

    tracks = False

    def __init__(self, config: SystemConfig, *, clock: Clock = time.perf_counter) -> None:
        self.config = config
        self._pipelines = tuple(Pipeline(part, clock=clock) for part in config.parts)
        self.problems = self._pipelines[0].problems
        self._pipelines[1].problems = self.problems
        self._pools = tuple(
            SessionPool(part, pipeline.preprocessor.in_graph)
            for part, pipeline in zip(config.parts, self._pipelines, strict=True)
        )
        self._clock = clock

    def __call__(self, image: NDArray[np.uint8] | str | os.PathLike[str]) -> Any:
        """Run one image, an RGB uint8 ``(H, W, 3)`` array or a path, through both.

        Raises:
            DataError: the file is unreadable, or the array is not an RGB uint8 image.
        """
        pixels = checked_image(image) if isinstance(image, np.ndarray) else read_image(Path(image))
        if not self.config.sharing.decode:
            pairs = zip(self.config.tasks, self._pipelines, strict=True)
            return {task: pipeline(pixels) for task, pipeline in pairs}
        return self._run_one(ArrayFrame(pixels, "rgb"))

    def stream(self, source: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
        """Results of every frame of a video, folder, URL or camera index, in constant memory."""
        for emission in self.emissions(str(source)):
            yield emission.result

    def emissions(
        self, source: str, *, keep_frames: bool = False, loop: bool = False
    ) -> Iterator[Emission]:
        """The same with frame index, times and, where asked for, the decoded frame.

        ``loop`` starts the source again when it ends.
        """
        if self.config.sharing.decode:
            return self._engine(keep_frames)(self.frames(source, loop))
        one, other = self._pipelines
        return self._side_by_side(
            one.emissions(source, keep_frames=keep_frames, loop=loop),
            other.emissions(source, loop=loop),
        )

    def excerpts(self, source: str) -> Excerpts:
        """See `saccade.pipeline.pipeline.Pipeline.excerpts`."""
        if self.config.sharing.decode:
            reel, engine = Reel(lambda: self.frames(source, loop=True)), self._engine()
            return lambda start, count: engine(reel.frames(start, count))
        one, other = (pipeline.excerpts(source) for pipeline in self._pipelines)
        return lambda start, count: self._side_by_side(one(start, count), other(start, count))

    def _engine(self, keep_frames: bool = False) -> Engine:
        """What runs the frames of a new stream through both, decoded once."""
        stages, slots = self._stages("stream"), self.config.slots
        if self.config.execution == "sequential":
            return lambda frames: run_sequential(stages, frames, keep_frames)
        return lambda frames: run_overlapped(stages, frames, slots, keep_frames)

    def _side_by_side(
        self, first: Iterator[Emission], second: Iterator[Emission]
    ) -> Iterator[Emission]:
        """Both pipelines, each with a reader of its own."""
        try:
            for one, other in zip(first, second, strict=False):
                yield _together(self.config.tasks, one, other)
        finally:
            first.close()  # type: ignore[attr-defined]
            second.close()  # type: ignore[attr-defined]

    def frames(self, source: str, loop: bool = False) -> Iterator[Frame]:
        """Decoded frames of a source, as the first pipeline reads them."""
        return self._pipelines[0].frames(source, loop)

    def judge_images(
        self, part: int, images: Sequence[LabelledImage], score_threshold: float
    ) -> Iterator[Any]:
        """Results of one of the tasks on the images of a dataset, in order.

        They take the path of the stream's frames, the other task beside them.
        """
        for pixels in pixels_of(images):
            if self.config.sharing.decode:
                frame = as_decoded(pixels, self.config.parts[0].resize)
                yield self._run_one(frame, part, score_threshold)[self.config.tasks[part]]
            else:
                yield self._pipelines[part].judge(pixels, score_threshold)

    def judge_frames(
        self, part: int, source: str, count: int, step: int, score_threshold: float, start: int = 0
    ) -> Iterator[Any]:
        """Results of one task on every ``step``-th frame from ``start``, ``count`` at most."""
        if not self.config.sharing.decode:
            alone = self._pipelines[part]
            yield from alone.judge_frames(source, count, step, score_threshold, start)
            return
        chosen = itertools.islice(self.frames(source), start, start + count * step, step)
        stages = self._stages("stream", part, score_threshold)
        for emission in run_sequential(stages, chosen):
            yield emission.result[self.config.tasks[part]]

    def _run_one(
        self, frame: Frame, part: int | None = None, score_threshold: float | None = None
    ) -> dict[str, Any]:
        stages = self._stages("image", part, score_threshold)
        found: dict[str, Any] = next(run_sequential(stages, iter([frame]))).result
        return found

    def _stages(
        self, use: Use, part: int | None = None, score_threshold: float | None = None
    ) -> Stages:
        """The stages of both as those of one, the threshold of one of them changed where asked."""
        configs = list(self.config.parts)
        if part is not None and score_threshold is not None:
            configs[part] = replace(configs[part], score_threshold=score_threshold)
        postprocessors = {
            config.task: plugins.load("tasks", config.task).postprocessor(config)
            for config in configs
        }
        sessions = partial(self._sessions, use, [config.score_threshold for config in configs])
        return Stages(
            self._inputs(),
            BothResults(postprocessors),
            self._box,  # type: ignore[arg-type]
            sessions,
            self._clock,
        )

    def _inputs(self) -> Preprocessor:
        parts, sharing = self.config.parts, self.config.sharing
        if sharing.one_pass:
            return SingleInput(_preprocessor(parts[0]))
        if sharing.preprocess:
            return SharedPixels(parts)
        return SeparateInputs([_preprocessor(part) for part in parts])

    def _box(self, frame_hw: tuple[int, int]) -> JointBox:
        first, second = (letterbox_of(part, frame_hw) for part in self.config.parts)
        return JointBox((first, second))

    def _sessions(self, use: Use, thresholds: Sequence[float], input_hw: Any) -> Session:
        if self.config.sharing.one_pass:
            session = getattr(self._pools[0], use)(input_hw[0], thresholds[0])
            return SplitSession(session, self.config.sharing.first_outputs)
        wanted = zip(self._pools, input_hw, thresholds, strict=True)
        return BothSessions([getattr(pool, use)(hw, score) for pool, hw, score in wanted])

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of what `classes_in` counts: those of the first task, then of the second."""
        return tuple(
            f"{part.task}: {name}"
            for part in self.config.parts
            for name in part.description.class_names
        )

    def classes_in(self, result: dict[str, Any]) -> Sequence[int]:
        """What a result holds, one per object, as positions in `class_names`."""
        found, offset = [], 0
        for part, pipeline in zip(self.config.parts, self._pipelines, strict=True):
            found += [offset + index for index in pipeline.classes_in(result[part.task])]
            offset += len(part.description.class_names)
        return found

    def draw(self, image: NDArray[np.uint8], result: dict[str, Any]) -> NDArray[np.uint8]:
        """A copy of the RGB ``(H, W, 3)`` image with both results drawn on it.

        What covers pixels goes below what marks objects.
        """
        order = sorted(range(2), key=lambda part: self.config.tasks[part] != "segmentation")
        for part in order:
            image = self._pipelines[part].draw(image, result[self.config.tasks[part]])
        return image

    def close(self) -> None:
        """Release the sessions. Calling it twice is allowed."""
        for pipeline in self._pipelines:
            pipeline.close()
        for pool in self._pools:
            pool.close()

    def __enter__(self) -> SystemPipeline:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _preprocessor(config: PipelineConfig) -> Preprocessor:
    found: Preprocessor = plugins.load("preprocessors", config.preprocessor)(config)
    return found


def _together(tasks: tuple[str, str], one: Emission, other: Emission) -> Emission:
    """Two emissions of one frame as one; a stage takes as long as both together."""
    times: StageTimes = {
        name: (start, end + other.stages[name][1] - other.stages[name][0])
        for name, (start, end) in one.stages.items()
        if name in STAGES
    }
    return Emission(
        one.index,
        {tasks[0]: one.result, tasks[1]: other.result},
        one.frame,
        min(one.started_s, other.started_s),
        max(one.emitted_s, other.emitted_s),
        times,
    )
