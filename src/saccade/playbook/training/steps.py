"""The steps that measure: baseline curves, profile, and the final race."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from saccade.optimize.metrics import Estimate, mean_of_blocks
from saccade.optimize.training.held_out import HeldOut, held_out_within
from saccade.optimize.training.runner import RacePlan, TrainingRace, TrainingRunner, race
from saccade.statistics import RatioEstimate, noise_floor
from saccade.train.config import TrainingConfig
from saccade.train.records import LossCurve, TrainingBlock

MIN_CURVE, MAX_CURVE = 6, 80
NOISE_LEVEL = 0.68
# Judging takes no more than this share of what curves take to train, and where there is time for
# it they are judged so often.
JUDGING_SHARE, JUDGEMENTS = 0.3, 5
FINAL_RACE_S = 40.0


@dataclass(frozen=True)
class Curves:
    """Short trainings of one configuration from several seeds.

    Attributes:
        about: what its worker says of the job: ``samples``, ``parameters``, ``steps_per_epoch``.
        held_out: what they are judged on.
    """

    config: TrainingConfig
    curves: tuple[LossCurve, ...]
    about: Mapping[str, Any] = field(default_factory=dict)
    held_out: HeldOut = field(default_factory=HeldOut)

    @property
    def blocks(self) -> tuple[TrainingBlock, ...]:
        """Their times, each without its first step."""
        return tuple(curve.block.warm for curve in self.curves)


def curve_plan(
    step_s: float, seeds: int, seconds: float, steps: int | None = None
) -> tuple[int, float]:
    """Steps of each curve, and seconds to judge it, such that all take about ``seconds``.

    Args:
        step_s: seconds that a step takes.
        seeds: how many curves.
        seconds: for all of them.
        steps: of each, where the user says it.
    """
    each_s = seconds / seeds / (1 + JUDGING_SHARE)
    count = steps or int(np.clip(each_s / step_s, MIN_CURVE, MAX_CURVE))
    return count, JUDGING_SHARE * max(each_s, count * step_s)


def baseline_curves(
    config: TrainingConfig, seeds: Sequence[int], steps: int, folder: Path, judging_s: float
) -> Curves:
    """`train_curves` of the first that is trained: what can be judged in time is found out."""
    with TrainingRunner(config, "block", folder) as runner:
        held_out = held_out_within(judging_s, config.batch.size, runner.judge)
        return _curves(runner, seeds, steps, held_out)


def train_curves(
    config: TrainingConfig, seeds: Sequence[int], steps: int, folder: Path, held_out: HeldOut
) -> Curves:
    """Train from every seed, in one worker."""
    with TrainingRunner(config, "block", folder) as runner:
        return _curves(runner, seeds, steps, held_out)


def _curves(runner: TrainingRunner, seeds: Sequence[int], steps: int, held_out: HeldOut) -> Curves:
    """After the first seed it is known what judging takes.

    Where that is little, the others are judged along the way as well, for the time to the
    baseline's accuracy.
    """
    began = time.monotonic()
    first = runner.curve(seeds[0], steps, held_out)
    training_s = first.block.wall_s
    judging_s = time.monotonic() - began - training_s
    often = JUDGEMENTS if JUDGEMENTS * judging_s <= JUDGING_SHARE * training_s else 1
    others = (runner.curve(seed, steps, held_out, often) for seed in seeds[1:])
    return Curves(runner.config, (first, *others), runner.about(), held_out)


def judged_on(curves: Curves) -> int:
    """Held-out samples that every curve was judged on."""
    found = curves.curves[0].evaluation
    return found.samples if found is not None else 0


def equal_steps(baseline: TrainingConfig, config: TrainingConfig, steps: int) -> int:
    """Steps in which a configuration sees no more samples than the baseline does in ``steps``."""
    return steps * step_samples(baseline) // step_samples(config)


def step_samples(config: TrainingConfig) -> int:
    """Samples of an optimizer step, on all processes together."""
    return config.batch.effective * config.scale.world


def resolution_of(curves: Curves) -> float:
    """The relative difference that this machine can resolve now: each step against the next.

    Steps of one configuration are alike but for noise; the first of each curve warms up.
    """
    rates = [1 / s for curve in curves.curves for s in curve.block.step_s[1:]]
    pairs = list(zip(rates[::2], rates[1::2], strict=False))
    return noise_floor(pairs, NOISE_LEVEL)


def final_race(
    baseline: TrainingConfig,
    best: TrainingConfig,
    resolution: float,
    folder: Path,
    time_left: Callable[[], float],
) -> TrainingRace:
    """Both in turns, with their loading.

    It is the figure of the whole run: so many pairs that one disturbed block does not decide the
    interval, for which it may take `FINAL_RACE_S` even where the budget is used up.
    """
    plan = RacePlan(block_s=3.0, min_pairs=6, max_pairs=6)
    with TrainingRunner(baseline, "block", folder) as a, TrainingRunner(best, "block", folder) as b:
        until = time.monotonic() + max(time_left(), FINAL_RACE_S)
        return race(a, b, resolution, plan, lambda: until - time.monotonic())


def training_metrics(
    blocks: Sequence[TrainingBlock], samples: int, epochs: int
) -> dict[str, Estimate]:
    """Every metric of speed of one configuration's blocks.

    Args:
        blocks: measured one after the other.
        samples: in the training split.
        epochs: of the whole training.
    """
    rate = mean_of_blocks([block.samples_per_s for block in blocks])
    epoch = _inverse(rate, samples)
    return {
        "samples_per_s": rate,
        "step_ms": mean_of_blocks([block.step_ms for block in blocks]),
        "epoch_s": epoch,
        "training_s": _scaled(epoch, epochs),
        "data_wait_share": mean_of_blocks([block.share("data") for block in blocks]),
        "busy_share": mean_of_blocks([block.busy_share for block in blocks]),
        "peak_rss_mb": Estimate(max(block.peak_rss_mb for block in blocks)),
        **_device(blocks),
    }


def _device(blocks: Sequence[TrainingBlock]) -> dict[str, Estimate]:
    busy = [b.device_busy_share for b in blocks if b.device_busy_share is not None]
    memory = [b.peak_device_mb for b in blocks if b.peak_device_mb is not None]
    found = {}
    if busy:
        found["device_busy_share"] = mean_of_blocks(busy)
    if memory:
        found["peak_device_mb"] = Estimate(max(memory))
    return found


def _inverse(rate: Estimate, samples: int) -> Estimate:
    assert rate.value is not None
    if rate.low is None or rate.high is None or rate.low <= 0:
        return Estimate(samples / rate.value)
    return Estimate(samples / rate.value, samples / rate.high, samples / rate.low)


def _scaled(estimate: Estimate, factor: float) -> Estimate:
    ends = (None if end is None else end * factor for end in (estimate.low, estimate.high))
    assert estimate.value is not None
    return Estimate(estimate.value * factor, *ends)


def ratio_text(ratio: RatioEstimate) -> str:
    """A ratio with its interval, for the console."""
    return f"{ratio.value:.2f}x [{ratio.interval.low:.2f}, {ratio.interval.high:.2f}]"
