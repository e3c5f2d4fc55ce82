"""Compare two systems: what each was measured at, and which is faster here and now.

    python examples/optimize_detector.py                      # leaves runs/example
    python examples/compare_runs.py                           # its bundle against its baseline
    python examples/compare_runs.py runs/one runs/other --video street.mp4

Figures from two runs do not compare: the machine may have been busier in one of them. A race does,
since both run in turns within the same minute.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import saccade
from saccade.playbook.judge import compare_configs
from saccade.progress import SilentProgress


def main() -> None:
    """Say what is on record of both, then race them."""
    asked = arguments()
    for path in (asked.first, asked.second):
        describe(path)

    found = compare_configs(asked.first, asked.second, asked.video, "throughput", SilentProgress())
    low, high = found["interval"]
    # Where the interval includes 1, "not distinguishable" is the answer, and not a failure.
    print(f"{found['verdict']}: {found['ratio']:.2f}x, interval {low:.2f} to {high:.2f}")
    print(f"differences of {found['resolution']:.1%} can be told from noise here now")


def describe(path: Path) -> None:
    """What a bundle was changed to, or that it is a baseline."""
    if path.suffix == ".json":
        print(f"{path}: the system as it was brought")
        return
    bundle = saccade.Bundle.open(path)
    print(f"{path}: {'; '.join(bundle.changes) or 'no changes'} (configuration {bundle.hash})")


def arguments() -> argparse.Namespace:
    """Two of: a run folder, a bundle, a run's baseline.json; and what they run on."""
    parser = argparse.ArgumentParser(description="Race two systems on the same video.")
    parser.add_argument("first", nargs="?", type=Path, default="runs/example/baseline.json")
    parser.add_argument("second", nargs="?", type=Path, default="runs/example")
    parser.add_argument("--video", default="runs/example/city-1080p.mp4")
    return parser.parse_args()


if __name__ == "__main__":  # workers import this file, and must not race as well
    main()
