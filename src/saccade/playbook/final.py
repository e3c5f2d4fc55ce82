"""The last step: the winner against the baseline, interleaved, and its accuracy on unseen data.

The report data are looked at here for the first time. If the winner's drop cannot be bounded, the
ladder goes down: the same configuration without its most doubtful change, at a stricter level,
so that going down does not turn into picking the luckiest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from saccade import plugins
from saccade.data.contract import DataProblem
from saccade.errors import SaccadeError, StorageError, first_line
from saccade.goals import Goal
from saccade.measurement import Block
from saccade.optimize.float_versions import before_new_weights, last_unquantized
from saccade.optimize.job import Job
from saccade.optimize.metrics import Estimate, speed_metrics
from saccade.optimize.plan import OTHER_MODEL
from saccade.optimize.race import RacePlan, Runner, compare_blocks, race
from saccade.pipeline.config import ONE_SIZE, PipelineConfig
from saccade.playbook.final_judge import Accuracy, FinalJudge
from saccade.progress import Progress
from saccade.study import Ratio, Trial

FINAL_RACE = RacePlan(block_s=1.2, min_pairs=6, max_pairs=8)
# With so many frames a p99 has a two-sided interval, whose upper end is the slowest frame of all;
# with the other number, a single hiccup of the machine no longer decides it.
LEAST_LATENCY_FRAMES, LATENCY_FRAMES = 420, 1500
MORE_FRAMES_S = 30.0
# The winner, and what the ladder takes back; the last attempt goes back as far as it can.
MAX_ATTEMPTS = 3
EVERYTHING = "everything"


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
    try:
        judge = FinalJudge(job, guard, baseline, frame_hw)
        steps = [("", best), *all_fallbacks(job.baseline, ways_back)]
        if len(steps) > MAX_ATTEMPTS:
            steps[MAX_ATTEMPTS - 1 :] = steps[-1:]
        standing, ladder = _standing(job, judge, steps, progress, time_left)
        runner = standing.runner
        try:
            raced = race(baseline, runner, job.objective, resolution, FINAL_RACE, time_left)
            done, fps = sum(block.frames for block in raced.candidate), raced.candidate[-1].fps
            missing = more_frames(job.goals, done, fps, time_left())
            extra = (runner.block(missing).block,) if missing else ()
        finally:
            runner.close()
    finally:
        baseline.close()
    before, after = raced.reference, (*raced.candidate, *extra)
    ratio = compare_blocks(list(raced.candidate), list(raced.reference), job.objective, 0.0).ratio
    speedup = Ratio(ratio.value, ratio.interval.low, ratio.interval.high)
    if runner.config.hash == job.baseline.hash:
        # Both are the baseline: what they differ by is noise, and together they say more of it.
        before = after = (*before, *after)
        speedup = Ratio(1.0, 1.0, 1.0)
    return Final(
        config=runner.config,
        speedup=speedup,
        baseline=speed_metrics(before, job.baseline.model.size_mb),
        best=speed_metrics(after, runner.config.model.size_mb),
        baseline_blocks=before,
        best_blocks=after,
        accuracy=standing.accuracy,
        reverted=(standing.reverted,) if standing.reverted else (),
        ladder=tuple(ladder) if len(ladder) > 1 else (),
        problems=runner.problems,
    )


@dataclass(frozen=True)
class _Standing:
    """What is left standing, running, and what had to go for it."""

    reverted: str
    runner: Runner
    accuracy: Accuracy


def _standing(
    job: Job,
    judge: FinalJudge,
    steps: Sequence[tuple[str, PipelineConfig]],
    progress: Progress,
    time_left: Callable[[], float],
) -> tuple[_Standing, list[dict[str, Any]]]:
    """The first step whose loss is bounded, and the log of all.

    Where none is, it is the first whose loss is within what is allowed by the best guess: too few
    labels to show it are no reason to give up what was gained, and the result says that it is not
    shown. Where no estimate is, it is the baseline. A step that does not run does not hold.
    """
    ladder: list[dict[str, Any]] = []
    fallback: tuple[str, PipelineConfig, Accuracy] | None = None
    for attempt, (reverted, config) in enumerate(steps, start=1):
        if attempt > 1 and time_left() <= 0:
            break
        try:
            found = _judged(job, judge, reverted, config, attempt)
        except StorageError:
            raise
        except SaccadeError as error:
            ladder.append(_rung(reverted, f"failed: {first_line(error)}"))
            progress.note(f"unseen data: {ladder[-1]['result']}")
            continue
        bound = found.accuracy.bound
        result = bound.reason if bound else "not judged"
        ladder.append(_rung(reverted, result, bound.estimate if bound else None))
        progress.note(f"unseen data: {result}")
        if bound is None or bound.holds:
            return found, ladder
        found.runner.close()
        if fallback is None and bound.likely <= bound.allowed:
            fallback = (reverted, config, found.accuracy)
    if fallback is None:
        runner = Runner(job.baseline, job.source)
        ladder.append(_rung(EVERYTHING, "nothing else stands", 0.0))
        return _Standing(EVERYTHING, runner, judge.judge(runner, len(steps) + 1)), ladder
    reverted, config, accuracy = fallback
    return _Standing(reverted, Runner(config, job.source), accuracy), ladder


def _judged(
    job: Job, judge: FinalJudge, reverted: str, config: PipelineConfig, attempt: int
) -> _Standing:
    runner = Runner(config, job.source)
    try:
        return _Standing(reverted, runner, judge.judge(runner, attempt))
    except BaseException:
        runner.close()
        raise


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


def _rung(reverted: str, result: str, drop: float | None = None) -> dict[str, Any]:
    step = f"without {reverted}" if reverted else "all kept changes"
    return {"step": step, "result": result, "drop": drop}


@dataclass(frozen=True)
class WayBack:
    """How far one model was taken.

    Attributes:
        best: the last configuration kept with it.
        unquantized: the last one whose model file was not quantized.
        brought_by: the change that put this model in the place of the one before; empty for the
            user's own.
        weights: see `saccade.optimize.float_versions.before_new_weights`.
    """

    best: PipelineConfig
    unquantized: PipelineConfig
    brought_by: str = ""
    weights: tuple[tuple[str, PipelineConfig], ...] = ()


def ways_back(
    baseline: PipelineConfig, best: PipelineConfig, trials: Sequence[Trial]
) -> list[WayBack]:
    """How far each model was taken, the one in use first, the user's own last."""
    runs: list[tuple[str, PipelineConfig, list[Trial]]] = [("", baseline, [])]
    for trial in trials:
        if trial.kept and trial.name in OTHER_MODEL:
            runs.append((trial.name, PipelineConfig.from_dict(trial.config), [trial]))
        elif trial.kept:
            runs[-1][2].append(trial)
    found = []
    for brought_by, first, kept in reversed(runs):
        last = PipelineConfig.from_dict(kept[-1].config) if kept else first
        weights = before_new_weights(first, kept)
        found.append(WayBack(last, last_unquantized(first, kept), brought_by, weights))
    return [replace(found[0], best=best), *found[1:]]


def all_fallbacks(
    baseline: PipelineConfig, ways_back: Sequence[WayBack]
) -> list[tuple[str, PipelineConfig]]:
    """What to fall back to, most doubtful first: int8, then another model, then what was before."""
    newest, *older = ways_back
    if not older:
        return fallbacks(baseline, newest.unquantized, newest.best, newest.weights)
    found = _cumulated(newest.best, _of_weights(newest.unquantized, newest.weights))
    found += [(after.brought_by, way.best) for after, way in zip(ways_back, older, strict=False)]
    own, first = older[-1], ways_back[-2].brought_by
    return found + [
        (f"{first} and {words}", config)
        for words, config in fallbacks(baseline, own.unquantized, own.best, own.weights)
    ]


# A change, and how it is taken back.
Step = tuple[str, Callable[[PipelineConfig], PipelineConfig]]


def fallbacks(
    baseline: PipelineConfig,
    unquantized: PipelineConfig,
    best: PipelineConfig,
    weights: Sequence[tuple[str, PipelineConfig]] = (),
) -> list[tuple[str, PipelineConfig]]:
    """The winner without what may cost accuracy, most doubtful first, cumulatively."""
    steps: list[Step] = [
        *_of_weights(unquantized, weights),
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
    return _cumulated(best, steps)


def _of_weights(
    unquantized: PipelineConfig, weights: Sequence[tuple[str, PipelineConfig]]
) -> list[Step]:
    """Other weights of the same model: rounded ones first, then those that had some taken out."""
    changed = [(name, partial(_with_weights_of, before=before)) for name, before in weights]
    return [("int8", partial(_without_int8, unquantized=unquantized)), *changed]


def _cumulated(best: PipelineConfig, steps: Sequence[Step]) -> list[tuple[str, PipelineConfig]]:
    """Each step that changes something, on top of those before."""
    found: list[tuple[str, PipelineConfig]] = []
    config, words = best, []
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
    """The float model again, in the precision that it ran in."""
    if config.model == unquantized.model:
        return config
    float_again = _with_weights_of(config, unquantized)
    options = replace(float_again.options, precision=unquantized.options.precision)
    return replace(float_again, options=options)


def _with_weights_of(config: PipelineConfig, before: PipelineConfig) -> PipelineConfig:
    """An earlier model file, read as it has to be, in a runtime that takes it.

    What is known of a model belongs to its file: int8 may have cut the decoding out.
    """
    if config.model == before.model:
        return config
    changed = replace(config, model=before.model, description=before.description)
    if before.model.format in plugins.load("runtimes", config.runtime).availability().formats:
        return changed
    return replace(changed, runtime=before.runtime, options=before.options)
