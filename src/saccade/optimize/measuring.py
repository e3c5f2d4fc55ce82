"""Runs one configuration in this process and measures it. Used inside worker processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import psutil

from saccade import plugins
from saccade.data.contract import DataProblem, Dataset
from saccade.data.frame_roles import OFFSETS, STEP, Role, runs
from saccade.data.video import is_live, probe_video
from saccade.looks import counted
from saccade.measurement import STAGES, Block
from saccade.pipeline.config import PipelineConfig
from saccade.pipeline.engine import Emission
from saccade.pipeline.pipeline import Pipeline
from saccade.pipeline.reel import Excerpts
from saccade.process_memory import peak_rss_mb


@dataclass(frozen=True)
class BlockReply:
    """A measured block.

    Attributes:
        block: the samples.
        problems: what was wrong with the source so far.
    """

    block: Block
    problems: tuple[DataProblem, ...]


class Subject:
    """One configuration on one source, measured block by block.

    Each block begins with nothing under way and leaves nothing under way, so that what is prepared
    for it neither counts for nothing nor takes time from another subject's block. Two subjects
    that are measured in turns see the same frames where they are asked for the same.

    Peak memory is that of the stream. Judging opens sessions that a stream does not need, and a
    process's high-water mark cannot be taken back, so from then on the mark before it stands.
    """

    def __init__(self, config: PipelineConfig, source: str) -> None:
        self.config = config
        self._hold(source, Pipeline(config), plugins.load("tasks", config.task).collect)

    def _hold(self, source: str, pipeline: Any, collect: Callable[[Sequence[Any]], Any]) -> None:
        """Stand before the first frame of ``source``, not yet judged."""
        self._source, self._pipeline, self._collect = source, pipeline, collect
        self._excerpts: Excerpts | None = None
        self._peak_rss_mb = 0.0
        self._judged = False

    def block(self, frames: int, warmup: int, at: int | None = None) -> BlockReply:
        """Measure ``frames`` frames after ``warmup`` frames that are kept apart.

        Args:
            frames: measured.
            warmup: before them; as many as are under way at a time bring the stream to its pace.
            at: where the measured ones begin in the source, which starts again when it ends.
                Without, and where the source is live, the stream goes on.
        """
        if self._excerpts is None:
            self._excerpts = self._pipeline.excerpts(self._source)
        # Behind the last measured frame as many are under way as were behind the first.
        behind, warmup = self.config.frames_ahead, max(1, warmup)
        start = None if at is None or is_live(self._source) else max(0, at - warmup)
        stream = self._excerpts(start, warmup + frames + behind)
        began = time.perf_counter()
        warm = [emission.emitted_s - began for emission in islice(stream, warmup)]
        busy, cpu = _machine_cpu(), time.process_time()
        opened = time.perf_counter()
        measured = list(islice(stream, frames))
        closed = time.perf_counter()
        block = Block(
            emitted_s=(
                opened - began,
                *(e.emitted_s - began for e in measured[:-1]),
                closed - began,
            ),
            latency_ms=tuple(1e3 * (e.emitted_s - e.started_s) for e in measured),
            cpu_s=time.process_time() - cpu,
            busy_share=_busy_share(busy, _machine_cpu()),
            stage_ms=stage_times(measured),
            peak_rss_mb=self._stream_peak_mb(),
            warmup_s=tuple(warm),
            looks=counted(emission.look for emission in measured),
        )
        for _ in stream:
            pass
        return BlockReply(block, tuple(self._pipeline.problems))

    def _stream_peak_mb(self) -> float:
        if not self._judged:
            self._peak_rss_mb = peak_rss_mb()
        return self._peak_rss_mb

    def judge(self, dataset: Dataset, score_threshold: float) -> Any:
        """Results on every image of a dataset, through the path the stream takes."""
        self._judged = True
        return self._collect(list(self._pipeline.judge_images(dataset.images, score_threshold)))

    def watch(self, count: int, role: Role, score_threshold: float) -> Any:
        """Results on frames of the source that serve ``role``.

        They are ``count`` at most; for what depends on the order of frames, a run of them.
        """
        self._judged = True
        if self.config.tracker is not None:
            run = role_run(self._source, role)
            clip = self._pipeline.judge_clip(self._source, run.start, run.stop)
            return self._collect(list(clip))
        found = self._pipeline.judge_frames(
            self._source, count, STEP, score_threshold, OFFSETS[role]
        )
        return self._collect(list(found))

    def close(self) -> None:
        """Release the sessions."""
        self._excerpts = None
        self._pipeline.close()


def role_run(source: str, role: Role) -> range:
    """The frames in a row that serve ``role`` in a source."""
    video = not is_live(source) and not Path(source).is_dir()
    return runs(probe_video(source).frames if video else None)[role]


def stage_times(emissions: list[Emission]) -> dict[str, tuple[float, ...]]:
    """Wall milliseconds per frame of each stage."""
    return {
        name: tuple(1e3 * (e.stages[name][1] - e.stages[name][0]) for e in emissions)
        for name in STAGES
    }


def _machine_cpu() -> tuple[float, float]:
    """Busy and total seconds of the cores this process may use."""
    times = psutil.cpu_times(percpu=True)
    usable = psutil.Process().cpu_affinity() if hasattr(psutil.Process, "cpu_affinity") else None
    chosen = [t for i, t in enumerate(times) if usable is None or i in usable]
    total = sum(sum(t) - getattr(t, "guest", 0) - getattr(t, "guest_nice", 0) for t in chosen)
    idle = sum(t.idle + getattr(t, "iowait", 0) for t in chosen)
    return total - idle, total


def _busy_share(before: tuple[float, float], after: tuple[float, float]) -> float:
    total = after[1] - before[1]
    return (after[0] - before[0]) / total if total > 0 else 0.0
