"""Writes what was watched as one Chrome trace, which Perfetto and chrome://tracing open.

Source of the format: the "Trace Event Format" document of the Chromium project. Times are
microseconds since the first event.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from saccade.errors import StorageError
from saccade.profile.records import Profile, ResourceSample, Span
from saccade.runtimes.contract import OperatorTime

SCHEMA_VERSION = 1

# Perfetto groups tracks by process: the system's threads, its operators, the counters.
PIPELINE_PID, OPERATORS_PID, RESOURCES_PID = 1, 2, 3
PIPELINE_NAMES = {
    PIPELINE_PID: "pipeline",
    OPERATORS_PID: "operators of one inference (means, slowest first)",
    RESOURCES_PID: "resources",
}

Event = dict[str, Any]


@dataclass(frozen=True)
class Trace:
    """What a trace shows, of a pipeline or of a training.

    Attributes:
        names: titles of the three groups of tracks.
        unit: what the number of a span counts, ``"frame"`` or ``"step"``.
        spans: a track per thread.
        operators: likewise, in a group of their own, seconds since its beginning.
        resources: as counters.
        gpu: moments and shares 0-1 that a GPU was busy, as a counter.
        about: stands with the trace.
    """

    names: Mapping[int, str]
    unit: str
    spans: tuple[Span, ...] = ()
    operators: tuple[Span, ...] = ()
    resources: tuple[ResourceSample, ...] = ()
    gpu: tuple[tuple[float, float], ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """The trace as a JSON-ready document."""
        origin = self._origin_s()
        events = [
            *self._names(),
            *_spans(self.spans, PIPELINE_PID, origin, self.unit),
            *_spans(self.operators, OPERATORS_PID, 0.0, self.unit),
            *_counters(self.resources, origin),
            *_gpu_counters(self.gpu, origin),
        ]
        return {
            "traceEvents": events,
            "displayTimeUnit": "ms",
            "otherData": {"schema_version": SCHEMA_VERSION, **self.about},
        }

    def write(self, path: Path) -> None:
        """Write the trace to ``path``; a half-written file is never left behind.

        Raises:
            StorageError: the file cannot be written.
        """
        part = path.with_name(path.name + ".part")
        try:
            part.write_text(json.dumps(self.document()), encoding="utf-8")
            part.replace(path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise StorageError(
                f"The trace cannot be written to {path}: {error.strerror or error}. "
                "Free some space or choose another folder with --out."
            ) from error

    def _origin_s(self) -> float:
        starts = [span.start_s for span in self.spans]
        starts += [sample.t_s for sample in self.resources]
        return min(starts, default=0.0)

    def _names(self) -> Iterator[Event]:
        counted = (*self.resources, *self.gpu)
        present = {PIPELINE_PID: self.spans, OPERATORS_PID: self.operators}
        for pid, content in {**present, RESOURCES_PID: counted}.items():
            if content:
                yield _metadata("process_name", pid, 0, {"name": self.names[pid]})
                yield _metadata("process_sort_index", pid, 0, {"sort_index": pid})
        for pid, spans in present.items():
            for thread, tid in _thread_ids(spans).items():
                yield _metadata("thread_name", pid, tid, {"name": thread})
                yield _metadata("thread_sort_index", pid, tid, {"sort_index": tid})


def pipeline_trace(profile: Profile) -> Trace:
    """What a pipeline's profile shows.

    Stage spans with their frame's number, the operators of one inference end to end, and CPU,
    memory, page faults and disk reads as counters.
    """
    return Trace(
        names=PIPELINE_NAMES,
        unit="frame",
        spans=profile.spans,
        operators=end_to_end(profile.operators),
        resources=profile.resources,
        about={
            "config_hash": profile.config_hash,
            "execution": profile.execution,
            "frames": profile.frames,
            "profiling_overhead": profile.overhead,
        },
    )


def write_trace(path: Path, profile: Profile) -> None:
    """Write the trace of a pipeline's profile.

    Raises:
        StorageError: the file cannot be written.
    """
    pipeline_trace(profile).write(path)


def end_to_end(operators: tuple[OperatorTime, ...]) -> tuple[Span, ...]:
    """Mean times of operators as spans, one after the other."""
    spans, start_s = [], 0.0
    for op in operators:
        details = {
            "kind": op.kind,
            "precision": op.precision,
            "kernel": op.kernel,
            "mflops": round(op.flops / 1e6, 3),
            "mbytes": round(op.bytes / 1e6, 3),
        }
        end_s = start_s + op.wall_ms / 1e3
        spans.append(Span(op.name, "operators", start_s, end_s, op.kind, details=details))
        start_s = end_s
    return tuple(spans)


def _thread_ids(spans: tuple[Span, ...]) -> dict[str, int]:
    """Thread name → track number, in the order in which the threads first appear."""
    ordered = sorted(spans, key=lambda span: span.start_s)
    return {name: i for i, name in enumerate(dict.fromkeys(s.thread for s in ordered), start=1)}


def _metadata(name: str, pid: int, tid: int, args: dict[str, Any]) -> Event:
    return {"name": name, "ph": "M", "pid": pid, "tid": tid, "args": args}


def _spans(spans: tuple[Span, ...], pid: int, origin_s: float, unit: str) -> Iterator[Event]:
    tids = _thread_ids(spans)
    for span in spans:
        start_us, end_us = _us(span.start_s - origin_s), _us(span.end_s - origin_s)
        number = {unit: span.frame} if span.frame >= 0 else {}
        yield {
            "name": span.name,
            "cat": span.category,
            "ph": "X",
            "ts": start_us,
            "dur": round(end_us - start_us, 3),
            "pid": pid,
            "tid": tids[span.thread],
            "args": {**number, **span.details},
        }


def _counters(samples: tuple[ResourceSample, ...], origin_s: float) -> Iterator[Event]:
    for sample in samples:
        series: dict[str, dict[str, float]] = {
            "CPU %": {"process": sample.cpu_percent},
            "machine busy %": {"usable cores": 100 * sample.machine_busy},
            "RSS MB": {"resident": sample.rss_mb},
            "page faults": {"minor": sample.minor_faults, "major": sample.major_faults},
            "disk read MB": {"read": sample.read_mb},
            "threads": {"threads": sample.threads},
        }
        for name, values in series.items():
            yield {
                "name": name,
                "ph": "C",
                "ts": _us(sample.t_s - origin_s),
                "pid": RESOURCES_PID,
                "args": {key: round(value, 3) for key, value in values.items()},
            }


def _gpu_counters(gpu: tuple[tuple[float, float], ...], origin_s: float) -> Iterator[Event]:
    for t_s, share in gpu:
        ts, args = _us(t_s - origin_s), {"busy": round(100 * share, 1)}
        yield {"name": "GPU %", "ph": "C", "ts": ts, "pid": RESOURCES_PID, "args": args}


def _us(seconds: float) -> float:
    return round(seconds * 1e6, 3)
