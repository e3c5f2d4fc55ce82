"""Writes a `Profile` as one Chrome trace, which Perfetto and chrome://tracing open.

Source of the format: the "Trace Event Format" document of the Chromium project. Times are
microseconds since the first event.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from saccade.errors import StorageError
from saccade.profile.records import Profile, ResourceSample

SCHEMA_VERSION = 1

# Perfetto groups tracks by process: the pipeline's threads, one inference, the counters.
PIPELINE_PID, OPERATORS_PID, RESOURCES_PID = 1, 2, 3
PROCESS_NAMES = {
    PIPELINE_PID: "pipeline",
    OPERATORS_PID: "operators of one inference (means, slowest first)",
    RESOURCES_PID: "resources",
}
OPERATORS_TID = 1

Event = dict[str, Any]


def chrome_trace(profile: Profile) -> dict[str, Any]:
    """The trace as a JSON-ready document.

    Stage spans stand on a track per thread with their frame's number, the operators of one
    inference end to end on a track of their own, and CPU, memory, page faults and disk reads
    as counters.
    """
    origin = _origin_s(profile)
    events = [*_names(profile), *_spans(profile, origin), *_operators(profile)]
    events += _counters(profile.resources, origin)
    return {
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": {
            "schema_version": SCHEMA_VERSION,
            "config_hash": profile.config_hash,
            "execution": profile.execution,
            "frames": profile.frames,
            "profiling_overhead": profile.overhead,
        },
    }


def write_trace(path: Path, profile: Profile) -> None:
    """Write the trace to ``path``; a half-written file is never left behind.

    Raises:
        StorageError: the file cannot be written.
    """
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(json.dumps(chrome_trace(profile)), encoding="utf-8")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StorageError(
            f"The trace cannot be written to {path}: {error.strerror or error}. "
            "Free some space or choose another folder with --out."
        ) from error


def _origin_s(profile: Profile) -> float:
    starts = [span.start_s for span in profile.spans]
    starts += [sample.t_s for sample in profile.resources]
    return min(starts, default=0.0)


def _thread_ids(profile: Profile) -> dict[str, int]:
    """Thread name → track number, in the order in which the threads first appear."""
    ordered = sorted(profile.spans, key=lambda span: span.start_s)
    return {name: i for i, name in enumerate(dict.fromkeys(s.thread for s in ordered), start=1)}


def _names(profile: Profile) -> Iterator[Event]:
    present = {PIPELINE_PID: profile.spans, OPERATORS_PID: profile.operators}
    present[RESOURCES_PID] = profile.resources
    for pid, content in present.items():
        if content:
            yield _metadata("process_name", pid, 0, {"name": PROCESS_NAMES[pid]})
            yield _metadata("process_sort_index", pid, 0, {"sort_index": pid})
    for thread, tid in _thread_ids(profile).items():
        yield _metadata("thread_name", PIPELINE_PID, tid, {"name": thread})
        yield _metadata("thread_sort_index", PIPELINE_PID, tid, {"sort_index": tid})
    if profile.operators:
        yield _metadata("thread_name", OPERATORS_PID, OPERATORS_TID, {"name": "operators"})


def _metadata(name: str, pid: int, tid: int, args: dict[str, Any]) -> Event:
    return {"name": name, "ph": "M", "pid": pid, "tid": tid, "args": args}


def _spans(profile: Profile, origin_s: float) -> Iterator[Event]:
    tids = _thread_ids(profile)
    for span in profile.spans:
        yield {
            "name": span.name,
            "cat": span.category,
            "ph": "X",
            "ts": _us(span.start_s - origin_s),
            "dur": _us(span.end_s - span.start_s),
            "pid": PIPELINE_PID,
            "tid": tids[span.thread],
            "args": {"frame": span.frame} if span.frame >= 0 else {},
        }


def _operators(profile: Profile) -> Iterator[Event]:
    start_us = 0.0
    for op in profile.operators:
        duration_us = round(1e3 * op.wall_ms, 3)
        yield {
            "name": op.name,
            "cat": op.kind,
            "ph": "X",
            "ts": round(start_us, 3),
            "dur": duration_us,
            "pid": OPERATORS_PID,
            "tid": OPERATORS_TID,
            "args": {
                "kind": op.kind,
                "precision": op.precision,
                "kernel": op.kernel,
                "mflops": round(op.flops / 1e6, 3),
                "mbytes": round(op.bytes / 1e6, 3),
            },
        }
        start_us += duration_us


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


def _us(seconds: float) -> float:
    return round(seconds * 1e6, 3)
