"""Raw samples. Statistics are derived from them (`saccade.statistics`), never stored instead."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

STAGES = ("decode", "preprocess", "infer", "postprocess")


@dataclass(frozen=True)
class Block:
    """One uninterrupted run of one configuration over consecutive frames.

    Attributes:
        emitted_s: when each measured frame's result came out, seconds since the block began,
            ascending; the first entry opens the window (it is not itself a sample).
        latency_ms: per measured frame, from the start of its decode to its result.
        cpu_s: process CPU seconds spent inside the window.
        busy_share: share of the usable cores' time that the whole machine was busy in the window.
        stage_ms: stage name → wall milliseconds per frame (empty where stages overlap unobserved).
        peak_rss_mb: highest resident memory of the process so far.
        warmup_s: emission times before the window, kept apart.
        looks: measured frames by how they were looked at, see `saccade.looks`; empty where the
            resolution is not dynamic.
    """

    emitted_s: tuple[float, ...]
    latency_ms: tuple[float, ...]
    cpu_s: float
    busy_share: float
    stage_ms: dict[str, tuple[float, ...]]
    peak_rss_mb: float
    warmup_s: tuple[float, ...] = ()
    looks: dict[str, int] = field(default_factory=dict)

    @property
    def frames(self) -> int:
        """Number of measured frames."""
        return len(self.emitted_s) - 1

    @property
    def wall_s(self) -> float:
        """Length of the window in seconds."""
        return self.emitted_s[-1] - self.emitted_s[0]

    @property
    def fps(self) -> float:
        """Frames per second over the window."""
        return self.frames / self.wall_s

    @property
    def core_ms_per_frame(self) -> float:
        """CPU milliseconds spent per frame, all cores together."""
        return 1e3 * self.cpu_s / self.frames


@dataclass(frozen=True)
class Measurement:
    """All blocks measured for one configuration in one environment.

    Attributes:
        config_hash: content hash of the configuration.
        environment_hash: two measurements compare only if these agree.
        blocks: in the order in which they ran.
        model_mb: size of the model files on disk.
    """

    config_hash: str
    environment_hash: str
    blocks: tuple[Block, ...] = ()
    model_mb: float = 0.0
    unit: str = "ms"
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def latencies_ms(self) -> tuple[float, ...]:
        """Latency samples of all blocks, in order."""
        return tuple(value for block in self.blocks for value in block.latency_ms)
