"""`Profile`: where the time goes by stage, by operator and by resource. Pure values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from saccade.runtimes.contract import OperatorTime


@dataclass(frozen=True)
class StageTime:
    """One stage of the pipeline, measured with the stages one after the other.

    Attributes:
        name: ``decode``, ``preprocess``, ``infer`` or ``postprocess``.
        wall_ms: mean wall milliseconds per frame.
        cpu_ms: mean CPU milliseconds per frame, all threads of the process together.
        samples_ms: the wall samples.
    """

    name: str
    wall_ms: float
    cpu_ms: float
    samples_ms: tuple[float, ...] = ()


@dataclass(frozen=True)
class Span:
    """One interval on one thread, for the trace. Times in seconds on one clock.

    Attributes:
        frame: number of the frame, of the step in a training; negative where it belongs to none.
        details: more about it, JSON-ready.
    """

    name: str
    thread: str
    start_s: float
    end_s: float
    category: str = "stage"
    frame: int = -1
    details: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class ResourceSample:
    """The process at one moment; counters are since the first sample.

    Attributes:
        t_s: seconds on the spans' clock.
        cpu_percent: of one core, since the previous sample (200 = two cores busy).
        machine_busy: share 0-1 of the usable cores' time that anything was running.
        rss_mb: resident memory.
        minor_faults: page faults served from memory.
        major_faults: page faults that read the disk.
        read_mb: bytes read from storage.
        io_wait_s: seconds the process's threads were blocked on storage, where the kernel tells.
        threads: number of threads.
        involuntary_switches: context switches forced on the process.
        runqueue_wait_s: seconds the process's threads were ready but had to wait for a core.
    """

    t_s: float
    cpu_percent: float
    machine_busy: float
    rss_mb: float
    minor_faults: int
    major_faults: int
    read_mb: float
    io_wait_s: float
    threads: int
    involuntary_switches: int
    runqueue_wait_s: float = 0.0


@dataclass(frozen=True)
class Roofline:
    """What this machine reached when asked for nothing else, all usable cores together.

    Attributes:
        peak_gflops: precision (``fp32``, ``bf16``, ``int8``) → 10^9 operations per second in
            large matrix products; a precision that the machine has no fast path for is absent.
        bandwidth_gbs: 10^9 bytes per second, read plus write, in a large copy.
        dispatch_us: microseconds per operator that a runtime spends around tiny operators.
    """

    peak_gflops: dict[str, float]
    bandwidth_gbs: float
    dispatch_us: float = 0.0


@dataclass(frozen=True)
class Profile:
    """One profiling pass over one configuration. Never a source of measured speed.

    Attributes:
        config_hash: the configuration.
        execution: how the configuration runs, ``sequential`` or ``overlapped``.
        cores: usable cores.
        frames: frames profiled.
        stages: in pipeline order, from a sequential pass.
        operators: of one inference, slowest first; empty where the runtime gives none.
        resources: over time.
        roofline: this machine's peaks.
        spans: for the trace.
        overhead: profiled over unprofiled time per frame, minus 1.
        input_hw: height and width the model ran at.
        frame_hw: height and width of the decoded frames.
        runtime_threads: threads the runtime was asked to use, None for its default.
        object_sizes_px: sides (square root of area) of the boxes found, in input pixels.
        gaps_ms: per frame, time in which no stage of the pipeline was running.
        extra: more numbers by name; ``masks_ms`` is the part of postprocessing that masks take,
            where the task has them.
    """

    config_hash: str
    execution: str
    cores: int
    frames: int
    stages: tuple[StageTime, ...]
    operators: tuple[OperatorTime, ...] = ()
    resources: tuple[ResourceSample, ...] = ()
    roofline: Roofline | None = None
    spans: tuple[Span, ...] = ()
    overhead: float = 0.0
    input_hw: tuple[int, int] = (0, 0)
    frame_hw: tuple[int, int] = (0, 0)
    runtime_threads: int | None = None
    object_sizes_px: tuple[float, ...] = ()
    gaps_ms: tuple[float, ...] = ()
    extra: dict[str, float] = field(default_factory=dict)

    def stage(self, name: str) -> StageTime:
        """The stage called ``name``; a stage that did not run costs nothing."""
        return next((s for s in self.stages if s.name == name), StageTime(name, 0.0, 0.0))

    @property
    def masks_share(self) -> float | None:
        """Share 0-1 of postprocessing that goes into masks; None where it is not known."""
        whole, masks_ms = self.stage("postprocess").wall_ms, self.extra.get("masks_ms")
        return min(1.0, masks_ms / whole) if masks_ms is not None and whole > 0 else None

    @property
    def frame_ms(self) -> float:
        """Wall milliseconds per frame with the stages one after the other."""
        return sum(stage.wall_ms for stage in self.stages)

    @property
    def core_ms(self) -> float:
        """CPU milliseconds per frame, all cores together."""
        return sum(stage.cpu_ms for stage in self.stages)
