"""What the verbs of `saccade train` pass on, and what they show."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from training_stand_ins import BASELINE, context_of

from saccade.errors import SpecError
from saccade.train.config import TrainingConfig
from saccade.train.spec import TrainingSpec

Asked = list[tuple[TrainingSpec, dict[str, Any]]]


@pytest.fixture
def trains() -> TrainingConfig:
    """How the job trains."""
    return BASELINE


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, trains: TrainingConfig) -> Asked:
    """What profiles are asked for."""
    seen: Asked = []

    def profile_job(spec: TrainingSpec, out: Path, seconds: float, **settings: Any) -> Any:
        seen.append((spec, settings))
        return replace(context_of(trains).profile, config=trains, ranks_ms=(10.0, 40.0)), ()

    monkeypatch.setattr("saccade.playbook.training.profile.profile_job", profile_job)
    monkeypatch.setattr(
        "saccade.optimize.training_profile.shutil.which", lambda name: f"/opt/{name}"
    )
    return seen


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    (tmp_path / "job.py").touch()
    path = tmp_path / "spec.yaml"
    path.write_text(f"kind: training\njob: {tmp_path}/job.py\ngoals: [epoch_s<=60]\ndevice: cpu\n")
    return path


def test_a_spec_names_the_job_of_a_profile(cli: Any, asked: Asked, spec: Path) -> None:
    ended = cli("train", "profile", spec, "--out", spec.parent / "run", "--max-corrupt", "0.1")
    assert ended.code == 0, ended.err
    found, settings = asked[0]
    assert (found.job, found.device) == (str(spec.parent / "job.py"), "cpu")
    assert found.max_corrupt == 0.1
    assert (settings["processes"], settings["strategy"]) == (1, "ddp")


def test_paths_in_a_spec_are_relative_to_it(
    cli: Any, asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    for folder in (there, here):
        folder.mkdir()
    (there / "nets.py").touch()
    (there / "spec.yaml").write_text("kind: training\njob: nets.py:net\ndata: images\n")
    monkeypatch.chdir(here)
    ended = cli("train", "profile", there / "spec.yaml", "--out", here / "run")
    assert ended.code == 0, ended.err
    assert (asked[0][0].job, asked[0][0].data) == (f"{there}/nets.py:net", there / "images")


def test_a_run_remembers_its_data_by_the_full_path(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def run_training(request: Any, progress: Any) -> Any:
        seen.append(request)
        raise SpecError("enough")

    monkeypatch.setattr("saccade.playbook.train_run.run_training", run_training)
    monkeypatch.chdir(tmp_path)
    cli("train", "run", "torchvision:resnet18", "--data", "d", "--weights", "w.pt", "--out", "run")
    assert seen[0].settings == {"data": f"{tmp_path}/d", "weights": f"{tmp_path}/w.pt"}


def test_a_profile_is_of_as_many_processes_as_the_user_says(
    cli: Any, asked: Asked, spec: Path
) -> None:
    flags = ("--processes", "2", "--strategy", "fsdp", "--out", spec.parent / "run")
    ended = cli("train", "profile", spec, *flags)
    assert ended.code == 0, ended.err
    assert (asked[0][1]["processes"], asked[0][1]["strategy"]) == (2, "fsdp")
    assert "own work in a step" in ended.out
    assert "40.00" in ended.out


def test_nsys_is_for_jobs_that_train_on_a_gpu(cli: Any, asked: Asked, spec: Path) -> None:
    """Whatever --device says: the job itself may be for the CPU."""
    ended = cli("train", "profile", spec, "--out", spec.parent / "run")
    assert "/opt/nsys" not in ended.out
    shown = cli("train", "profile", spec, "--out", spec.parent / "run", "--json")
    assert json.loads(shown.out)["nsys_command"] is None


@pytest.mark.parametrize("trains", [BASELINE.with_compute(device="cuda")])
def test_the_nsys_command_is_shown_and_in_the_document(cli: Any, asked: Asked, spec: Path) -> None:
    ended = cli("train", "profile", spec, "--out", spec.parent / "run")
    assert "nsys   /opt/nsys profile" in ended.out
    shown = cli("train", "profile", spec, "--out", spec.parent / "run", "--json")
    assert json.loads(shown.out)["nsys_command"][:2] == ["/opt/nsys", "profile"]
    assert json.loads(shown.out)["nsys_command"][-1] == "--nvtx"


def test_a_spec_names_the_job_that_is_scaled(
    cli: Any, spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[TrainingSpec] = []

    class Report:
        def table(self) -> str:
            return "the table"

    def scaling(given: TrainingSpec, *_: Any) -> Report:
        seen.append(given)
        return Report()

    monkeypatch.setattr("saccade.playbook.training.scaling.scaling_of_job", scaling)
    ended = cli("train", "scale", spec, "--out", spec.parent / "run")
    assert ended.code == 0, ended.err
    assert "the table" in ended.out
    assert seen[0].job == str(spec.parent / "job.py")


@pytest.mark.parametrize(("flag", "expected"), [((), None), (("--lr-scaling", "none"), "none")])
def test_the_rule_for_the_learning_rate_is_passed_on(
    cli: Any, spec: Path, monkeypatch: pytest.MonkeyPatch, flag: Any, expected: str | None
) -> None:
    seen: list[TrainingSpec] = []

    def optimize(given: TrainingSpec, *_: Any) -> Any:
        seen.append(given)
        raise KeyboardInterrupt

    monkeypatch.setattr("saccade.playbook.training.optimize.optimize_training", optimize)
    cli("train", "optimize", spec, "--out", spec.parent / "run", *flag)
    assert seen[0].lr_scaling == expected


def test_a_finding_that_is_no_matter_of_time_has_no_gain_beside_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from saccade.cli.train_profile import _print_findings
    from saccade.diagnose.training import diagnose_training
    from saccade.testing.planted_training import planted_training

    _print_findings(diagnose_training(planted_training("leaking_loader")))
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("1. leaking_loader: The loader holds") for line in lines)
    _print_findings(diagnose_training(planted_training("slow_transform")))
    assert "of a step, gain at most" in capsys.readouterr().out
