"""How fast a training would be on several processes, from measured compute and communication.

A step of N processes takes what computing its part of the batch takes, and what of averaging the
gradients is not hidden behind the backward pass. Averaging is a ring all-reduce: each process
sends 2 (N - 1) / N of the gradients' bytes (Patarasuk and Yuan, "Bandwidth Optimal All-reduce
Algorithms for Clusters of Workstations", 2009). Gradients are sent in buckets, each as soon as the
backward pass has filled it (Li et al., "PyTorch Distributed", VLDB 2020). Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

# Of `DistributedDataParallel`: the first bucket is small, so that sending begins early.
FIRST_BUCKET_MB, BUCKET_MB = 1.048576, 26.2144
BACKWARD_SHARE = 2 / 3


@dataclass(frozen=True)
class Link:
    """What connects processes.

    Attributes:
        latency_s: of one message between two of them.
        bandwidth_mbs: 10^6 bytes per second of one direction.
    """

    latency_s: float
    bandwidth_mbs: float

    def allreduce_s(self, megabytes: float, world: int) -> float:
        """Seconds to average ``megabytes`` over ``world`` processes."""
        if world < 2:
            return 0.0
        sent = 2 * (world - 1) / world * megabytes
        return 2 * (world - 1) * self.latency_s + sent / self.bandwidth_mbs

    def behind(self, other: Link) -> Link:
        """A ring through both: each of its rounds waits for the slower one."""
        return Link(
            max(self.latency_s, other.latency_s), min(self.bandwidth_mbs, other.bandwidth_mbs)
        )


def fitted_link(measured: Mapping[float, float], world: int) -> Link:
    """The link that explains measured all-reduces best, small messages as well as large ones.

    Args:
        measured: message size in 10^6 bytes → seconds; at least two sizes.
        world: processes that took part.
    """
    sizes = np.array(sorted(measured), np.float64)
    seconds = np.array([measured[size] for size in sizes], np.float64)
    # Residuals relative to the times, or the largest message would decide everything.
    slope, offset = np.polyfit(sizes, seconds, 1, w=1 / seconds)
    hops = 2 * (world - 1)
    slope = max(float(slope), 1e-9)
    return Link(max(float(offset), 0.0) / hops, hops / world / slope)


def buckets_mb(gradients_mb: float) -> tuple[float, ...]:
    """Sizes of the buckets in which gradients are sent, the first one first."""
    sizes, left, size = [], gradients_mb, FIRST_BUCKET_MB
    while left > 0:
        sizes.append(min(size, left))
        left -= sizes[-1]
        size = BUCKET_MB
    return tuple(sizes)


def exposed_s(
    buckets: Sequence[float], backward_s: float, world: int, link: Link, *, overlaps: bool
) -> float:
    """Seconds of averaging that come on top of computing.

    Args:
        buckets: their sizes in 10^6 bytes; the backward pass fills them at an even rate.
        backward_s: seconds of the backward pass.
        world: processes.
        link: between them.
        overlaps: sending and adding up take nothing from computing, as on GPUs. On CPUs they need
            the cores that the backward pass needs, so that nothing is won by their coming early.
    """
    times = [link.allreduce_s(size, world) for size in buckets]
    if not overlaps:
        return sum(times)
    filled = done = 0.0
    for size, seconds in zip(buckets, times, strict=True):
        filled += backward_s * size / sum(buckets)
        done = max(filled, done) + seconds
    return max(0.0, done - backward_s)


@dataclass(frozen=True)
class Cost:
    """What computing takes on one process.

    Attributes:
        fixed_s: of a step whatever its batch, such as the optimizer and launching.
        sample_s: of each sample.
    """

    fixed_s: float
    sample_s: float

    def step_s(self, samples: float) -> float:
        """Seconds of a step of so many samples."""
        return self.fixed_s + self.sample_s * samples

    def slower(self, times: float) -> Cost:
        """So many times as dear."""
        return Cost(self.fixed_s * times, self.sample_s * times)


@dataclass(frozen=True)
class StepModel:
    """What a step is made of, as measured.

    Attributes:
        costs: threads of a process → what computing costs it; on GPUs one entry, whatever its key.
        gradients_mb: of the model, 10^6 bytes.
        cores: of one machine, which its processes share; 0 on GPUs, each of which has its own.
        contention: how many times longer computing takes beside one other process than without,
            both having their own cores; caches and memory are shared.
        loading: samples per second that the loader of one process brings; None for no limit.
        loaders: processes of one machine whose loaders do not take cores from each other.
    """

    costs: Mapping[int, Cost]
    gradients_mb: float
    cores: int = 0
    contention: float = 1.0
    loading: float | None = None
    loaders: int = 1

    def cost(self, on_machine: int) -> Cost:
        """What computing costs each of so many processes of one machine.

        Where that number of threads was not measured, the next larger one stands for it, and takes
        as much longer as it has fewer cores; more processes than cores take turns.
        """
        if not self.cores:
            return next(iter(self.costs.values()))
        share = self.cores / on_machine
        measured = min((t for t in self.costs if t >= share), default=max(self.costs))
        crowd = 1 + (self.contention - 1) * (min(on_machine, self.cores) - 1)
        return self.costs[measured].slower(crowd * max(1.0, measured / share))

    def compute_s(self, samples: float, on_machine: int) -> float:
        """Seconds of computing ``samples`` on each of so many processes of one machine."""
        return self.cost(on_machine).step_s(samples)

    def exposed_s(self, compute_s: float, world: int, link: Link) -> float:
        """Seconds of averaging gradients that come on top."""
        return exposed_s(
            buckets_mb(self.gradients_mb),
            BACKWARD_SHARE * compute_s,
            world,
            link,
            overlaps=not self.cores,
        )

    def step_s(self, batch: int, world: int, link: Link, nodes: int = 1) -> float:
        """Seconds of a step of ``batch`` samples in all, over ``world`` processes."""
        compute = self.compute_s(batch / world, -(-world // nodes))
        step = compute + self.exposed_s(compute, world, link)
        return max(step, self._loading_s(batch, world, nodes))

    def _loading_s(self, batch: int, world: int, nodes: int) -> float:
        if self.loading is None:
            return 0.0
        return batch / (self.loading * min(-(-world // nodes), self.loaders) * nodes)


@dataclass(frozen=True)
class ScalingPoint:
    """A predicted number of processes.

    Attributes:
        step_s: seconds of a step, of which ``compute_s`` are for computing and ``exposed_s`` for
            what of averaging is not hidden.
        speedup: over one process.
        efficiency: that over the number of processes.
        estimate: rests on a link that was not measured here.
    """

    world: int
    nodes: int
    samples_per_s: float
    step_s: float
    compute_s: float
    exposed_s: float
    speedup: float
    efficiency: float
    estimate: bool


def scaling_point(
    model: StepModel, batch: int, world: int, link: Link, nodes: int = 1, *, estimate: bool = False
) -> ScalingPoint:
    """What so many processes would reach at a constant effective batch."""
    compute = model.compute_s(batch / world, -(-world // nodes))
    step = model.step_s(batch, world, link, nodes)
    speedup = model.step_s(batch, 1, link) / step
    return ScalingPoint(
        world=world,
        nodes=nodes,
        samples_per_s=batch / step,
        step_s=step,
        compute_s=compute,
        exposed_s=model.exposed_s(compute, world, link),
        speedup=speedup,
        efficiency=speedup / world,
        estimate=estimate,
    )
