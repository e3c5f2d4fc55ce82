"""What was measured of a training: raw samples. Statistics are derived, never stored instead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from saccade.train.samples import LoadTimes

# The parts of a step, in order. ``data`` is what the loop waits for its batch, ``logging`` what the
# job prints and logs in any of the others, and what comes after the optimizer.
PARTS = ("data", "copy", "forward", "loss", "backward", "optimizer", "logging")
COMPUTE_PARTS = ("forward", "loss", "backward", "optimizer")


@dataclass(frozen=True)
class TrainingBlock:
    """Consecutive optimizer steps of one configuration.

    Attributes:
        step_s: wall seconds of each step.
        part_s: part → wall seconds of each step; see `PARTS`. On a GPU they are the device's.
        losses: loss of each step, mean over its samples.
        samples: of the whole block.
        cpu_s: CPU seconds of the process.
        kernel_s: those of them that the kernel took.
        page_faults: pages that the kernel had to provide, none of them from storage.
        output_s: seconds in which the training thread printed and logged. On the CPU they are the
            part ``logging``; a GPU's parts are the device's, which may have worked meanwhile.
        busy_share: share 0-1 of the usable cores' time that the machine was busy.
        device_busy_share: share 0-1 of the time that the GPU was busy; None without one.
        peak_rss_mb: highest resident memory so far, of the process with its loader workers.
        peak_device_mb: highest memory allocated on the device so far; None without one.
        load: where the loader's workers spent their time on these samples.
        corrupt: samples that were left out.
        first_step: number of the first step since the training began.
        ranks_ms: mean own work of each process in a step, where several train together.
    """

    step_s: tuple[float, ...]
    part_s: Mapping[str, tuple[float, ...]]
    losses: tuple[float, ...]
    samples: int
    cpu_s: float
    busy_share: float
    peak_rss_mb: float
    device_busy_share: float | None = None
    peak_device_mb: float | None = None
    load: LoadTimes = field(default_factory=LoadTimes)
    corrupt: int = 0
    first_step: int = 0
    ranks_ms: tuple[float, ...] = ()
    kernel_s: float = 0.0
    page_faults: int = 0
    output_s: float = 0.0

    @property
    def wall_s(self) -> float:
        """Length of the block."""
        return sum(self.step_s)

    @property
    def samples_per_s(self) -> float:
        """Samples per second over the block."""
        return self.samples / self.wall_s

    @property
    def step_ms(self) -> float:
        """Median step, milliseconds."""
        return 1e3 * float(np.median(self.step_s))

    def share(self, part: str) -> float:
        """Share 0-1 of the block's time that a part took."""
        return sum(self.part_s.get(part, ())) / self.wall_s if self.step_s else 0.0

    @property
    def warm(self) -> TrainingBlock:
        """Times and samples without the first step, for which a loader has to begin.

        All else stays that of the whole block, which a block of one step does as well.
        """
        steps = len(self.step_s)
        if steps < 2:
            return self
        return replace(
            self,
            step_s=self.step_s[1:],
            part_s={part: seconds[1:] for part, seconds in self.part_s.items()},
            losses=self.losses[1:],
            samples=self.samples - self.samples // steps,
            first_step=self.first_step + 1,
        )

    @property
    def compute_s(self) -> float:
        """Median seconds of a step's compute, without waiting for data."""
        return sum(float(np.median(self.part_s[part])) for part in COMPUTE_PARTS)


@dataclass(frozen=True)
class Evaluation:
    """A model judged on held-out data.

    Attributes:
        loss: mean over samples.
        metric: of the job, larger is better; None where the job has none.
        samples: judged on.
        corrupt: unreadable ones, in whose place others were judged.
    """

    loss: float
    metric: float | None
    samples: int
    corrupt: int = 0


@dataclass(frozen=True)
class JudgedStep:
    """A model judged along the way.

    Attributes:
        steps: taken before.
    """

    steps: int
    evaluation: Evaluation


@dataclass(frozen=True)
class LossCurve:
    """A short training from one seed.

    Attributes:
        losses: one per step.
        evaluation: on held-out data, after the last step.
        block: its times.
        along: judged on held-out data before the last step; empty where judging takes too long.
    """

    seed: int
    losses: tuple[float, ...]
    evaluation: Evaluation | None
    block: TrainingBlock
    along: tuple[JudgedStep, ...] = ()


@dataclass(frozen=True)
class LoaderBlock:
    """The loader alone: batches fetched and thrown away.

    Attributes:
        batch_s: wall seconds until each batch was there.
        samples: in all.
        load: where the samples' time went.
        read_mb: read from storage meanwhile, by all processes.
        rss_mb: resident memory after each batch that no file stands behind, of the process with
            its loader workers.
    """

    batch_s: tuple[float, ...]
    samples: int
    load: LoadTimes
    cpu_s: float
    read_mb: float
    rss_mb: tuple[float, ...]
    corrupt: int = 0

    @property
    def samples_per_s(self) -> float:
        """Samples per second."""
        return self.samples / sum(self.batch_s)

    @property
    def steady_batch_s(self) -> float:
        """Mean seconds between batches, without the first, for which workers have to start."""
        rest = self.batch_s[1:] or self.batch_s
        return sum(rest) / len(rest)

    @property
    def read_mb_s(self) -> float:
        """Read from storage, 10^6 bytes per second."""
        return self.read_mb / sum(self.batch_s)
