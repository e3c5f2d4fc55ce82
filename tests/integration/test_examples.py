"""The examples run as they stand, on inputs so small that what they measure means nothing."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import SACCADE, make_inputs

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TIMEOUT_S = 500


def run(*command: object, folder: Path) -> str:
    """What a command prints; it may miss its goals, and must not fail."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env={**os.environ, "SACCADE_QUIET": "1"},
    )
    assert done.returncode in (0, 3, 4), f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the detector was optimized."""
    folder = tmp_path_factory.mktemp("examples")
    inputs = make_inputs(folder)
    said = run(
        sys.executable, EXAMPLES / "optimize_detector.py", *inputs.flags, "--budget", "3s",
        folder=folder,
    )  # fmt: skip
    (folder / "said.txt").write_text(said, encoding="utf-8")
    return folder


def test_a_detector_is_optimized_and_its_bundle_runs(workplace: Path) -> None:
    lines = (workplace / "said.txt").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("goals: ")
    assert sum(line.startswith("frame ") for line in lines) == 3
    assert (workplace / "runs" / "example" / "report.html").is_file()


@pytest.mark.slow
def test_two_systems_are_compared(workplace: Path) -> None:
    command = sys.executable, EXAMPLES / "compare_runs.py", "--video", "v.mp4"
    lines = run(*command, folder=workplace).splitlines()
    assert lines[0].endswith("the system as it was brought")
    assert "configuration " in lines[1]
    assert lines[2].split(":")[0] in (
        "first is faster", "second is faster", "not distinguishable"
    )  # fmt: skip


@pytest.mark.slow
def test_the_training_job_is_optimized_and_run(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    job = EXAMPLES / "training_job.py"
    short = shlex.split("--seeds 2 --steps 4 --budget 5s --out runs/shapes")
    run(*SACCADE, "train", "optimize", job, *short, folder=tmp_path)
    run(*SACCADE, "train", "run", "runs/shapes", "--epochs", "1", folder=tmp_path)
    assert (tmp_path / "runs" / "shapes" / "model.pt2").is_file()


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.demo_model
@pytest.mark.usefixtures("yolo11n")
def test_without_arguments_they_take_the_demo_and_each_other(tmp_path: Path) -> None:
    command = sys.executable, EXAMPLES / "optimize_detector.py", "--budget", "9s"
    assert "bundle: " in run(*command, folder=tmp_path)
    assert "configuration " in run(sys.executable, EXAMPLES / "compare_runs.py", folder=tmp_path)


def test_every_example_is_run_here() -> None:
    tested = Path(__file__).read_text(encoding="utf-8")
    assert {path.name for path in EXAMPLES.glob("*.py")} == {
        "optimize_detector.py", "compare_runs.py", "training_job.py"
    }  # fmt: skip
    assert all(path.name in tested for path in EXAMPLES.glob("*.py"))
