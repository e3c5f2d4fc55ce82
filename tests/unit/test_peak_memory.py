"""The peak memory of a worker is its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_system import write_video

from saccade.testing.tiny_models import tiny_config

CHILD = "from saccade.process_memory import peak_rss_mb; print(peak_rss_mb())"
KIT = "from saccade.deploy.kit.script.subject import peak_rss_mb; print(peak_rss_mb())"


def peak_of(program: str) -> float:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


def test_a_child_is_not_charged_with_its_parents_memory() -> None:
    alone = [peak_of(program) for program in (CHILD, KIT)]
    ballast = np.ones(400_000_000 // 8)  # 400 MB that are really there
    beside = [peak_of(program) for program in (CHILD, KIT)]
    assert ballast.sum() > 0
    assert all(after - before < 100 for before, after in zip(alone, beside, strict=True))


def test_what_a_process_holds_counts() -> None:
    held = f"import numpy; held = numpy.ones({400_000_000 // 8}); {CHILD}"
    assert peak_of(held) - peak_of(CHILD) > 300


def test_judging_is_not_charged_to_the_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It opens sessions for single images, which the system that is measured does not need."""
    from saccade.optimize import measuring

    marks = iter([100.0, 110.0, 150.0])
    monkeypatch.setattr(measuring, "peak_rss_mb", lambda: next(marks))
    subject = measuring.Subject(tiny_config(tmp_path), str(write_video(tmp_path / "v.mp4")))
    try:
        peaks = [subject.block(2, 1).block.peak_rss_mb for _ in range(2)]
        subject.watch(1, "selection", 0.5)
        peaks.append(subject.block(2, 1).block.peak_rss_mb)
    finally:
        subject.close()
    assert peaks == [100.0, 110.0, 110.0]
