"""A training as it is measured: lives in a worker process, does what it is told, returns samples.

`saccade.optimize.worker.Worker` makes one and calls its methods.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

import psutil

from saccade.train.config import JobReference, TrainingConfig
from saccade.train.evaluating import evaluate
from saccade.train.job import open_job
from saccade.train.joining import joined_blocks
from saccade.train.loading import open_loader
from saccade.train.loop import TrainingLoop
from saccade.train.machine import (
    Meter,
    own_memory_mb,
    process_tree_peak_mb,
    read_bytes_of_tree,
)
from saccade.train.model_facts import model_facts
from saccade.train.output_clock import spent_s, time_output
from saccade.train.own_settings import own_compute
from saccade.train.profile import ModelFacts
from saccade.train.records import (
    Evaluation,
    JudgedStep,
    LoaderBlock,
    LossCurve,
    TrainingBlock,
)
from saccade.train.samples import LoadTimes

SUBJECT = "saccade.train.subject:TrainingSubject"


class JobReader:
    """Opens a job and says what stands in it; a process of its own, because it runs user code."""

    def read(self, reference: JobReference) -> dict[str, Any]:
        """Settings of the user's own script."""
        job = open_job(reference)
        return {
            "batch_size": job.batch_size,
            "accumulation": job.accumulation,
            "epochs": job.epochs,
            "workers": job.workers,
            "max_corrupt": job.max_corrupt,
            "compute": own_compute(job),
            "has_metric": job.metric is not None,
        }


class TrainingSubject:
    """One job under one configuration.

    Args:
        config: how it is trained.
        steps: of the whole training, for the schedule; None takes the job's epochs.
    """

    def __init__(self, config: TrainingConfig, steps: int | None = None) -> None:
        self._config = config
        self._job = open_job(config.job)
        time_output()
        self._loop = TrainingLoop(self._job, config, steps)

    def about(self) -> dict[str, Any]:
        """What there is to know before the first step."""
        loop = self._loop
        return {
            "samples": loop.samples,
            "steps_per_epoch": loop.steps_per_epoch,
            "epochs": self._job.epochs,
            "parameters": sum(p.numel() for p in loop.model.parameters()),
            "has_metric": self._job.metric is not None,
            "remark": loop.remark,
        }

    def model_facts(self) -> ModelFacts:
        """What the model and its optimizer are made of."""
        return model_facts(self._loop.model, self._loop.optimizer)

    def block(self, steps: int) -> TrainingBlock:
        """Take steps and time them."""
        loop = self._loop
        first, corrupt = loop.step_number, len(loop.corrupt)
        loop.load_times = LoadTimes()
        said_s, meter = spent_s(), Meter(self._config.compute.device)
        losses = [loop.step() for _ in range(steps)]
        step_s, part_s = loop.clock.read()
        used = meter.read()
        return TrainingBlock(
            step_s=step_s,
            part_s=part_s,
            losses=tuple(float(loss) for loss in losses),
            samples=steps * loop.config.batch.effective,
            cpu_s=used.cpu_s,
            kernel_s=used.kernel_s,
            page_faults=used.page_faults,
            output_s=spent_s() - said_s,
            busy_share=used.busy_share,
            peak_rss_mb=process_tree_peak_mb(),
            device_busy_share=used.device_busy_share,
            peak_device_mb=used.peak_device_mb,
            load=loop.load_times,
            corrupt=len(loop.corrupt) - corrupt,
            first_step=first,
        )

    def hold_batch(self) -> None:
        """Take every step from now on, until the next curve, on one cached batch."""
        self._loop.use_cached_batch()

    def curve(
        self,
        seed: int,
        steps: int,
        judge: bool = True,
        judgements: int = 1,
        part: int | None = None,
    ) -> LossCurve:
        """Train ``steps`` steps from the weights of a seed, and judge the outcome.

        Args:
            seed: of weights, order and augmentation.
            steps: to take.
            judge: on held-out data.
            judgements: how often, at equal distances; the last is of the outcome.
            part: of the held-out samples; None for all.
        """
        self._loop.restart(seed)
        blocks, along, done = [], [], 0
        for stop in _stops(steps, judgements if judge else 1):
            blocks.append(self.block(stop - done))
            done = stop
            if stop < steps:
                along.append(JudgedStep(stop, evaluate(self._loop, part)))
        block = joined_blocks(blocks)
        outcome = evaluate(self._loop, part) if judge else None
        return LossCurve(seed, block.losses, outcome, block, tuple(along))

    def evaluate(self, part: int | None = None) -> Evaluation:
        """Judge the model as it is, on all held-out samples or a part of them."""
        return evaluate(self._loop, part)

    def loader(self, batches: int) -> LoaderBlock:
        """Fetch batches and throw them away, beside no compute."""
        loader = open_loader(self._job, self._config)
        times, waits, rss = LoadTimes(), [], []  # type: LoadTimes, list[float], list[float]
        samples = corrupt = 0
        cpu_before, read_before = _tree_cpu_s(), read_bytes_of_tree()
        last = time.perf_counter()
        try:
            for number, batch in enumerate(loader.batches(0)):
                now = time.perf_counter()
                waits.append(now - last)
                samples += batch.size
                corrupt += len(batch.corrupt)
                for name, seconds in asdict(batch.times).items():
                    setattr(times, name, getattr(times, name) + seconds)
                rss.append(own_memory_mb())
                if number + 1 >= batches:
                    break
                last = time.perf_counter()
            cpu_s = _tree_cpu_s() - cpu_before
            read_mb = (read_bytes_of_tree() - read_before) / 1e6
        finally:
            loader.close()
        return LoaderBlock(tuple(waits), samples, times, cpu_s, read_mb, tuple(rss), corrupt)


def _stops(steps: int, count: int) -> list[int]:
    """After how many steps to judge, the last of them included."""
    return sorted({max(1, round(steps * n / count)) for n in range(1, count)} | {steps})


def _tree_cpu_s() -> float:
    """CPU seconds of this process and its living children."""
    total = 0.0
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total
