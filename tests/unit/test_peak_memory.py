"""The peak memory of a worker is its own."""

from __future__ import annotations

import subprocess
import sys

import numpy as np

CHILD = "from saccade.optimize.measuring import peak_rss_mb; print(peak_rss_mb())"
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
