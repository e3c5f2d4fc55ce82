"""Learn when a small look is enough: the limits of a `ResolutionPolicy`.

Both sizes are run over the calibration images once, in a worker process. For each set of limits
it is then known which images would have been looked at twice, and what would have come out. The
set that asks for the fewest second looks is taken among those that cost no more accuracy than
half of what the goal allows; the other half is for what the best of many sets owes to chance.
Selection and report data, which decide whether the policy stays, are not looked at.

The limit of what counts as nothing having moved is learnt, and later judged, where frames of a
video guard the accuracy. Labelled images follow no order, so they could not judge it.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade import plugins
from saccade.data.contract import Dataset
from saccade.data.frame_roles import OFFSETS, STEP, as_dataset
from saccade.data.images import read_image
from saccade.errors import DataError
from saccade.optimize.change import PlanContext
from saccade.optimize.worker import Worker
from saccade.pipeline.config import PipelineConfig, ResolutionPolicy, digest
from saccade.pipeline.doubt import doubtful
from saccade.pipeline.pipeline import Pipeline
from saccade.pipeline.stillness import brightness, change_between

METHOD = "two looks 3"
NOISE = (0.05, 0.1, 0.15, 0.2, 0.3)
CERTAIN = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
# Shares of full brightness; the noise of a camera, averaged over a cell, stays below the first.
STILL = (0.0, 0.01, 0.02, 0.04, 0.08)
IMAGES = 96
VIDEO_FRAMES = 32
SHARE_OF_ALLOWED = 0.5
TIMEOUT_S = 180.0


@dataclass(frozen=True)
class Lesson:
    """What was learnt.

    Attributes:
        second_looks: share of the images learnt on that it looks at twice.
        drop: of accuracy against full size, on the same images.
        images: how many it was learnt on.
        labelled: whether by their labels; else full size was taken for the truth.
    """

    policy: ResolutionPolicy
    second_looks: float
    drop: float
    images: int
    labelled: bool


def learn(context: PlanContext, small_size: int) -> Lesson:
    """The best policy for a small look of ``small_size``; one that is on disk is used again.

    Raises:
        RuntimeFailure: the model does not run at one of the sizes.
        DataError: there are no frames to learn from.
    """
    config = replace(context.config, execution="sequential", dynamic_resolution=None)
    images = context.calibration.images[:IMAGES] if context.calibration else ()
    data = [image.path.name for image in images] or context.source
    key = digest([METHOD, config.hash, small_size, data, context.allowed_drop])
    target = context.folder / f"policy-{key}.json"
    if target.exists():
        return _read(target)
    with Worker("saccade.optimize.policy:Looker", ()) as worker:
        small, large, seen = worker.call(
            "look",
            config,
            small_size,
            [image.path for image in images],
            context.source,
            timeout_s=TIMEOUT_S,
        )
    dataset = context.calibration if images else None
    dataset = dataset or as_dataset(context.source, len(large), context.frame_hw)
    dataset = replace(dataset, images=dataset.images[: len(large)])
    looks = Looks(small, large, seen)
    lesson = choose(dataset, config.task, small_size, looks, context.allowed_drop)
    _write(target, lesson)
    return lesson


@dataclass(frozen=True)
class Looks:
    """What both sizes found, one per image.

    Attributes:
        small: results of small looks.
        large: results at full size.
        seen: brightness of each frame's cells, see `saccade.pipeline.stillness`, where the images
            are frames of a video in their order; else empty.
    """

    small: Sequence[Any]
    large: Sequence[Any]
    seen: Sequence[NDArray[np.float32]] = ()

    def sources(self, policy: ResolutionPolicy) -> NDArray[np.int64]:
        """Per image the index of the full look whose result is given, -1 for the small look's."""
        found = np.full(len(self.large), -1, np.int64)
        last: int | None = None
        for index, result in enumerate(self.small):
            if not doubtful(policy, result):
                continue
            if last is None or not self._still(policy, last, index):
                last = index
            found[index] = last
        return found

    def _still(self, policy: ResolutionPolicy, first: int, second: int) -> bool:
        change = change_between(self.seen[first], self.seen[second]) if self.seen else 1.0
        return 0 < policy.still_up_to >= change

    def given(self, sources: NDArray[np.int64]) -> list[Any]:
        """The results that come out, with ``sources`` ``(N,)`` as above."""
        return [
            small if source < 0 else self.large[source]
            for source, small in zip(sources, self.small, strict=True)
        ]


class Looker:
    """Runs both sizes; lives in a worker process."""

    def look(
        self, config: PipelineConfig, small_size: int, images: list[Path], source: str
    ) -> tuple[list[Any], list[Any], list[NDArray[np.float32]]]:
        """Results of the small and of the full size, and what the frames of a video look like."""
        threshold = plugins.load("judges", config.task).threshold
        small = replace(config, input_size=small_size)
        found = tuple(self._results(c, images, source, threshold) for c in (small, config))
        return found[0], found[1], [] if images else self._seen(config, source, len(found[1]))

    def _seen(self, config: PipelineConfig, source: str, count: int) -> list[NDArray[np.float32]]:
        start = OFFSETS["calibration"]
        with Pipeline(config) as pipeline:
            frames = itertools.islice(pipeline.frames(source), start, start + count * STEP, STEP)
            return [brightness(frame) for frame in frames]

    def _results(
        self, config: PipelineConfig, images: list[Path], source: str, threshold: float
    ) -> list[Any]:
        with Pipeline(config) as pipeline:
            if images:
                return [pipeline.judge(read_image(path), threshold) for path in images]
            start = OFFSETS["calibration"]
            return list(pipeline.judge_frames(source, VIDEO_FRAMES, STEP, threshold, start))


def choose(
    dataset: Dataset,
    task: str,
    small_size: int,
    looks: Looks,
    allowed: float,
) -> Lesson:
    """The limits with the fewest second looks whose loss is half of ``allowed`` at most.

    Where no limits are, those that lose least.

    Args:
        dataset: of the images; its labels are used where it has them, else full size is taken
            for the truth.
        task: whose judge says what accuracy is.
        small_size: input size of the small looks.
        looks: what both sizes found on the images.
        allowed: drop of accuracy that the goal allows.

    Raises:
        DataError: there are no images.
    """
    if not looks.large:
        raise DataError("There are no frames to learn a dynamic resolution from.")
    loss_of = _loss(dataset, task, looks.large)
    known: dict[bytes, float] = {}
    lessons = []
    for policy in policies(small_size, STILL if looks.seen else STILL[:1]):
        sources = looks.sources(policy)
        if sources.tobytes() not in known:
            known[sources.tobytes()] = loss_of(looks.given(sources))
        again = float(np.mean(sources == np.arange(len(sources))))
        drop = known[sources.tobytes()]
        lessons.append(Lesson(policy, again, drop, len(sources), dataset.labelled))
    good = [lesson for lesson in lessons if lesson.drop <= SHARE_OF_ALLOWED * allowed]
    if good:
        return min(good, key=lambda x: (x.second_looks, *_boldness(x.policy)))
    return min(lessons, key=lambda x: (x.drop, x.second_looks, *_boldness(x.policy)))


def _boldness(policy: ResolutionPolicy) -> tuple[float, ...]:
    """Of equals the wider doubt and the least motion: the more careful ones on other frames."""
    return policy.still_up_to, policy.doubt_above, -policy.sure_from


def policies(small_size: int, still: Sequence[float] = STILL[:1]) -> list[ResolutionPolicy]:
    """Every set of limits that leaves room for doubt."""
    return [
        ResolutionPolicy(small_size, low, high, most)
        for low in NOISE
        for high in CERTAIN
        for most in still
        if low < high
    ]


def _loss(dataset: Dataset, task: str, large: Sequence[Any]) -> Any:
    """A function from results to what they lose against full size."""
    judge, collect = plugins.load("judges", task), plugins.load("tasks", task).collect
    metric = plugins.load("tasks", task).metrics[0]
    # Every image once: the figure alone is wanted, not its spread.
    once = np.ones((1, len(dataset)), np.int64)
    reference = collect(large)
    if dataset.labelled:
        best = judge.scored(dataset, reference, once).values[metric]
        return lambda found: best - judge.scored(dataset, collect(found), once).values[metric]

    def disagreement(found: Sequence[Any]) -> float:
        try:
            return float(judge.agreement(dataset, reference, collect(found), once).estimate)
        except DataError:  # full size is sure of nothing, so nothing can be lost
            return 0.0

    return disagreement


def _write(target: Path, lesson: Lesson) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name("partial-" + target.name)
    partial.write_text(json.dumps(asdict(lesson)), encoding="utf-8")
    partial.replace(target)


def _read(path: Path) -> Lesson:
    document = json.loads(path.read_text(encoding="utf-8"))
    return Lesson(**{**document, "policy": ResolutionPolicy(**document["policy"])})
