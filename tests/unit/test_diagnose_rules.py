from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from saccade import plugins
from saccade.diagnose.diagnose import attainable_gain, diagnose, findings_document
from saccade.diagnose.io_bound import read_decode_correlation, storage_wait_ms
from saccade.diagnose.records import Finding
from saccade.diagnose.resolution_overkill import padding_share
from saccade.profile.records import Profile, Roofline
from saccade.testing.planted import (
    PLANTED,
    convolutions,
    decode_spans,
    healthy,
    planted,
    resources,
    stages,
)

RULES = plugins.names("rules")


def find(rule: str, profile: Profile) -> Finding | None:
    found: Finding | None = plugins.load("rules", rule)(profile)
    return found


def must_find(rule: str, profile: Profile) -> Finding:
    found = find(rule, profile)
    assert found is not None
    return found


def test_every_rule_has_a_planted_system() -> None:
    assert set(PLANTED) == set(plugins.TABLE["rules"])


def test_a_healthy_system_has_no_findings() -> None:
    assert diagnose(healthy()) == ()


@pytest.mark.parametrize("rule", list(PLANTED))
def test_the_planted_bottleneck_is_the_first_finding(rule: str) -> None:
    first = diagnose(planted(rule))[0]
    assert first.name == rule
    assert first.max_gain_pipelined > 1.5
    assert 0 < first.share <= 1
    assert first.title.endswith(".")
    assert all(math.isfinite(value) for value in first.evidence.values())


@pytest.mark.parametrize("rule", list(PLANTED))
def test_hints_are_optimizations_of_the_table(rule: str) -> None:
    hints = diagnose(planted(rule))[0].hints
    assert hints
    assert set(hints) <= set(plugins.TABLE["optimizations"])


@pytest.mark.parametrize("rule", RULES)
def test_a_profile_without_anything_raises_nothing_and_finds_nothing(rule: str) -> None:
    assert find(rule, Profile("empty", "sequential", 2, 0, ())) is None


@pytest.mark.parametrize("rule", list(PLANTED))
def test_findings_are_sorted_by_what_can_be_gained_now(rule: str) -> None:
    profile = planted(rule)
    gains = [attainable_gain(finding, profile) for finding in diagnose(profile)]
    assert gains == sorted(gains, reverse=True)


def test_stage_bounds_are_those_of_the_cost_model() -> None:
    found = must_find("decode_bound", planted("decode_bound"))
    assert found.share == pytest.approx(30 / 40.5)
    assert found.max_gain_sequential == pytest.approx(40.5 / 10.5)
    # Overlapped and without decode, all that remains is 18.5 ms of work on two cores.
    assert found.max_gain_pipelined == pytest.approx(40.5 / 9.25)


def test_a_stage_hidden_behind_a_slower_one_is_not_named() -> None:
    base = replace(healthy(), extra={})
    slow_infer = replace(base, stages=stages(decode=(8, 8), infer=(20, 20)))
    assert find("decode_bound", slow_infer) is None
    assert find("decode_bound", replace(slow_infer, execution="sequential")) is not None


def test_compute_bound_states_what_lower_precision_offers() -> None:
    found = must_find("compute_bound", planted("compute_bound"))
    assert found.evidence["attained_gflops"] == pytest.approx(250)
    assert found.evidence["share_of_peak"] == pytest.approx(250 / 300)
    assert found.evidence["headroom_bf16"] == pytest.approx(8)
    assert found.hints[:2] == ("bf16", "int8")
    assert "runtime" not in found.hints


def test_poor_kernels_point_at_the_runtime() -> None:
    slow = replace(planted("compute_bound"), operators=convolutions(10, 19.5, 60, "fp32"))
    assert "runtime" in must_find("compute_bound", slow).hints


def test_no_headroom_no_compute_finding() -> None:
    only_fp32 = replace(planted("compute_bound"), roofline=Roofline({"fp32": 255.0}, 25.0))
    assert find("compute_bound", only_fp32) is None
    assert find("compute_bound", replace(planted("compute_bound"), roofline=None)) is None


def test_slow_copies_below_the_bandwidth_are_not_memory_bound() -> None:
    profile = planted("memory_bandwidth_bound")
    lazy = tuple(replace(op, bytes=op.bytes / 10) for op in profile.operators)
    assert find("memory_bandwidth_bound", replace(profile, operators=lazy)) is None


def test_waiting_without_reading_is_not_the_disk() -> None:
    camera = replace(planted("io_bound"), resources=resources(cpu_percent=60))
    assert storage_wait_ms(camera) == 0
    assert find("io_bound", camera) is None
    assert diagnose(camera)[0].name == "decode_bound"


def test_reading_without_waiting_is_not_the_disk_either() -> None:
    busy = planted("decode_bound")
    reading = replace(busy, resources=resources(cpu_percent=100, read_mb_per_sample=5))
    assert find("io_bound", reading) is None


def test_major_faults_count_as_reading() -> None:
    profile = planted("io_bound")
    faults = tuple(
        replace(s, read_mb=0.0, major_faults=10 * i) for i, s in enumerate(profile.resources)
    )
    assert must_find("io_bound", replace(profile, resources=faults)).evidence["waiting_ms"] == 26


def test_reads_and_decode_times_are_correlated() -> None:
    bursts = [5.0 if i % 4 == 0 else 0.1 for i in range(20)]
    total = 0.0
    samples = [resources(cpu_percent=50)[0]]
    for sample, burst in zip(resources(cpu_percent=50)[1:], bursts, strict=True):
        total += burst
        samples.append(replace(sample, read_mb=total))
    spans = decode_spans([8 * burst for burst in bursts], every_s=0.05)
    profile = replace(planted("io_bound"), resources=tuple(samples), spans=spans)
    assert read_decode_correlation(profile) == pytest.approx(1.0)
    even = replace(profile, resources=resources(cpu_percent=50, read_mb_per_sample=0))
    assert read_decode_correlation(even) is None


def test_serialized_stages_report_core_use_by_stage() -> None:
    found = must_find("serialized_stages", planted("serialized_stages"))
    assert found.evidence["idle_share"] == pytest.approx(0.75)
    assert found.evidence["decode_cores_used"] == 1
    assert found.evidence["machine_busy"] == pytest.approx(0.5)
    assert (found.max_gain_sequential, found.max_gain_pipelined) == (1.0, pytest.approx(2.0))


@pytest.mark.parametrize("change", [{"execution": "overlapped"}, {"cores": 1}])
def test_nothing_to_overlap(change: dict[str, object]) -> None:
    assert find("serialized_stages", replace(planted("serialized_stages"), **change)) is None


def test_full_cores_leave_nothing_to_overlap() -> None:
    full = stages(decode=(10, 20), infer=(10, 20))
    profile = replace(planted("serialized_stages"), stages=full, cores=2)
    assert find("serialized_stages", profile) is None


def test_surplus_threads_that_sleep_are_no_bottleneck() -> None:
    quiet = replace(planted("thread_oversubscription"), resources=resources(cpu_percent=100))
    assert find("thread_oversubscription", quiet) is None


def test_surplus_threads_are_enough_where_nothing_was_sampled() -> None:
    blind = replace(planted("thread_oversubscription"), resources=())
    found = must_find("thread_oversubscription", blind)
    assert found.evidence["runtime_threads"] == 16
    assert "queueing" not in found.title


def test_queueing_behind_other_processes_is_not_our_oversubscription() -> None:
    crowded = planted("thread_oversubscription")
    others = resources(cpu_percent=80, switches_per_s=4000, queued_share=0.6)
    assert (
        find("thread_oversubscription", replace(crowded, runtime_threads=2, resources=others))
        is None
    )


def test_default_threads_that_crowd_the_cores_are_named() -> None:
    crowded = replace(planted("thread_oversubscription"), runtime_threads=None)
    assert must_find("thread_oversubscription", crowded).evidence["queued_share"] > 0.5


def test_padding_alone_points_at_the_letterbox_and_large_objects_at_the_resolution() -> None:
    profile = planted("resolution_overkill")
    assert padding_share(profile) == pytest.approx(1 - 9 / 16)
    small = replace(profile, object_sizes_px=tuple(float(i) for i in range(60)))
    assert must_find("resolution_overkill", small).hints == ("rect_letterbox",)
    tight = replace(profile, input_hw=(384, 640))
    assert must_find("resolution_overkill", tight).hints == ("resolution",)


def test_few_objects_do_not_decide_the_resolution() -> None:
    tight = replace(planted("resolution_overkill"), input_hw=(384, 640))
    assert find("resolution_overkill", replace(tight, object_sizes_px=(200.0,) * 5)) is None


def test_framework_overhead_adds_gaps_rest_and_tiny_operators() -> None:
    found = must_find("framework_overhead", planted("framework_overhead"))
    assert found.evidence["gap_ms"] == pytest.approx(8)
    assert found.evidence["unaccounted_infer_ms"] == pytest.approx(12 - 2 - 3.6)
    assert found.evidence["tiny_operators"] == 300
    assert found.max_gain_sequential == pytest.approx(23.5 / 5.5)


def test_waiting_for_a_core_that_others_hold_is_not_framework_overhead() -> None:
    others = resources(cpu_percent=80, queued_share=0.6)
    crowded = replace(planted("framework_overhead"), resources=others)
    assert find("framework_overhead", crowded) is None


def test_an_overlapped_system_is_not_credited_with_more_streams() -> None:
    base = replace(healthy(), extra={}, stages=stages(decode=(4, 4), infer=(20, 20)))
    assert find("resolution_overkill", base) is None
    padded = replace(base, input_hw=(640, 640))
    found = must_find("resolution_overkill", padded)
    assert found.max_gain_pipelined == pytest.approx(16 / 9)


def test_without_operators_the_inside_of_inference_is_not_blamed() -> None:
    blind = replace(planted("framework_overhead"), operators=(), gaps_ms=())
    assert find("framework_overhead", blind) is None


def test_document_is_json_and_finite_even_when_one_stage_is_everything() -> None:
    alone = replace(planted("decode_bound"), stages=stages(decode=(30, 30)), operators=())
    document = findings_document(diagnose(alone))
    text = json.dumps(document, allow_nan=False)
    assert json.loads(text)["schema_version"] == 1
    assert document["findings"][0]["name"] == "decode_bound"
    assert document["findings"][0]["hints"]
