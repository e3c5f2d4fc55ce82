"""What a training step costs today, and what it would cost without some of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from saccade.diagnose.gains import ratio
from saccade.train.faults import faulting_s
from saccade.train.profile import TrainingProfile
from saccade.train.records import COMPUTE_PARTS

# A part below this share of the step gains at most 1.11×, about what can be told from nothing.
MIN_SHARE = 0.1


@dataclass(frozen=True)
class Gain:
    """Upper bounds on samples per second.

    Attributes:
        share: share 0-1 of today's step that goes away.
        sequential: with loading as it is today, in turns with computing or beside it.
        pipelined: with loading beside computing on all cores.
    """

    share: float
    sequential: float
    pipelined: float


@dataclass(frozen=True)
class StepCost:
    """Mean seconds of a step.

    Attributes:
        step_s: all of it.
        data_s: it waits for its batch.
        alone_s: the same without loading: on a cached batch, and no more than the rest of it.
        loader_s: the loader needs for its batches when nothing else runs.
        workers: loader processes; 0 loads in turns with computing.
        cores: that may be used.
    """

    step_s: float
    data_s: float
    alone_s: float
    loader_s: float
    workers: int
    cores: int

    @classmethod
    def of(cls, profile: TrainingProfile) -> StepCost:
        """Of the steps that were measured."""
        steps = max(1, len(profile.block.step_s))
        step_s = profile.block.wall_s / steps
        data_s = sum(profile.block.part_s.get("data", ())) / steps
        synthetic_s = profile.synthetic.wall_s / max(1, len(profile.synthetic.step_s))
        config = profile.config
        accumulation = config.batch.accumulation if config else 1
        loader_s = profile.loader.steady_batch_s * accumulation if profile.loader else data_s
        return cls(
            step_s=step_s,
            data_s=data_s,
            alone_s=min(synthetic_s, step_s - data_s) if synthetic_s > 0 else step_s - data_s,
            loader_s=loader_s,
            workers=config.loader.workers if config else 0,
            cores=max(1, profile.effective_cores),
        )

    @property
    def loading_s(self) -> float:
        """What loading costs a step: waiting, and computing more slowly beside its workers."""
        beside_s = self.step_s - self.alone_s if self.workers else 0.0
        return max(self.data_s, min(beside_s, self.loader_s))

    def without_loading(self, fraction: float) -> Gain:
        """Gain if ``fraction`` 0-1 of the loader's work took no time."""
        kept_s = 1.0 - fraction
        if self.workers:
            after_s = max(self.alone_s, kept_s * self.loader_s)
            after_s = max(after_s, self.step_s - self.loading_s)
        else:
            after_s = self.step_s - fraction * self.data_s
        beside_s = max(self.step_s - self.data_s, kept_s * self.data_s / self.cores)
        share = fraction * self.loading_s / self.step_s if self.step_s > 0 else 0.0
        return self._gain(share, after_s, min(after_s, beside_s))

    def without_computing(self, seconds: float) -> Gain:
        """Gain if a step computed for ``seconds`` less; loading beside it can then be the limit."""
        seconds = min(max(0.0, seconds), self.step_s)
        after_s = self.step_s - seconds
        if self.workers:
            after_s = max(after_s, min(self.loader_s, self.step_s))
        beside_s = max(self.step_s - self.data_s - seconds, self.data_s / self.cores)
        share = seconds / self.step_s if self.step_s > 0 else 0.0
        return self._gain(share, after_s, min(after_s, max(0.0, beside_s)))

    def _gain(self, share: float, after_s: float, pipelined_s: float) -> Gain:
        return Gain(
            min(1.0, max(0.0, share)),
            max(1.0, ratio(self.step_s, after_s)),
            max(1.0, ratio(self.step_s, pipelined_s)),
        )


@dataclass(frozen=True)
class LoaderParts:
    """Seconds of a batch's loading by part, all of its samples together, in one worker.

    Attributes:
        disk_s: reading and decoding waited for storage or network.
        read_s: the rest of the data set's own ``__getitem__``.
        decode_s: the rest of decoding.
        transform_s: transforms.
        collate_s: making a batch.
        copy_s: what comes on top until the batch has arrived from its worker.
    """

    disk_s: float
    read_s: float
    decode_s: float
    transform_s: float
    collate_s: float
    copy_s: float

    @classmethod
    def of(cls, profile: TrainingProfile) -> LoaderParts:
        """From the loader alone where it was measured, else from beside the steps."""
        alone = profile.loader
        config = profile.config
        accumulation = config.batch.accumulation if config else 1
        load = alone.load if alone else profile.block.load
        batches = len(alone.batch_s) if alone else len(profile.block.step_s) * accumulation
        batches = max(1, batches)
        fetched_s = (load.read_s + load.decode_s) / batches
        disk_s = min(load.blocked_s / batches, fetched_s)
        used = 1 - disk_s / fetched_s if fetched_s > 0 else 0.0
        workers = config.loader.workers if config else 0
        copy_s = 0.0
        if alone and workers:
            copy_s = alone.steady_batch_s * min(workers, batches) - load.total_s() / batches
        return cls(
            disk_s=disk_s,
            read_s=used * load.read_s / batches,
            decode_s=used * load.decode_s / batches,
            transform_s=load.transform_s / batches,
            collate_s=load.collate_s / batches,
            copy_s=max(0.0, copy_s),
        )

    @property
    def total_s(self) -> float:
        """All parts."""
        return float(sum(vars(self).values()))

    def fraction(self, *names: str) -> float:
        """Fraction 0-1 of the loader's work that these parts are."""
        total = self.total_s
        return sum(getattr(self, name) for name in names) / total if total > 0 else 0.0


def part_s(profile: TrainingProfile, part: str) -> float:
    """Mean seconds of a step that one of its parts takes."""
    return sum(profile.block.part_s.get(part, ())) / max(1, len(profile.block.step_s))


def output_s(profile: TrainingProfile) -> float:
    """Mean seconds of a step that printing and logging cost; on a GPU no more than it is idle."""
    seconds = profile.block.output_s / max(1, len(profile.block.step_s))
    if profile.device_ms is None:
        return seconds
    return min(seconds, max(0.0, StepCost.of(profile).step_s - profile.device_ms / 1e3))


def computing_s(profile: TrainingProfile) -> float:
    """Mean seconds of a step in forward, loss and backward; on a GPU no more than it ran."""
    parts = (part for part in COMPUTE_PARTS if part != "optimizer")
    seconds = sum(part_s(profile, part) for part in parts)
    return seconds if profile.device_ms is None else min(seconds, profile.device_ms / 1e3)


def faults_s(profile: TrainingProfile) -> float:
    """Seconds of a step's computing, at most, in which the kernel provides pages of memory."""
    return min(faulting_s(profile.synthetic), computing_s(profile))


def operating_s(profile: TrainingProfile) -> float:
    """Mean seconds of a step's computing without page faults: what operators themselves need."""
    return computing_s(profile) - faults_s(profile)


def fixed_share(profile: TrainingProfile) -> float:
    """Share 0-1 of a step's computing that does not depend on how many samples it has.

    The constant of the line through two batch sizes; 0 where only one was measured.
    """
    if len(profile.scaled_ms) < 2:
        return 0.0
    small, large = min(profile.scaled_ms), max(profile.scaled_ms)
    small_ms, large_ms = profile.scaled_ms[small], profile.scaled_ms[large]
    if small_ms <= 0:
        return 0.0
    each_ms = max(0.0, (large_ms - small_ms) / (large - small))
    return min(1.0, max(0.0, 1 - each_ms * small / small_ms))
