"""What the benchmarks' table says of figures: planted results, no measuring."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks import quantizers, run, unet, unet_gpu
from benchmarks.table import Row

from saccade.statistics import Interval, RatioEstimate

FASTER = RatioEstimate(1.4, Interval(1.3, 1.5, 0.95), 10)


@pytest.mark.parametrize("name", run.FIGURES)
def test_every_figure_can_be_measured(name: str) -> None:
    """A name that a module of the package no longer has would only show when it is run."""
    assert callable(importlib.import_module(f"benchmarks.{name}").measure)


def result(**changes: Any) -> dict[str, Any]:
    """A training's result as far as the rows read it."""
    plain = {
        "baseline": {"metrics": {"samples_per_s": 2.0, "device_busy_share": 0.6}},
        "best": None,
        "interactions": [],
        "drift": None,
        "kept": [],
    }
    return {**plain, **changes}


def best(busy: float, shares: list[float]) -> dict[str, Any]:
    return {
        "metrics": {"samples_per_s": 8.0, "device_busy_share": busy},
        "resources": {"device_busy_share": shares},
        "speedup": {"value": 4.0, "interval": [3.8, 4.2]},
        "changes": ["autocast bf16"],
    }


def kept(predicted: float, achieved: float | None) -> dict[str, Any]:
    return {
        "change": "autocast bf16",
        "predicted_gain": predicted,
        "achieved_gain": achieved,
        "prediction_basis": "peaks",
    }


@pytest.mark.parametrize(("drop", "reached"), [(0.0, "yes"), (0.01, "yes"), (0.011, "no")])
def test_faster_than_a_rival_counts_only_within_the_bound(drop: float, reached: str) -> None:
    row = quantizers.row_of("NNCF", FASTER, drop, "1.00 ms against 1.40 ms")
    assert row.reached == reached
    assert ("which does not count: ours lost 0.011" in row.detail) == (reached == "no")


def test_slower_than_a_rival_is_not_reached() -> None:
    slower = RatioEstimate(0.8, Interval(0.7, 0.9, 0.95), 10)
    assert quantizers.row_of("NNCF", slower, 0.0, "").reached == "no"


def test_a_training_that_kept_nothing_has_rows() -> None:
    ratio, drift, pair = unet._rows(result())
    assert (ratio.measured, ratio.reached) == (None, "no")
    assert ratio.detail.endswith("nothing was kept")
    assert drift.reached == "no"
    assert "was not measured" in pair.detail


def test_the_gpus_figures_are_judged_one_by_one() -> None:
    found = result(best=best(0.97, [0.96, 0.98]), kept=[kept(2.0, 1.8), kept(3.0, 1.5)])
    busy, ratio, near, far = unet_gpu.rows_of(found)
    assert [row.reached for row in (busy, ratio, near, far)] == ["yes", "yes", "yes", "no"]
    assert far.measured == pytest.approx(1.0)
    assert busy.detail == "before: 0.60"


def test_a_gpu_that_idles_or_was_not_watched_is_not_reached() -> None:
    idle = unet_gpu.rows_of(result(best=best(0.80, [0.78, 0.82]), kept=[kept(2.0, None)]))
    assert [row.reached for row in idle] == ["no", "yes", "no"]
    assert "achieved not measured" in idle[2].detail
    assert [row.reached for row in unet_gpu.rows_of(result())] == ["no", "no", "no"]


def test_without_a_gpu_its_figures_say_so_and_count_for_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unet_gpu, "_has_gpu", lambda: False)
    rows = unet_gpu.measure(None)  # type: ignore[arg-type]
    assert {(row.detail, row.reached) for row in rows} == {("no GPU here", "-")}
    assert {row.bar for row in rows} == {0.95, 3.0, 0.25}
    assert "unet_gpu" in run.FIGURES


def test_a_figure_that_failed_is_not_reached() -> None:
    assert Row("x", None, detail="failed").reached == "no"
