"""Systems with a planted bottleneck, whose right diagnosis is known.

`healthy` is a profile that no rule may complain about; `planted` spoils it in one way, after
which the rule of that name must give the first finding. `SlowPreprocessor` plants one into a
real pipeline.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from saccade.profile.records import (
    Profile,
    ResourceSample,
    Roofline,
    Span,
    StageTime,
)
from saccade.runtimes.contract import OperatorTime

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from saccade.pipeline.config import PipelineConfig
    from saccade.pipeline.frames import Frame
    from saccade.pipeline.geometry import Letterbox

DELAY_MS = 25.0
SAMPLES = 21
SAMPLE_INTERVAL_S = 0.05

# Round figures of a two-core server CPU with fast low precision.
ROOFLINE = Roofline({"fp32": 300.0, "bf16": 2400.0, "int8": 4800.0}, 25.0, dispatch_us=0.3)


class SlowPreprocessor:
    """A real preprocessor that burns CPU time on every frame besides.

    Use it in a pipeline by its import name, ``saccade.testing.planted:SlowPreprocessor``.

    Args:
        config: the pipeline's configuration.
        delay_ms: CPU milliseconds burned per frame.
        cpu_clock: CPU seconds of the calling thread; counting these instead of wall time burns
            the same work on a busy machine.
    """

    in_graph = False

    def __init__(
        self,
        config: PipelineConfig,
        delay_ms: float = DELAY_MS,
        cpu_clock: Callable[[], float] = time.thread_time,
    ) -> None:
        from saccade.pipeline.preprocess import FusedPreprocessor

        self._inner = FusedPreprocessor(config)
        self._delay_s = delay_ms / 1e3
        self._cpu_clock = cpu_clock

    def allocate(self, box: Letterbox) -> NDArray[Any]:
        """The real preprocessor's buffer, ``(1, 3, H, W)`` float32."""
        return self._inner.allocate(box)

    def run(self, frame: Frame, box: Letterbox, out: NDArray[Any]) -> NDArray[Any]:
        """Preprocess as the real one does, late."""
        end = self._cpu_clock() + self._delay_s
        while self._cpu_clock() < end:
            pass
        return self._inner.run(frame, box, out)


def healthy() -> Profile:
    """Overlapped, both cores busy, int8 kernels near their peak, small objects, no waiting."""
    return Profile(
        config_hash="healthy",
        execution="overlapped",
        cores=2,
        frames=100,
        stages=stages(decode=(2.0, 2.0), preprocess=(0.5, 0.5), infer=(9, 17), postprocess=(1, 1)),
        operators=convolutions(10, total_ms=8.9, gflops=4600, precision="int8"),
        resources=resources(cpu_percent=190),
        roofline=ROOFLINE,
        spans=decode_spans([2.0] * 100),
        input_hw=(384, 640),
        frame_hw=(1080, 1920),
        runtime_threads=2,
        object_sizes_px=tuple(10.0 + i for i in range(60)),
        gaps_ms=(0.02,) * 99,
        extra={"streams": 2.0},
    )


def planted(rule: str) -> Profile:
    """A profile in which ``rule`` names the largest bottleneck.

    Raises:
        KeyError: there is no planted system for a rule of that name.
    """
    return replace(PLANTED[rule](healthy()), config_hash=f"planted-{rule}")


def stages(**wall_and_cpu_ms: tuple[float, float]) -> tuple[StageTime, ...]:
    """Stages by name from (wall, CPU) milliseconds per frame."""
    return tuple(StageTime(name, *times) for name, times in wall_and_cpu_ms.items())


def convolutions(
    count: int, total_ms: float, gflops: float, precision: str
) -> tuple[OperatorTime, ...]:
    """``count`` equal convolutions at ``gflops``, with little enough traffic to be arithmetic."""
    wall_ms = total_ms / count
    flops = gflops * 1e6 * wall_ms
    return tuple(
        OperatorTime(f"conv_{i}", "Conv", wall_ms, precision, "gemm", flops, flops / 1000)
        for i in range(count)
    )


def resources(
    cpu_percent: float,
    read_mb_per_sample: float = 0.0,
    switches_per_s: float = 40.0,
    queued_share: float = 0.02,
    threads: int = 6,
) -> tuple[ResourceSample, ...]:
    """Even load over one second."""
    queued_s = SAMPLE_INTERVAL_S * cpu_percent / 100 * queued_share / (1 - queued_share)
    return tuple(
        ResourceSample(
            t_s=i * SAMPLE_INTERVAL_S,
            cpu_percent=cpu_percent if i else 0.0,
            machine_busy=min(1.0, cpu_percent / 200),
            rss_mb=400.0,
            minor_faults=10 * i,
            major_faults=0,
            read_mb=read_mb_per_sample * i,
            io_wait_s=0.0,
            threads=threads,
            involuntary_switches=round(switches_per_s * SAMPLE_INTERVAL_S * i),
            runqueue_wait_s=queued_s * i,
        )
        for i in range(SAMPLES)
    )


def decode_spans(durations_ms: list[float], every_s: float = 0.01) -> tuple[Span, ...]:
    """Decode spans of consecutive frames, one starting every ``every_s``."""
    return tuple(
        Span("decode", "feeder", i * every_s, i * every_s + ms / 1e3, "stage", i)
        for i, ms in enumerate(durations_ms)
    )


def _sequential(profile: Profile, **costs: tuple[float, float]) -> Profile:
    """One stage after the other, with some stages' costs replaced."""
    kept = {stage.name: (stage.wall_ms, stage.cpu_ms) for stage in profile.stages}
    return replace(profile, execution="sequential", stages=stages(**{**kept, **costs}), extra={})


def _decode(profile: Profile) -> Profile:
    return _sequential(profile, decode=(30, 30))


def _preprocess(profile: Profile) -> Profile:
    return _sequential(profile, preprocess=(DELAY_MS, DELAY_MS))


def _postprocess(profile: Profile) -> Profile:
    return _sequential(profile, postprocess=(30, 30))


def _compute(profile: Profile) -> Profile:
    slow = _sequential(profile, infer=(20, 39))
    return replace(slow, operators=convolutions(10, total_ms=19.5, gflops=250, precision="fp32"))


def _memory(profile: Profile) -> Profile:
    slow = _sequential(profile, infer=(20, 39))
    copies = tuple(
        OperatorTime(f"concat_{i}", "Concat", 1.5, "fp32", "ref", 0.0, 1.5e-3 * 20e9)
        for i in range(10)
    )
    few = convolutions(5, total_ms=4.5, gflops=4600, precision="int8")
    return replace(slow, operators=(*copies, *few))


def _masks(profile: Profile) -> Profile:
    slow = _postprocess(profile)
    masks_ms = 0.95 * slow.stage("postprocess").wall_ms
    return replace(slow, extra={**slow.extra, "masks_ms": masks_ms})


def _io(profile: Profile) -> Profile:
    waiting = _sequential(profile, decode=(30, 4))
    spans = decode_spans([30.0] * 25, every_s=0.04)
    samples = resources(cpu_percent=60, read_mb_per_sample=5)
    return replace(waiting, spans=spans, resources=samples)


def _serialized(profile: Profile) -> Profile:
    costs = {"decode": (7, 7), "preprocess": (3, 3), "infer": (8, 8), "postprocess": (2, 2)}
    in_turn = _sequential(profile, **{name: (float(w), float(c)) for name, (w, c) in costs.items()})
    ops = convolutions(10, total_ms=7.9, gflops=4600, precision="int8")
    return replace(in_turn, cores=4, operators=ops, resources=resources(cpu_percent=100))


def _oversubscribed(profile: Profile) -> Profile:
    crowded = _sequential(profile, infer=(30, 58))
    samples = resources(cpu_percent=198, switches_per_s=4000, queued_share=0.7, threads=40)
    return replace(crowded, operators=(), runtime_threads=16, resources=samples)


def _overkill(profile: Profile) -> Profile:
    wasteful = _sequential(profile, infer=(30, 58))
    sizes = tuple(100.0 + i for i in range(60))
    return replace(wasteful, operators=(), input_hw=(640, 640), object_sizes_px=sizes)


def _overhead(profile: Profile) -> Profile:
    tiny = tuple(OperatorTime(f"add_{i}", "Add", 0.012) for i in range(300))
    few = convolutions(4, total_ms=2.0, gflops=4600, precision="int8")
    slow_calls = replace(ROOFLINE, dispatch_us=5.0)
    idle = _sequential(profile, infer=(12, 23))
    return replace(idle, operators=(*few, *tiny), roofline=slow_calls, gaps_ms=(8.0,) * 99)


PLANTED: dict[str, Callable[[Profile], Profile]] = {
    "decode_bound": _decode,
    "preprocess_bound": _preprocess,
    "compute_bound": _compute,
    "memory_bandwidth_bound": _memory,
    "postprocess_bound": _postprocess,
    "mask_bound": _masks,
    "io_bound": _io,
    "serialized_stages": _serialized,
    "thread_oversubscription": _oversubscribed,
    "resolution_overkill": _overkill,
    "framework_overhead": _overhead,
}
