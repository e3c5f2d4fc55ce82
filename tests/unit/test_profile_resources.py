from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from saccade.profile.resources import (
    ProcessCounters,
    RawCounters,
    ResourceSampler,
    to_samples,
)
from saccade.testing.fake_clock import FakeClock

START = RawCounters(10.0, 5.0, 100.0, 200.0, 50.0, 1000, 7, 4_000_000, 0.5, 3, 90, 1.0)


def test_rates_since_the_last_and_totals_since_the_first_sample() -> None:
    second = replace(
        START,
        t_s=10.5,
        cpu_s=5.75,
        machine_busy_s=100.8,
        machine_total_s=201.0,
        minor_faults=1010,
        major_faults=8,
        read_bytes=6_500_000,
        io_wait_s=0.6,
        involuntary_switches=95,
        runqueue_wait_s=1.2,
    )
    first, last = to_samples([START, second])
    assert (first.cpu_percent, first.read_mb, first.minor_faults) == (0.0, 0.0, 0)
    assert last.cpu_percent == pytest.approx(150)
    assert last.machine_busy == pytest.approx(0.8)
    assert (last.minor_faults, last.major_faults, last.involuntary_switches) == (10, 1, 5)
    assert last.read_mb == pytest.approx(2.5)
    assert last.io_wait_s == pytest.approx(0.1)
    assert last.runqueue_wait_s == pytest.approx(0.2)


def test_machine_busy_is_held_while_ticks_stand_still() -> None:
    busy = replace(START, t_s=10.1, machine_busy_s=100.1, machine_total_s=200.2)
    still = replace(busy, t_s=10.101)
    assert [s.machine_busy for s in to_samples([START, busy, still])][1:] == pytest.approx(
        [0.5] * 2
    )


def test_waits_do_not_fall_when_a_thread_ends() -> None:
    waited = replace(START, t_s=11.0, runqueue_wait_s=3.0, io_wait_s=2.0)
    ended = replace(START, t_s=12.0, runqueue_wait_s=0.2, io_wait_s=0.1)
    last = to_samples([START, waited, ended])[-1]
    assert (last.runqueue_wait_s, last.io_wait_s) == (2.0, 1.5)


def test_no_samples_give_none() -> None:
    assert to_samples([]) == ()


def test_sampler_takes_a_sample_on_entering_and_on_leaving() -> None:
    clock = FakeClock(start_s=3.0)

    def source(t_s: float) -> RawCounters:
        return replace(START, t_s=t_s, cpu_s=t_s)

    with ResourceSampler(interval_s=3600, clock=clock, source=source) as sampler:
        clock.advance(2.0)
    samples = sampler.samples
    assert [s.t_s for s in samples] == [3.0, 5.0]
    assert samples[-1].cpu_percent == pytest.approx(100)


def test_a_senseless_interval_is_refused() -> None:
    with pytest.raises(ValueError, match="more than zero"):
        ResourceSampler(interval_s=0)


def test_real_counters_see_memory_being_touched() -> None:
    counters = ProcessCounters()
    before = counters(0.0)
    touched = np.ones(8_000_000, np.float64)
    after = counters(1.0)
    assert after.rss_mb - before.rss_mb > 40
    assert after.minor_faults > before.minor_faults
    assert after.cpu_s > before.cpu_s
    assert after.threads >= 1
    assert after.machine_total_s >= before.machine_total_s > 0
    assert touched[-1] == 1


def test_proc_files_are_read_whatever_the_command_is_called(tmp_path: Path) -> None:
    fields = ["S"] + ["0"] * 38 + ["250", "0", "0"]
    for task in ("1", "2"):
        folder = tmp_path / "task" / task
        folder.mkdir(parents=True)
        (folder / "stat").write_text(f"{task} (odd ) name) {' '.join(fields)}\n")
        (folder / "schedstat").write_text("5 1500000000 3\n")
    (tmp_path / "io").write_text("rchar: 9\nread_bytes: 4096\n")
    counters = ProcessCounters(tmp_path)
    seen = counters(0.0)
    assert seen.threads == 2
    assert seen.runqueue_wait_s == 3.0
    assert seen.read_bytes == 4096
    assert seen.io_wait_s == pytest.approx(500 / counters._tick_hz)


def test_without_proc_there_are_no_waits_and_still_counters(tmp_path: Path) -> None:
    seen = ProcessCounters(tmp_path / "absent")(0.0)
    assert (seen.io_wait_s, seen.runqueue_wait_s) == (0.0, 0.0)
    assert seen.threads >= 1
    assert seen.rss_mb > 0
