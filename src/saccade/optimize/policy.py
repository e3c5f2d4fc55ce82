"""Learn when a small look is enough: the two limits of a `ResolutionPolicy`.

Both sizes are run over the calibration images once, in a worker process. For each pair of limits
it is then known which images would have been looked at twice, and what would have come out. The
pair that asks for the fewest second looks is taken among those that cost no more accuracy than
half of what the goal allows; the other half is for what the best of many pairs owes to chance.
Selection and report data, which decide whether the policy stays, are not looked at.
"""

from __future__ import annotations

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

METHOD = "two looks 1"
NOISE = (0.05, 0.1, 0.15, 0.2, 0.3)
CERTAIN = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
IMAGES = 96
VIDEO_FRAMES = 32
SHARE_OF_ALLOWED = 0.5
TIMEOUT_S = 180.0


@dataclass(frozen=True)
class Lesson:
    """What was learnt.

    Attributes:
        second_looks: share of the calibration images that it looks at twice.
        drop: of accuracy against full size, on the same images.
    """

    policy: ResolutionPolicy
    second_looks: float
    drop: float


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
        small, large = worker.call(
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
    lesson = choose(dataset, config.task, small_size, small, large, context.allowed_drop)
    _write(target, lesson)
    return lesson


class Looker:
    """Runs both sizes; lives in a worker process."""

    def look(
        self, config: PipelineConfig, small_size: int, images: list[Path], source: str
    ) -> tuple[list[Any], list[Any]]:
        """Results of the small and of the full size, one per image or frame of the video."""
        threshold = plugins.load("judges", config.task).threshold
        small = replace(config, input_size=small_size)
        found = tuple(self._results(c, images, source, threshold) for c in (small, config))
        return found[0], found[1]

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
    small: Sequence[Any],
    large: Sequence[Any],
    allowed: float,
) -> Lesson:
    """The pair of limits with the fewest second looks whose loss is half of ``allowed`` at most.

    Where no pair is, the one that loses least.

    Args:
        dataset: of the images; its labels are used where it has them, else full size is taken
            for the truth.
        task: whose judge says what accuracy is.
        small_size: input size of the small looks.
        small: results of small looks, one per image.
        large: results at full size.
        allowed: drop of accuracy that the goal allows.

    Raises:
        DataError: there are no images.
    """
    if not large:
        raise DataError("There are no frames to learn a dynamic resolution from.")
    loss_of = _loss(dataset, task, large)
    known: dict[bytes, float] = {}
    lessons = []
    for policy in policies(small_size):
        again = np.array([doubtful(policy, result) for result in small], np.bool_)
        if again.tobytes() not in known:
            known[again.tobytes()] = loss_of(mixed(again, small, large))
        lessons.append(Lesson(policy, float(again.mean()), known[again.tobytes()]))
    good = [lesson for lesson in lessons if lesson.drop <= SHARE_OF_ALLOWED * allowed]
    if good:
        # Of equals the wider doubt: it is the more careful one on other images.
        return min(good, key=lambda x: (x.second_looks, x.policy.doubt_above, -x.policy.sure_from))
    return min(lessons, key=lambda x: (x.drop, x.second_looks))


def policies(small_size: int) -> list[ResolutionPolicy]:
    """Every pair of limits that leaves room for doubt."""
    return [
        ResolutionPolicy(small_size, low, high) for low in NOISE for high in CERTAIN if low < high
    ]


def mixed(again: NDArray[np.bool_], small: Sequence[Any], large: Sequence[Any]) -> list[Any]:
    """What comes out where the images marked in ``again`` ``(N,)`` are looked at twice."""
    return [b if twice else a for twice, a, b in zip(again, small, large, strict=True)]


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
