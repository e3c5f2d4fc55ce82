"""Resident memory over one long stream of the bundle, in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import psutil

import saccade
from benchmarks.setting import Setting, note
from benchmarks.table import Row
from saccade.optimize.worker import Worker

SAMPLE_EVERY = 50
TIMEOUT_S = 1800.0
# Of what is resident when the stream has settled. Less than this is the allocator at work.
GROWTH_BAR = 1.0

Sample = tuple[int, float]


def measure(setting: Setting) -> list[Row]:
    """Stream one video of many frames and watch the process."""
    frames, settled = setting.sizes.stream_frames, setting.sizes.settled_frame
    setting.folder.mkdir(parents=True, exist_ok=True)
    video = setting.folder / "long.mp4"
    bundle = setting.bundle()
    note(f"memory over {frames} frames")
    try:
        lengthen(setting.inputs.video, frames, video)
        with Worker("benchmarks.memory:Streamer", (str(bundle), str(video))) as worker:
            samples: list[Sample] = worker.call("run", frames, timeout_s=TIMEOUT_S)
    finally:
        video.unlink(missing_ok=True)
    return growth_rows([s for s in samples if s[0] >= settled], samples[-1][0])


def growth_rows(samples: list[Sample], frames: int) -> list[Row]:
    """Growth between the first and the last tenth, and the slope of a robust line."""
    from scipy.stats import theilslopes

    at, resident = np.asarray(samples, np.float64).T
    tenth = max(1, len(samples) // 10)
    before, after = float(np.median(resident[:tenth])), float(np.median(resident[-tenth:]))
    slope, _, low, high = (float(v) for v in theilslopes(resident, at / 1000))
    return [
        Row(
            f"memory growth, frame {at[0]:.0f} to {at[-1]:.0f}",
            100 * (after - before) / before,
            unit="%",
            bar=GROWTH_BAR,
            at_least=False,
            detail=f"{before:.1f} -> {after:.1f} MB resident, highest {resident.max():.1f} MB, "
            f"{frames} frames; {slope:+.3f} [{low:+.3f}, {high:+.3f}] MB per 1000 frames",
        )
    ]


class Streamer:
    """Streams a bundle the way a user does; lives in a worker."""

    def __init__(self, bundle: str, video: str) -> None:
        self._pipeline = saccade.load(bundle)
        self._video = video

    def run(self, frames: int) -> list[Sample]:
        """Resident megabytes every `SAMPLE_EVERY` frames."""
        process = psutil.Process()
        samples = []
        for index, _ in enumerate(self._pipeline.stream(self._video), start=1):
            if index % SAMPLE_EVERY == 0:
                samples.append((index, process.memory_info().rss / 1e6))
            if index >= frames:
                break
        return samples


def lengthen(source: Path, frames: int, target: Path) -> None:
    """Join a video to itself, packet by packet and without encoding, to ``frames`` or more."""
    import av

    with av.open(str(target), "w") as out:
        with av.open(str(source)) as first:
            stream = out.add_stream_from_template(first.streams.video[0])
        for packet in _again_and_again(source, frames):
            packet.stream = stream
            out.mux(packet)


def _again_and_again(source: Path, frames: int) -> Iterator[Any]:
    """Packets of the video, over and over, with times that go on."""
    import av

    count, shift = 0, 0
    while count < frames:
        with av.open(str(source)) as container:
            video = container.streams.video[0]
            rate, base = video.average_rate, video.time_base
            assert rate is not None and base is not None
            packets = [p for p in container.demux(video) if p.dts is not None and p.size]
            for packet in packets:
                packet.pts = (packet.pts or 0) + shift
                packet.dts = (packet.dts or 0) + shift
                yield packet
            count += len(packets)
            shift += round(len(packets) / Fraction(rate) / base)
