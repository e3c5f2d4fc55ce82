"""The last step: the winner against the baseline, interleaved, and its accuracy on unseen data.

The report data are looked at here for the first time. If the winner's drop cannot be bounded, the
ladder goes down: the same configuration without its most doubtful change, at a stricter level,
so that going down does not turn into picking the luckiest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from saccade.data.contract import DataProblem, Dataset
from saccade.goals import Goal
from saccade.measurement import Block
from saccade.optimize.job import Job
from saccade.optimize.metrics import Estimate, speed_metrics
from saccade.optimize.race import RacePlan, Runner, compare_blocks, race
from saccade.optimize.referee import Answering
from saccade.pipeline.config import ONE_SIZE, PipelineConfig
from saccade.progress import Progress
from saccade.study import Drop, Ratio
from saccade.validate.blocks import unit_weights
from saccade.validate.contract import Scored, compared_by_size
from saccade.validate.drop_bound import paired_drop
from saccade.validate.guard import FinalBound, final_bound
from saccade.validate.per_class import ClassDrop, per_class_drops
from saccade.validate.referee import VIDEO_FRAMES, as_dataset, frames_of, judge_of, results_on

FINAL_RACE = RacePlan(block_s=1.2, min_pairs=6, max_pairs=8)
# With so many frames a p99 has a two-sided interval, whose upper end is the slowest frame of all;
# with the other number, a single hiccup of the machine no longer decides it.
LEAST_LATENCY_FRAMES, LATENCY_FRAMES = 420, 1500
MORE_FRAMES_S = 30.0
MAX_ATTEMPTS = 3


@dataclass(frozen=True)
class Accuracy:
    """Both systems on the report data.

    Attributes:
        metrics: of the candidate, by name.
        baseline: of the baseline.
        drops: metric → drop with its bounds at the attempt's level.
        bound: the decision on the guarding goal.
        classes: per-class drops, where there are labels.
        by_size: accuracy by object size, see `saccade.validate.contract.compared_by_size`.
    """

    metrics: dict[str, float]
    baseline: dict[str, float]
    drops: dict[str, Drop]
    bound: FinalBound | None
    classes: tuple[ClassDrop, ...] = ()
    by_size: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Final:
    """The winner's final measurement.

    Attributes:
        reverted: what the ladder took back before the accuracy could be bounded.
        ladder: every attempt, for the report.
        problems: what was wrong with the source, as the winner's reader saw it.
    """

    config: PipelineConfig
    speedup: Ratio
    baseline: dict[str, Estimate]
    best: dict[str, Estimate]
    baseline_blocks: tuple[Block, ...]
    best_blocks: tuple[Block, ...]
    accuracy: Accuracy | None
    reverted: tuple[str, ...] = ()
    ladder: tuple[dict[str, Any], ...] = ()
    problems: tuple[DataProblem, ...] = ()


class FinalJudge:
    """Accuracy on the report data; the baseline is run on them once."""

    def __init__(
        self, job: Job, guard: Goal, baseline: Answering, frame_hw: tuple[int, int]
    ) -> None:
        self._job = job
        self._guard = guard
        if job.roles is not None and job.roles.report is not None:
            self._dataset: Dataset = job.roles.report
            self._results_of: Callable[[Answering], Any] = self._on_images
            self._reference = self._results_of(baseline)
        else:
            self._results_of = lambda runner: frames_of(runner, VIDEO_FRAMES, "report")
            self._reference = self._results_of(baseline)
            in_a_row = job.baseline.tracker is not None
            count = len(self._reference)
            self._dataset = as_dataset(job.source, count, frame_hw, in_a_row)
        self._judge = judge_of(baseline)
        self._weights = unit_weights(self._dataset, job.spec.seed + 1)
        self._before = self._scored(self._reference) if job.labelled else None

    def _on_images(self, runner: Answering) -> Any:
        return results_on(runner, self._dataset)

    def _scored(self, results: Any) -> Scored:
        return self._judge.scored(self._dataset, results, self._weights)

    def judge(self, runner: Answering, attempt: int) -> Accuracy:
        """Bound the candidate's drops."""
        candidate = self._results_of(runner)
        agreed = self._judge.agreement(self._dataset, self._reference, candidate, self._weights)
        drops = {"agreement": agreed}
        metrics = {"agreement": 1 - agreed.estimate}
        baseline = {"agreement": 1.0}
        classes: tuple[ClassDrop, ...] = ()
        by_size: dict[str, dict[str, float]] = {}
        if self._before is not None:
            before, after = self._before, self._scored(candidate)
            for name, old in before.metrics.items():
                drops[name] = paired_drop(old, after.metrics[name])
                metrics[name], baseline[name] = after.metrics[name].point, old.point
            names = self._job.description.class_names
            classes = per_class_drops(before, after, self._guard.bound, names)
            by_size = compared_by_size(before, after)
        images = len(self._dataset)
        bound = None
        if self._guard.base in drops:
            bound = final_bound(drops[self._guard.base], self._guard.bound, attempt, images)
        level = bound.level if bound else 0.95
        recorded = {
            name: Drop(
                name, drop.estimate, drop.lower_at(level), drop.upper_at(level), level, images
            )
            for name, drop in drops.items()
        }
        return Accuracy(metrics, baseline, recorded, bound, classes, by_size)


def validate(
    job: Job,
    guard: Goal,
    best: PipelineConfig,
    ways_back: Sequence[WayBack],
    resolution: float,
    frame_hw: tuple[int, int],
    progress: Progress,
    time_left: Callable[[], float],
) -> Final:
    """Judge the winner on unseen data, go down the ladder if need be, then race what stands.

    ``ways_back`` has the winner's own model first, then each model that it was swapped for.
    """
    baseline = Runner(job.baseline, job.source)
    runner: Runner | None = None
    try:
        judge = FinalJudge(job, guard, baseline, frame_hw)
        candidates = [("", best), *all_fallbacks(job.baseline, ways_back)][:MAX_ATTEMPTS]
        ladder: list[dict[str, Any]] = []
        chosen: tuple[str, Runner, Accuracy] | None = None
        for attempt, (reverted, config) in enumerate(candidates, start=1):
            if attempt > 1 and time_left() <= 0:
                break
            runner = Runner(config, job.source)
            accuracy = judge.judge(runner, attempt)
            ladder.append(_rung(reverted, accuracy))
            progress.note(f"unseen data: {ladder[-1]['result']}")
            if accuracy.bound is None or accuracy.bound.holds or config.hash == job.baseline.hash:
                if chosen is not None:
                    chosen[1].close()
                chosen = (reverted, runner, accuracy)
                break
            if chosen is None:
                chosen = (reverted, runner, accuracy)
            else:
                runner.close()
        assert chosen is not None
        reverted, runner, accuracy = chosen
        raced = race(baseline, runner, job.objective, resolution, FINAL_RACE, time_left)
        done, fps = sum(block.frames for block in raced.candidate), raced.candidate[-1].fps
        missing = more_frames(job.goals, done, fps, time_left())
        extra = (runner.block(missing).block,) if missing else ()
    finally:
        if runner is not None:
            runner.close()
        baseline.close()
    blocks = (*raced.candidate, *extra)
    ratio = compare_blocks(list(raced.candidate), list(raced.reference), job.objective, 0.0).ratio
    return Final(
        config=runner.config,
        speedup=Ratio(ratio.value, ratio.interval.low, ratio.interval.high),
        baseline=speed_metrics(raced.reference, job.baseline.model.size_mb),
        best=speed_metrics(blocks, runner.config.model.size_mb),
        baseline_blocks=raced.reference,
        best_blocks=blocks,
        accuracy=accuracy,
        reverted=(reverted,) if reverted else (),
        ladder=tuple(ladder) if len(ladder) > 1 else (),
        problems=runner.problems,
    )


def more_frames(goals: tuple[Goal, ...], done: int, fps: float, seconds: float) -> int:
    """Frames of the winner alone that a goal on a latency percentile still asks for.

    Args:
        goals: all of them.
        done: frames measured already.
        fps: frames per second of the winner.
        seconds: time left.
    """
    if not any(goal.base.startswith("latency_ms.p") for goal in goals):
        return 0
    affordable = int(min(max(0.0, seconds), MORE_FRAMES_S) * fps)
    return max(0, min(LATENCY_FRAMES - done, max(LEAST_LATENCY_FRAMES - done, affordable)))


def _rung(reverted: str, accuracy: Accuracy) -> dict[str, Any]:
    bound = accuracy.bound
    return {
        "step": f"without {reverted}" if reverted else "all kept changes",
        "result": bound.reason if bound else "not judged",
        "drop": bound.estimate if bound else None,
    }


@dataclass(frozen=True)
class WayBack:
    """How far one model was taken.

    Attributes:
        best: the last configuration kept with it.
        unquantized: the last one whose model file was not quantized.
        brought_by: the change that put this model in the place of the one before; empty for the
            user's own.
    """

    best: PipelineConfig
    unquantized: PipelineConfig
    brought_by: str = ""


def all_fallbacks(
    baseline: PipelineConfig, ways_back: Sequence[WayBack]
) -> list[tuple[str, PipelineConfig]]:
    """What to fall back to, most doubtful first: int8, then another model, then what was before."""
    newest, *older = ways_back
    if not older:
        return fallbacks(baseline, newest.unquantized, newest.best)
    found = [("int8", _without_int8(newest.best, newest.unquantized))]
    found = [step for step in found if step[1] != newest.best]
    found += [(after.brought_by, way.best) for after, way in zip(ways_back, older, strict=False)]
    own, first = older[-1], ways_back[-2].brought_by
    return found + [
        (f"{first} and {words}", config)
        for words, config in fallbacks(baseline, own.unquantized, own.best)
    ]


def fallbacks(
    baseline: PipelineConfig, unquantized: PipelineConfig, best: PipelineConfig
) -> list[tuple[str, PipelineConfig]]:
    """The winner without what may cost accuracy, most doubtful first, cumulatively."""
    found: list[tuple[str, PipelineConfig]] = []
    config, words = best, []
    steps: list[tuple[str, Callable[[PipelineConfig], PipelineConfig]]] = [
        ("int8", lambda c: _without_int8(c, unquantized)),
        (
            "dynamic_resolution",
            lambda c: replace(c, dynamic_resolution=baseline.dynamic_resolution),
        ),
        ("frame_skip", lambda c: replace(c, detect_every=baseline.detect_every)),
        ("resolution", lambda c: _in_full_size(c, baseline)),
        ("rect_letterbox", lambda c: replace(c, shape=baseline.shape)),
        (
            "bf16",
            lambda c: replace(c, options=replace(c.options, precision=baseline.options.precision)),
        ),
    ]
    for name, revert in steps:
        changed = revert(config)
        if changed != config:
            config = changed
            words.append(name)
            found.append((" and ".join(words), config))
    return found


def _in_full_size(config: PipelineConfig, baseline: PipelineConfig) -> PipelineConfig:
    """The input as it was; a file that was made for a smaller one goes with it."""
    full = replace(config, input_size=baseline.input_size, squeeze=baseline.squeeze)
    if full == config or config.model.format not in ONE_SIZE:
        return full
    return replace(
        full,
        model=baseline.model,
        description=baseline.description,
        runtime=baseline.runtime,
        options=baseline.options,
    )


def _without_int8(config: PipelineConfig, unquantized: PipelineConfig) -> PipelineConfig:
    """The float model again, in the precision that it ran in, read as that model has to be.

    What is known of a model belongs to its file: int8 may have cut the decoding out.
    """
    if config.model == unquantized.model:
        return config
    options = replace(config.options, precision=unquantized.options.precision)
    return replace(
        config, model=unquantized.model, description=unquantized.description, options=options
    )
