"""A model that is larger than this machine's memory is named before anything is loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from command_line import Cli, Inputs, refused
from tiny_system import tiny_yolo, write_model

from saccade.environment import Environment, detect
from saccade.errors import ModelError
from saccade.models.files import model_file
from saccade.optimize.job import Job
from saccade.playbook import memory, prepare
from saccade.playbook.candidates import with_candidates
from saccade.playbook.memory import check_file_fits, check_fits, gpu_memory_mb
from saccade.progress import SilentProgress
from saccade.spec import make_spec
from saccade.study import RunFolder

HW = (64, 64)


def machine(memory_mb: float) -> Environment:
    return replace(detect(), memory_mb=memory_mb)


def test_a_file_larger_than_the_memory_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge.onnx"
    with path.open("wb") as file:  # sparse, and no model: reading it would be another error
        file.truncate(3_000_000)
    check_file_fits(str(path), 3.0)
    check_file_fits("torchvision:resnet50", 0.001)
    with pytest.raises(ModelError, match=r"'huge.onnx' does not fit .* 3 MB and 2 MB may be used"):
        check_file_fits(str(path), 2.0)


def test_activations_count_as_well(tmp_path: Path) -> None:
    model = model_file(write_model(tmp_path))
    assert check_fits(model, HW, "cpu", machine(1e6)) is None
    needed = memory._activations_mb(model, HW) + model.size_mb
    assert needed > model.size_mb
    assert "Memory is tight" in str(check_fits(model, HW, "cpu", machine(1.1 * needed)))
    assert check_fits(model, HW, "cpu", machine(2 * needed)) is None
    with pytest.raises(ModelError, match=r"MB of activations at 64x64 .*a container's limit"):
        check_fits(model, HW, "cpu", machine((needed + model.size_mb) / 2))


def test_a_gpu_is_asked_only_where_it_is_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_file(write_model(tmp_path))
    monkeypatch.setattr(memory, "gpu_memory_mb", lambda: 0.001)
    assert check_fits(model, HW, "cpu", machine(1e6)) is None
    with pytest.raises(ModelError, match=r"does not fit into this machine's GPU"):
        check_fits(model, HW, "cuda", machine(1e6))
    monkeypatch.setattr(memory, "gpu_memory_mb", lambda: None)
    assert check_fits(model, HW, "cuda", machine(1e6)) is None


@pytest.mark.parametrize(
    ("answer", "found"), [("16376\\n8192", 16376 * 1.048576), ("[N/A]", None), ("", None)]
)
def test_the_gpus_memory_is_what_its_tool_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, found: float | None
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\nprintf '{answer}'\n", "utf-8")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_memory_mb() == (pytest.approx(found) if found else None)
    tool.unlink()
    assert gpu_memory_mb() is None


def test_a_candidate_that_does_not_fit_is_left_out_and_the_rest_goes_on(
    inputs: Inputs, tmp_path: Path
) -> None:
    """By its activations: its file alone would fit."""
    for name, side in (("wide.onnx", 512), ("other.onnx", 96)):
        (tmp_path / name).write_bytes(tiny_yolo((side, side)).SerializeToString())
    wide = model_file(tmp_path / "wide.onnx")
    enough = wide.size_mb + memory._activations_mb(wide, (512, 512))
    names = [str(tmp_path / "wide.onnx"), str(tmp_path / "other.onnx")]
    given = {"model": str(inputs.model), "video": str(inputs.video), "candidates": names}
    run = RunFolder(tmp_path / "run")
    job = prepare.prepare(make_spec(given), run, SilentProgress())

    def on(memory_mb: float) -> Job:
        tried = replace(job, environment=machine(memory_mb))
        return with_candidates(tried, run, SilentProgress())

    found = on(0.9 * enough)
    assert wide.size_mb < 0.9 * enough
    assert [candidate.name for candidate in found.candidates] == ["other"]
    (note,) = found.notes
    assert "The candidate" in note and "is left out: 'wide.onnx' does not fit" in note
    assert "MB of activations at 512x512" in note and "Give a smaller model" in note
    found = on(1.1 * enough)
    assert [candidate.name for candidate in found.candidates] == ["wide", "other"]
    assert any("candidate wide: Memory is tight" in note for note in found.notes)


def test_a_run_ends_before_its_baseline_and_says_what_to_do(
    cli: Cli, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = model_file(inputs.model).size_mb
    monkeypatch.setattr(prepare, "detect", lambda: machine(1.001 * size))
    said = refused(cli, "optimize", *inputs.flags, "--out", tmp_path / "run")
    assert "'tiny.onnx' does not fit into this machine" in said
    assert "Give a smaller model or input size" in said
    assert not (tmp_path / "run" / "baseline.json").exists()
