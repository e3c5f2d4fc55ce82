from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from saccade.errors import StorageError
from saccade.profile.records import Profile, Span
from saccade.profile.trace import pipeline_trace, write_trace
from saccade.runtimes.contract import OperatorTime
from saccade.testing.planted import healthy, resources


@pytest.fixture
def profile() -> Profile:
    return replace(
        healthy(),
        spans=(
            Span("infer", "inference", 100.004, 100.010, frame=3),
            Span("decode", "feeder", 100.000, 100.004, frame=3),
            Span("warm up", "feeder", 100.012, 100.013),
        ),
        operators=(OperatorTime("c", "Conv", 2.0, "bf16", "k", 5e6), OperatorTime("a", "Add", 1.0)),
        resources=tuple(replace(s, t_s=s.t_s + 100.0) for s in resources(cpu_percent=150)),
    )


def events(profile: Profile, phase: str) -> list[dict[str, Any]]:
    return [
        event for event in pipeline_trace(profile).document()["traceEvents"] if event["ph"] == phase
    ]


def test_spans_are_microseconds_on_their_threads_with_frame_numbers(profile: Profile) -> None:
    spans = {e["name"]: e for e in events(profile, "X") if e["cat"] == "stage"}
    assert spans["decode"]["ts"] == 0
    assert spans["infer"]["ts"] == pytest.approx(4000)
    assert spans["infer"]["dur"] == pytest.approx(6000)
    assert spans["infer"]["args"] == {"frame": 3}
    assert spans["warm up"]["args"] == {}
    named = [e for e in events(profile, "M") if e["name"] == "thread_name" and e["pid"] == 1]
    pipeline = {e["tid"]: e["args"]["name"] for e in named}
    assert pipeline[spans["decode"]["tid"]] == "feeder"
    assert pipeline[spans["infer"]["tid"]] == "inference"


def test_operators_lie_end_to_end_on_a_track_of_their_own(profile: Profile) -> None:
    first, second = (e for e in events(profile, "X") if e["cat"] in ("Conv", "Add"))
    assert first["pid"] == second["pid"] != 1
    assert first["ts"] + first["dur"] == second["ts"]
    assert first["args"]["precision"] == "bf16"
    assert first["args"]["mflops"] == 5


def test_counters_cover_cpu_memory_faults_and_disk(profile: Profile) -> None:
    counters = events(profile, "C")
    assert {"CPU %", "RSS MB", "page faults", "disk read MB"} <= {e["name"] for e in counters}
    assert min(e["ts"] for e in counters) == 0
    cpu = [e["args"]["process"] for e in counters if e["name"] == "CPU %"]
    assert cpu[1:] == [150] * (len(profile.resources) - 1)


def test_every_process_and_thread_in_use_has_a_name(profile: Profile) -> None:
    named = {(e["pid"], e["tid"]) for e in events(profile, "M") if e["name"] == "thread_name"}
    assert {(e["pid"], e["tid"]) for e in events(profile, "X")} == named
    processes = {e["pid"] for e in events(profile, "M") if e["name"] == "process_name"}
    assert processes == {e["pid"] for e in events(profile, "X") + events(profile, "C")}


def test_an_empty_profile_gives_an_empty_trace() -> None:
    trace = pipeline_trace(Profile("x", "sequential", 1, 0, ())).document()
    assert trace["traceEvents"] == []
    assert trace["otherData"]["schema_version"] == 1


def test_written_trace_is_the_document(tmp_path: Path, profile: Profile) -> None:
    path = tmp_path / "trace.json"
    write_trace(path, profile)
    assert json.loads(path.read_text()) == pipeline_trace(profile).document()
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_a_storage_error(tmp_path: Path, profile: Profile) -> None:
    with pytest.raises(StorageError, match="cannot be written"):
        write_trace(tmp_path / "absent" / "trace.json", profile)
