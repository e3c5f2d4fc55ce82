"""Profiles one configuration in this process: stages, operators, resources, spans.

Runs inside a worker process, apart from measuring: a profiled number is never reported as a
measured one.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from saccade.environment import usable_cores
from saccade.measurement import STAGES
from saccade.pipeline.config import PipelineConfig
from saccade.pipeline.engine import Emission
from saccade.pipeline.pipeline import Pipeline
from saccade.profile.operators import merge_work
from saccade.profile.records import Profile, ResourceSample, Span, StageTime
from saccade.profile.resources import ResourceSampler
from saccade.runtimes.contract import OperatorTime

SAMPLE_INTERVAL_S = 0.05
WARMUP_FRAMES = 6
OPERATOR_RUNS = 8


@dataclass(frozen=True)
class Profiler:
    """Profiles configurations on a source.

    Attributes:
        source: the video or folder.
        frames: frames of the stage pass.
    """

    source: str
    frames: int = 40

    def profile(self, config: PipelineConfig, operators: bool = True) -> Profile:
        """Stages one after the other, then the real execution for the trace, then operators."""
        alone, resources = self._pass(replace(config, execution="sequential"))
        spans = tuple(_spans(alone.emissions, "main"))
        if config.execution == "overlapped":
            together, resources = self._pass(config)
            spans = tuple(_spans(together.emissions, ""))
        stages = alone.stages()
        per_frame = sum(stage.wall_ms for stage in stages)
        found, frame_hw, input_hw, slowdown = self._operators(config, alone, operators)
        return Profile(
            config_hash=config.hash,
            execution=config.execution,
            cores=usable_cores(),
            frames=len(alone.emissions),
            stages=stages,
            operators=tuple(found),
            resources=tuple(resources),
            spans=spans,
            overhead=slowdown,
            input_hw=input_hw,
            frame_hw=frame_hw,
            runtime_threads=config.options.threads,
            object_sizes_px=tuple(_object_sizes(alone.emissions, input_hw, frame_hw)),
            gaps_ms=tuple(_gaps_ms(alone.emissions)),
            extra={
                "sequential_frame_ms": per_frame,
                "streams": float(config.options.streams),
                "letterboxed": float(config.description.preprocessing.fit == "letterbox"),
                **alone.parts(),
            },
        )

    def _pass(self, config: PipelineConfig) -> tuple[_Pass, list[ResourceSample]]:
        clock = CpuClock()
        with Pipeline(config, clock=clock) as pipeline:
            stream = pipeline.emissions(self.source, loop=True, keep_frames=False)
            for _ in itertools.islice(stream, WARMUP_FRAMES):
                pass
            with ResourceSampler(SAMPLE_INTERVAL_S) as sampler:
                emissions = list(itertools.islice(stream, self.frames))
            stream.close()  # type: ignore[attr-defined]
        return _Pass(emissions, clock), list(sampler.samples)

    def _operators(
        self, config: PipelineConfig, alone: _Pass, wanted: bool
    ) -> tuple[list[OperatorTime], tuple[int, int], tuple[int, int], float]:
        """Operator times at the stream's shape, the shapes, and what observing them costs."""
        single = replace(config, execution="sequential")
        with Pipeline(single, profile=wanted) as pipeline:
            frame = next(iter(pipeline.frames(self.source)))
            session, box = pipeline.stream_session(frame.hw)
            if not wanted:
                return [], frame.hw, box.input_hw, 0.0
            preprocessor = pipeline.preprocessor
            tensor = preprocessor.run(frame, box, preprocessor.allocate(box))
            walls = []
            for _ in range(OPERATOR_RUNS):
                began = time.perf_counter()
                session.infer(tensor)
                walls.append(1e3 * (time.perf_counter() - began))
            measured = session.operators()
        # Without the frames that the model does not look at.
        looked = [sample for sample in alone.samples_ms("infer") if sample > 0]
        infer_ms = float(np.median(looked)) if looked else 0.0
        slowdown = float(np.median(walls)) / infer_ms - 1 if infer_ms else 0.0
        return _with_work(config, measured, box.input_hw), frame.hw, box.input_hw, slowdown


def _with_work(
    config: PipelineConfig, measured: list[OperatorTime], input_hw: tuple[int, int]
) -> list[OperatorTime]:
    """Add operations and bytes from the ONNX graph; converted files keep times only."""
    if config.model.format != "onnx":
        return sorted(measured, key=lambda op: -op.wall_ms)
    from saccade.errors import ModelError
    from saccade.models.onnx_model import read_onnx
    from saccade.profile.flops import operator_work

    try:
        work = operator_work(read_onnx(config.model.path), input_hw)
    except ModelError:  # a model of fixed shape, running at another: times without work
        return sorted(measured, key=lambda op: -op.wall_ms)
    return sorted(merge_work(measured, work), key=lambda op: -op.wall_ms)


class CpuClock:
    """A clock that remembers the process's CPU time at each reading."""

    def __init__(self) -> None:
        self.cpu_at: dict[float, float] = {}

    def __call__(self) -> float:
        """Seconds, as ``time.perf_counter`` counts them."""
        now = time.perf_counter()
        self.cpu_at[now] = time.process_time()
        return now


@dataclass(frozen=True)
class _Pass:
    emissions: list[Emission]
    clock: CpuClock

    def samples_ms(self, stage: str) -> tuple[float, ...]:
        return tuple(1e3 * (e.stages[stage][1] - e.stages[stage][0]) for e in self.emissions)

    def parts(self) -> dict[str, float]:
        """Mean milliseconds per frame of each part of a stage, as ``NAME_ms``."""
        names = {name for emission in self.emissions for name in emission.stages} - set(STAGES)
        return {f"{name}_ms": float(np.mean(self.samples_ms(name))) for name in sorted(names)}

    def stages(self) -> tuple[StageTime, ...]:
        found = []
        for name in STAGES:
            samples = self.samples_ms(name)
            cpu = [
                1e3 * (self.clock.cpu_at[e.stages[name][1]] - self.clock.cpu_at[e.stages[name][0]])
                for e in self.emissions
            ]
            found.append(StageTime(name, float(np.mean(samples)), float(np.mean(cpu)), samples))
        return tuple(found)


def _spans(emissions: Iterable[Emission], thread: str) -> Iterable[Span]:
    threads = {"decode": "feeder", "preprocess": "feeder", "infer": "inference"}
    for emission in emissions:
        for name, (start, end) in emission.stages.items():
            where = thread or threads.get(name, "caller")
            yield Span(name, where, start, end, "stage", emission.index)


def _gaps_ms(emissions: list[Emission]) -> Iterable[float]:
    """Time per frame that belongs to no stage."""
    for before, after in itertools.pairwise(emissions):
        yield max(0.0, 1e3 * (after.started_s - before.emitted_s))


def _object_sizes(
    emissions: list[Emission], input_hw: tuple[int, int], frame_hw: tuple[int, int]
) -> Iterable[float]:
    scale = min(input_hw[0] / frame_hw[0], input_hw[1] / frame_hw[1])
    for emission in emissions:
        boxes = getattr(emission.result, "boxes", None)
        if boxes is None:
            continue
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        yield from (float(side) for side in scale * np.sqrt(np.maximum(areas, 0)))
