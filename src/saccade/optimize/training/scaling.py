"""Measures what scaling rests on, predicts the curve, and tries what this machine allows."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from saccade.environment import usable_cores
from saccade.errors import SpecError
from saccade.optimize.training.group import WorkerGroup
from saccade.optimize.training.runner import OPEN_TIMEOUT_S, STEP_TIMEOUT_S
from saccade.optimize.training.scaling_probe import PROBE
from saccade.optimize.worker import Worker
from saccade.progress import Progress, SilentProgress
from saccade.train.config import TrainingConfig
from saccade.train.dividing import divided, spread, united
from saccade.train.scaling import Cost, Link, ScalingPoint, StepModel, fitted_link, scaling_point
from saccade.train.scaling_report import ScalingReport

WORLDS, NODES = (1, 2, 4, 8), (2, 4)
PAIR = 2
# Messages that are averaged, 10^6 bytes; between them lie the buckets of most models.
MESSAGES_MB = (0.064, 0.25, 1.0, 4.0, 16.0)
# What GPUs of one machine have between them at least, where there is but one to measure (PCIe).
ASSUMED_LOCAL = Link(2e-5, 10_000.0)
# 10 Gbit/s Ethernet.
NETWORK = Link(5e-5, 1_250.0)
STEPS = 5
BATCHES = 6


@dataclass(frozen=True)
class Pair:
    """What two processes at once showed.

    Attributes:
        allreduce_s: message size in 10^6 bytes → seconds.
        apart_s: seconds of forward and backward passes beside the other process.
        samples_per_s: that both together reached.
    """

    allreduce_s: dict[float, float]
    apart_s: float
    samples_per_s: float


def measure_scaling(
    config: TrainingConfig,
    *,
    worlds: Sequence[int] = WORLDS,
    nodes: Sequence[int] = NODES,
    network: Link = NETWORK,
    gpus: int = 0,
    steps: int = STEPS,
    progress: Progress | None = None,
) -> ScalingReport:
    """Predicted samples per second by number of processes and machines.

    Compute is measured in one process, on as many threads as each of several would have, and
    communication between two; two processes are then tried, which the prediction knows nothing of.

    Args:
        config: how the job is trained; the effective batch stays what it is.
        worlds: numbers of processes on this machine.
        nodes: numbers of machines, each with the processes that are best here.
        network: between machines, which cannot be measured here.
        gpus: of this machine; on the CPU its processes share the cores.
        steps: of each measurement.
        progress: told what is being done.

    Raises:
        SpecError: the batch is a single sample, which no two processes can share.
        SaccadeError: the job cannot be trained.
    """
    said = progress or SilentProgress()
    alone = united(config) if config.scale.world > 1 else config
    if divided(alone, PAIR) is None:
        raise SpecError(
            f"A step of {alone.batch.effective} samples cannot be divided by {PAIR} processes. "
            "Choose an even batch."
        )
    cuda = config.compute.device.startswith("cuda")
    cores = 0 if cuda else usable_cores()
    said.step("Measuring one process")
    model, apart_s, rate = _alone(alone, worlds, cores, steps)
    pair = None
    if not cuda or gpus >= PAIR:
        said.step("Measuring two processes")
        pair = _pair(spread(alone, PAIR, cores=cores or None), steps)
        model = replace(model, contention=_contention(pair.apart_s, apart_s) if cores else 1.0)
    link = fitted_link(pair.allreduce_s, PAIR) if pair else ASSUMED_LOCAL
    batch = alone.batch.effective
    points = [
        scaling_point(model, batch, world, link, estimate=pair is None and world > 1)
        for world in worlds
        if world <= batch
    ]
    points += _machines(model, batch, points, link, network, nodes)
    achieved = {1: rate} | ({PAIR: pair.samples_per_s} if pair and PAIR in worlds else {})
    return ScalingReport(
        config_hash=alone.hash,
        batch=batch,
        model=model,
        link=link,
        measured_link=pair is not None,
        network=network,
        points=tuple(points),
        allreduce_s=pair.allreduce_s if pair else {},
        achieved={world: rate for world, rate in achieved.items() if world in worlds},
    )


def _alone(
    config: TrainingConfig, worlds: Sequence[int], cores: int, steps: int
) -> tuple[StepModel, float, float]:
    """What one process shows: the model, its passes alone on half the cores, and its rate."""
    half = divided(config, PAIR)
    assert half is not None
    threads = sorted({max(1, cores // world) for world in worlds}) if cores else [1]
    # One process is timed as it is configured, which may be on fewer threads than there are cores.
    own = config.compute.threads or cores or None
    with Worker(PROBE, (config, None), timeout_s=OPEN_TIMEOUT_S) as worker:
        worker.call("block", 2, timeout_s=STEP_TIMEOUT_S)
        rate = worker.call("block", steps, timeout_s=STEP_TIMEOUT_S).samples_per_s
        gradients = worker.call("gradients_mb")
        loader = worker.call("loaded", BATCHES, timeout_s=STEP_TIMEOUT_S)
    costs: dict[int, Cost] = {}
    with Worker(PROBE, (half, None), timeout_s=OPEN_TIMEOUT_S) as worker:
        for count in threads:
            used = (own if count == cores else count) if cores else None
            costs[count] = worker.call("cost", used, timeout_s=STEP_TIMEOUT_S)
        each = max(1, cores // PAIR) if cores else None
        apart_s = worker.call("apart_s", each, steps, timeout_s=STEP_TIMEOUT_S)
    workers = config.loader.workers
    if not workers:  # loads in turns with computing, in the same process
        each_s = 1 / loader.samples_per_s
        costs = {t: Cost(cost.fixed_s, cost.sample_s + each_s) for t, cost in costs.items()}
        return StepModel(costs, gradients, cores), apart_s, rate
    model = StepModel(
        costs,
        gradients,
        cores,
        loading=loader.samples / len(loader.batch_s) / loader.steady_batch_s,
        loaders=max(1, usable_cores() // workers),
    )
    return model, apart_s, rate


def _pair(config: TrainingConfig, steps: int) -> Pair:
    """What two processes show."""
    with WorkerGroup(config, None, timeout_s=OPEN_TIMEOUT_S, environment={}) as group:
        allreduce: dict[float, float] = group.call("allreduce", MESSAGES_MB, timeout_s=120.0)
        group.call("apart", 2, timeout_s=STEP_TIMEOUT_S)
        apart = group.answers("apart", steps, timeout_s=STEP_TIMEOUT_S)
        group.call("block", 2, timeout_s=STEP_TIMEOUT_S)
        block = group.call("block", steps, timeout_s=STEP_TIMEOUT_S)
    slowest = max(statistics.median(rank.step_s) for rank in apart)
    return Pair(allreduce, slowest, block.samples_per_s)


def _contention(beside_s: float, alone_s: float) -> float:
    """Never below one: another process does not make computing faster."""
    return max(1.0, beside_s / alone_s)


def _machines(
    model: StepModel,
    batch: int,
    here: Sequence[ScalingPoint],
    link: Link,
    network: Link,
    nodes: Sequence[int],
) -> list[ScalingPoint]:
    """Several machines, each with the number of processes that is fastest on one."""
    each = max(here, key=lambda point: point.samples_per_s).world
    ring = link.behind(network) if each > 1 else network
    return [
        scaling_point(model, batch, each * count, ring, count, estimate=True)
        for count in nodes
        if each * count <= batch
    ]
