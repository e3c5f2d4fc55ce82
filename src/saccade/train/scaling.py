"""How fast a training would be on several processes, from measured compute and communication.

A step of N processes takes what computing its part of the batch takes, and what of averaging the
gradients is not hidden behind the backward pass. Averaging is a ring all-reduce: each process
sends 2 (N - 1) / N of the gradients' bytes (Patarasuk and Yuan, "Bandwidth Optimal All-reduce
Algorithms for Clusters of Workstations", 2009). Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

# Part of the backward pass that averaging can run beside: DDP sends a bucket once it is full, so
# that the last one always comes after.
OVERLAP = 0.8
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


def fitted_link(measured: Mapping[float, float], world: int) -> Link:
    """The link that explains measured all-reduces best.

    Args:
        measured: message size in 10^6 bytes → seconds; at least two sizes.
        world: processes that took part.
    """
    sizes = np.array(sorted(measured), np.float64)
    seconds = np.array([measured[size] for size in sizes], np.float64)
    slope, offset = np.polyfit(sizes, seconds, 1)
    hops = 2 * (world - 1)
    slope = max(float(slope), 1e-9)
    return Link(max(float(offset), 0.0) / hops, hops / world / slope)


@dataclass(frozen=True)
class StepModel:
    """What a step is made of, measured on one process.

    Attributes:
        fixed_s: of a step whatever its batch, such as the optimizer and launching.
        sample_s: of each sample, on all cores that one process had.
        gradients_mb: of the model, 10^6 bytes.
        shares_cores: processes of one machine share the cores that the one had to itself, as on a
            CPU; on GPUs each has its own.
    """

    fixed_s: float
    sample_s: float
    gradients_mb: float
    shares_cores: bool

    def step_s(self, batch: int, world: int, link: Link, nodes: int = 1) -> float:
        """Seconds of a step of ``batch`` samples in all, over ``world`` processes."""
        on_machine = max(1, world // nodes)
        slower = on_machine if self.shares_cores else 1
        compute = self.fixed_s * slower + self.sample_s * batch / world * slower
        hidden = OVERLAP * BACKWARD_SHARE * compute
        return compute + max(0.0, link.allreduce_s(self.gradients_mb, world) - hidden)


@dataclass(frozen=True)
class ScalingPoint:
    """A predicted number of processes."""

    world: int
    nodes: int
    samples_per_s: float
    efficiency: float


def scaling_curve(
    model: StepModel, batch: int, worlds: Sequence[int], link: Link, per_node: int | None = None
) -> tuple[ScalingPoint, ...]:
    """Predicted samples per second at a constant effective batch.

    Args:
        model: of one process's step.
        batch: samples of a step, over all processes.
        worlds: numbers of processes.
        link: between them.
        per_node: processes of one machine; None has all of them on one.
    """
    alone = batch / model.step_s(batch, 1, link)
    points = []
    for world in worlds:
        nodes = 1 if per_node is None else -(-world // per_node)
        rate = batch / model.step_s(batch, world, link, nodes)
        points.append(ScalingPoint(world, nodes, rate, rate / alone / world))
    return tuple(points)
