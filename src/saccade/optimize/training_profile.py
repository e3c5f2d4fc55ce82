"""Profiles a training under a configuration, in fresh worker processes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from saccade.environment import usable_cores
from saccade.errors import SaccadeError, SpecError
from saccade.optimize.training.group import WorkerGroup
from saccade.optimize.worker import Worker
from saccade.profile.trace import OPERATORS_PID, PIPELINE_PID, RESOURCES_PID, Trace
from saccade.profile.training import Measured
from saccade.profile.training_machine import device_memory_mb
from saccade.profile.training_operators import OperatorPass
from saccade.profile.training_timeline import StepTimeline
from saccade.progress import Progress, SilentProgress
from saccade.train.config import TrainingConfig
from saccade.train.profile import BusyMoment, SampleFacts, TrainingProfile

MEASURER = "saccade.profile.training:TrainingMeasurer"
WATCHER = "saccade.profile.training_watch:TrainingWatcher"
RANK_WARMUP, RANK_STEPS = 2, 5
# Slow steps are given the time they need: each pass takes a least number of them.
LEAST_TIMEOUT_S, TIMEOUT_FACTOR = 900.0, 20.0
# Shares of the time; the rest is for starting the workers and for the passes' least steps.
MEASURING, WATCHING = 0.65, 0.25
# Passes that look at samples alone, and those that look at how steps are computed and are not made
# again after each change of that.
OF_SAMPLES = ("facts", "scan")
OF_STEPS = ("timeline", "operators", "syncs", "scaled")
NOT_AGAIN = "not watched again since computing was changed"
# Time in which some thousand small files can be looked at.
LEAST_SCAN_S = 2.0
TRACE_NAMES = {
    PIPELINE_PID: "training",
    OPERATORS_PID: "operators of one step (profiled)",
    RESOURCES_PID: "resources",
}
TRACE_FILE = "trace.json"


def profile_training(
    config: TrainingConfig,
    seconds: float = 30.0,
    folder: Path | None = None,
    *,
    least_steps: int = 0,
    nvtx: bool = False,
    known: TrainingProfile | None = None,
    progress: Progress | None = None,
    start: Callable[..., Worker] = Worker,
) -> TrainingProfile:
    """Where the time of a training goes.

    Of several processes that train together one is profiled as if it trained alone; how evenly
    they share the work is measured in all of them.

    Steps are measured in one worker process and watched in another; no number of the second is a
    measured speed. A watching pass that fails is named in ``missing`` and leaves its part empty.

    Args:
        config: how it is trained.
        seconds: about how long it takes; slow steps take longer.
        folder: where ``trace.json`` goes; None writes none.
        least_steps: that are measured at least, warm-up included.
        nvtx: name the parts of the watched steps for Nsight Systems, too; needs a GPU.
        known: an earlier profile of the same samples, computed in another way. What it says of
            samples holds for this configuration, which is then measured and hardly watched.
        progress: told what is being done.
        start: makes worker processes.

    Raises:
        SpecError: the job is wrong, or NVTX was asked for where there is no GPU.
        DataError: its data cannot be read.
        WorkerFailure: the measuring process crashed, hung or ran out of memory.
    """
    if nvtx and not config.compute.device.startswith("cuda"):
        raise SpecError(
            "NVTX ranges are for a GPU's timeline, and this job trains on the CPU. Leave out "
            "--nvtx, or set device = 'cuda' in the job."
        )
    said = progress or SilentProgress()
    timeout_s = max(LEAST_TIMEOUT_S, TIMEOUT_FACTOR * seconds)
    alone = config.with_scale(processes=1, nodes=1, strategy="single")
    said.step("Measuring steps")
    with start(MEASURER, (alone,), timeout_s=timeout_s) as worker:
        measured = worker.call("measure", MEASURING * seconds, least_steps, timeout_s=timeout_s)
        model = worker.call("model_facts")
        if known is not None:
            watched = _of_samples(known)
            # Last, for it may end the worker; one pass, where a watcher would have to be started.
            watched.memory = _tried(watched, "memory", _calling(worker, "memory", (), timeout_s))
            return replace(_profile(config, measured, watched), model=model)
    said.step("Watching steps")
    passes = _passes(measured, WATCHING * seconds, nvtx)
    watched = _watch(alone, passes, timeout_s, start)
    if config.scale.processes > 1:
        watched.ranks_ms = _tried(watched, "ranks_ms", lambda: _ranks_ms(config, timeout_s))
    if folder is not None:
        training_trace(config, watched).write(folder / TRACE_FILE)
    return replace(_profile(config, measured, watched), model=model)


@dataclass
class Watched:
    """What the watching passes found; a pass that failed leaves its default and a reason."""

    facts: SampleFacts | None = None
    timeline: StepTimeline = field(default_factory=lambda: StepTimeline((), ()))
    operators: OperatorPass | None = None
    syncs: Any = ()
    memory: Any = field(default_factory=dict)
    scaled: Any = field(default_factory=dict)
    scan: Any = None
    ranks_ms: tuple[float, ...] = ()
    missing: dict[str, str] = field(default_factory=dict)


def _of_samples(known: TrainingProfile) -> Watched:
    """What an earlier profile saw of samples; how they are computed is another matter now."""
    missing = {name: why for name, why in known.missing.items() if name in OF_SAMPLES}
    return Watched(
        facts=known.facts, scan=known.scan, missing=dict.fromkeys(OF_STEPS, NOT_AGAIN) | missing
    )


def _passes(measured: Measured, seconds: float, nvtx: bool) -> dict[str, tuple[Any, ...]]:
    """Watching passes and their arguments, in order; those that may end the worker come last."""
    step_s = measured.block.step_ms / 1e3
    alone_s = measured.synthetic.step_ms / 1e3
    return {
        "facts": (),
        "timeline": (0.25 * seconds, step_s, nvtx),
        "operators": (0.2 * seconds, alone_s),
        "syncs": (0.15 * seconds, alone_s),
        "scan": (max(LEAST_SCAN_S, 0.2 * seconds),),
        "memory": (),
        "scaled": (0.2 * seconds, alone_s),
    }


def _watch(
    config: TrainingConfig,
    passes: dict[str, tuple[Any, ...]],
    timeout_s: float,
    start: Callable[..., Worker],
) -> Watched:
    watched, left = Watched(), list(passes)
    while left:
        # A pass that ends its worker does not take those after it along.
        try:
            with start(WATCHER, (config,), timeout_s=timeout_s) as worker:
                worker.call("warm_up", timeout_s=timeout_s)
                while left and worker.alive:
                    name = left.pop(0)
                    call = _calling(worker, name, passes[name], timeout_s)
                    setattr(watched, name, _tried(watched, name, call))
        except SaccadeError as error:
            watched.missing |= dict.fromkeys(left, str(error))
            break
    return watched


def _ranks_ms(config: TrainingConfig, timeout_s: float) -> tuple[float, ...]:
    group = WorkerGroup(config, None, timeout_s=timeout_s, environment={})
    try:
        group.call("block", RANK_WARMUP, timeout_s=timeout_s)
        return group.ranks_ms(RANK_STEPS, timeout_s=timeout_s)
    finally:
        group.close()


def _calling(
    worker: Worker, name: str, arguments: tuple[Any, ...], timeout_s: float
) -> Callable[[], Any]:
    return lambda: worker.call(name, *arguments, timeout_s=timeout_s)


def _tried(watched: Watched, name: str, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except SaccadeError as error:
        watched.missing[name] = str(error)
        return getattr(watched, name)


def _profile(config: TrainingConfig, measured: Measured, watched: Watched) -> TrainingProfile:
    operators = watched.operators
    return TrainingProfile(
        config_hash=config.hash,
        block=measured.block,
        synthetic=measured.synthetic,
        loader=measured.loader,
        facts=watched.facts or SampleFacts(samples=0),
        operators=operators.operators if operators else (),
        syncs=tuple(watched.syncs),
        recompilations=measured.recompilations,
        memory_mb=watched.memory,
        ranks_ms=watched.ranks_ms,
        overhead=operators.overhead if operators else None,
        effective_cores=usable_cores(),
        config=config,
        warmup=measured.warmup,
        graph_breaks=measured.graph_breaks,
        launches=operators.launches if operators else 0.0,
        operators_share=operators.share if operators else 0.0,
        device_ms=operators.device_ms if operators else None,
        scaled_ms=watched.scaled,
        memory_limit_mb=device_memory_mb(config.compute.device),
        scan=watched.scan,
        busy=tuple(_busy(watched.timeline)),
        missing=watched.missing,
    )


def _busy(timeline: StepTimeline) -> list[BusyMoment]:
    samples = timeline.resources[1:]  # the first has nothing before it to compare with
    if not samples:
        return []
    origin = samples[0].t_s
    return [BusyMoment(s.t_s - origin, s.machine_busy, _at(timeline, s.t_s)) for s in samples]


def _at(timeline: StepTimeline, t_s: float) -> float | None:
    """The GPU's share at the moment closest to ``t_s``."""
    if not timeline.gpu:
        return None
    return min(timeline.gpu, key=lambda moment: abs(moment[0] - t_s))[1]


def training_trace(config: TrainingConfig, watched: Watched) -> Trace:
    """Spans of steps and loader workers, operators of one step, and resources as counters."""
    operators = watched.operators
    return Trace(
        names=TRACE_NAMES,
        unit="step",
        spans=watched.timeline.spans,
        operators=operators.spans if operators else (),
        resources=watched.timeline.resources,
        gpu=watched.timeline.gpu,
        about={
            "config_hash": config.hash,
            "profiling_overhead": operators.overhead if operators else None,
        },
    )


def nsys_command(arguments: list[str], out: Path) -> list[str] | None:
    """The command that runs the same profile under Nsight Systems; None where that is absent.

    Args:
        arguments: of this command, such as ``["saccade", "train", "profile", "job.py"]``.
        out: the run folder, where its report goes.
    """
    nsys = shutil.which("nsys")
    if nsys is None:
        return None
    own = [argument for argument in arguments if argument != "--nvtx"]
    options = ["--trace=cuda,nvtx,osrt", "--force-overwrite=true", "--output", str(out / "nsys")]
    return [nsys, "profile", *options, *own, "--nvtx"]
