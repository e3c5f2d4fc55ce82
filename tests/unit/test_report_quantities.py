from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade.report import quantities as q


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("throughput_fps", 91.23, "91.2 FPS"),
        ("latency_ms.p99", 0.51234, "0.512 ms"),
        ("core_ms_per_frame", 21.6, "21.6 core-ms"),
        ("peak_rss_mb", 1234.4, "1 234 MB"),
        ("map50_95", 0.41213, "0.412"),
        ("map50_95_drop", -0.00001, "0.0000"),
        ("map50_95_drop", -0.004, "−0.0040"),
        ("busy_share", 0.985, "98 %"),
        ("throughput_fps", None, "—"),
        ("throughput_fps", math.nan, "—"),
        ("throughput_fps", "fast", "—"),
        ("throughput_fps", True, "—"),
    ],
)
def test_metric_has_its_unit_and_sensible_digits(name: str, value: object, text: str) -> None:
    assert q.metric_text(name, value) == text


@pytest.mark.parametrize(
    ("name", "value", "bound", "text"),
    [
        ("throughput_fps", 59.97, 60, "59.97 FPS"),
        ("throughput_fps", 60.0, 60, "60.0 FPS"),
        ("throughput_fps", 91.2, 60, "91.2 FPS"),
        ("map50_95_drop", 0.01003, 0.01, "0.01003"),
        ("busy_share", 0.9496, 0.95, "94.96 %"),
        ("busy_share", 0.985, 0.95, "98 %"),
    ],
)
def test_a_value_never_seems_to_lie_on_the_other_side_of_its_bound(
    name: str, value: float, bound: float, text: str
) -> None:
    assert q.beside_bound(name, value, bound) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_any_finite_number_can_be_written(value: float) -> None:
    if abs(value) < 1e300:
        assert "e" not in q.digits(value)
    assert q.ratio(value).endswith("×")
    assert q.duration(value)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("decode_wall_ms", 4.6, ("decode wall", "4.60 ms")),
        ("conv_share", 0.93, ("conv share", "93 %")),
        ("gap_ms_per_frame", 11.2, ("gap", "11.2 ms/frame")),
        ("peak_gflops", 265, ("peak", "265 GFLOP/s")),
        ("threads", 8, ("threads", "8")),
        ("kernel", "jit_avx512", ("kernel", "jit_avx512")),
    ],
)
def test_evidence_reads_the_unit_from_the_name(
    name: str, value: object, expected: tuple[str, str]
) -> None:
    assert q.evidence(name, value) == expected


def test_ranges_with_a_minus_use_a_word() -> None:
    assert q.metric_interval("map50_95_drop", [-0.004, 0.006]) == "−0.0040 to 0.0060"
    assert q.metric_interval("throughput_fps", [88.1, 94]) == "88.1–94.0 FPS"
    assert q.metric_interval("throughput_fps", [88.1]) == ""


def test_durations() -> None:
    assert q.duration(287.2) == "4 min 47 s"
    assert q.duration(59.9) == "60 s"
    assert q.duration(8.14) == "8.1 s"
    assert q.duration(7322) == "2 h 2 min"
