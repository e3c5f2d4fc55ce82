"""The steps that measure: baseline curves, profile, and the final race."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from saccade.optimize.metrics import Estimate, mean_of_blocks
from saccade.optimize.training.runner import RacePlan, TrainingRace, TrainingRunner, race
from saccade.statistics import RatioEstimate, noise_floor
from saccade.train.config import TrainingConfig
from saccade.train.records import LossCurve, TrainingBlock

MIN_CURVE, MAX_CURVE = 6, 80
NOISE_LEVEL = 0.68
# How often curves are judged where that takes no more than this share of their training.
JUDGEMENTS, JUDGING_SHARE = 5, 0.3
FINAL_RACE_S = 40.0


@dataclass(frozen=True)
class Curves:
    """Short trainings of one configuration from several seeds.

    Attributes:
        about: what its worker says of the job: ``samples``, ``parameters``, ``steps_per_epoch``.
    """

    config: TrainingConfig
    curves: tuple[LossCurve, ...]
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def blocks(self) -> tuple[TrainingBlock, ...]:
        """Their times."""
        return tuple(curve.block for curve in self.curves)


def curve_length(step_s: float, seeds: int, seconds: float) -> int:
    """Steps of each curve such that all seeds together take about ``seconds``."""
    return int(np.clip(seconds / (seeds * step_s), MIN_CURVE, MAX_CURVE))


def train_curves(config: TrainingConfig, seeds: Sequence[int], steps: int, folder: Path) -> Curves:
    """Train from every seed, in one worker.

    After the first seed it is known what judging takes; where that is little, the others are
    judged along the way as well, for the time to the baseline's accuracy.
    """
    with TrainingRunner(config, "block", folder) as runner:
        began = time.monotonic()
        first = runner.curve(seeds[0], steps)
        training_s = first.block.wall_s
        judging_s = time.monotonic() - began - training_s
        cheap = (JUDGEMENTS - 1) * judging_s <= JUDGING_SHARE * training_s
        often = JUDGEMENTS if cheap else 1
        others = (runner.curve(seed, steps, often) for seed in seeds[1:])
        return Curves(config, (first, *others), runner.about())


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
