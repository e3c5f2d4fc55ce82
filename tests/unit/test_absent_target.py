"""Targets that are not at hand: plan, optimize, export and doctor promise nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import Cli, Inputs, document, refused
from test_targets import write_toy
from tiny_system import tiny_yolo

import saccade.targets
from saccade.environment import detect
from saccade.errors import SpecError
from saccade.playbook import prepare
from saccade.targets.read import names
from saccade.testing.tiny_models import write_tiny

TARGETS = Path(saccade.targets.__file__).parent
GPU = "A GPU, driver 570.1"


def test_plan_estimates_and_measures_nothing(cli: Cli, inputs: Inputs, tmp_path: Path) -> None:
    given = ("--model", inputs.model, "--target", "jetson-orin-nano", "--out", tmp_path / "run")
    outcome = cli("plan", *given, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    found = document(outcome.out)
    assert found["label"] == "estimate, not verified on hardware"
    assert found["candidates"][0]["latency_bound_ms"] > 0
    assert json.loads((tmp_path / "run" / "estimates.json").read_text("utf-8"))["candidates"]
    assert not (tmp_path / "run" / "baseline.json").exists()
    printed = cli("plan", *given).out
    assert "not verified on hardware" in printed
    assert "(est.)" in " ".join(printed.split())
    assert "Nothing was measured" in printed


def test_optimize_makes_a_kit_and_ends_inconclusive(
    cli: Cli, inputs: Inputs, tmp_path: Path
) -> None:
    goals = ("--goal", "latency_ms.p50<=50", "--goal", "model_mb<=50")
    given = ("--model", inputs.model, "--data", inputs.data, "--target", "rpi5", *goals)
    outcome = cli("optimize", *given, "--out", tmp_path / "run", "--json")
    assert outcome.code == 4, outcome.err
    found = document(outcome.out)
    status = {goal["metric"]: goal["status"] for goal in found["goals"]}
    assert status == {"latency_ms.p50": "inconclusive", "model_mb": "met"}
    assert (found["best"], found["bundle"]) == (None, None)
    assert found["estimates"]["target"] == "rpi5"
    assert (Path(found["kit"]) / "measure.py").is_file()
    assert found["trials"]
    assert {trial["verdict"] for trial in found["trials"]} <= {"inconclusive", "broke a goal"}
    assert all(trial["achieved_gain"] is None for trial in found["trials"])
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "Estimates for rpi5, not verified on hardware" in page
    assert "(est.)" in page


@pytest.mark.slow
def test_a_goal_that_the_data_sheet_rules_out_is_not_met(
    cli: Cli, inputs: Inputs, tmp_path: Path
) -> None:
    goals = ("--goal", "latency_ms.p50<=0.00001", "--goal", "peak_rss_mb<=0.0001")
    given = ("--model", inputs.model, "--data", inputs.data, "--target", "rpi5", *goals)
    outcome = cli("optimize", *given, "--out", tmp_path / "run", "--json")
    assert outcome.code == 3, outcome.err
    for goal in document(outcome.out)["goals"]:
        assert goal["status"] == "not_met"
        assert goal["value"] is None
        assert goal["note"].startswith("ruled out by an estimate")


def test_a_target_that_nothing_made_here_runs_on_is_still_estimated(
    cli: Cli, inputs: Inputs, tmp_path: Path
) -> None:
    given = ("--model", inputs.model, "--data", inputs.data, "--target", "coral-edgetpu")
    outcome = cli("optimize", *given, "--out", tmp_path / "run", "--json")
    assert outcome.code == 4, outcome.err
    found = document(outcome.out)
    assert found["kit"] is None
    assert any("which takes edgetpu" in note for note in found["notes"])
    said = refused(cli, "export", "--kit", *given, "--out", tmp_path / "kit")
    # Progress lines come first; the message is the last.
    assert "No model file that can be made here runs on 'coral-edgetpu'" in said


def small_board(folder: Path, memory_mb: float) -> Path:
    return write_toy(folder, memory_mb={"value": memory_mb, "source": "its box"})


def wide_model(folder: Path) -> Path:
    """One with activations that the tiny model's memory does not hold."""
    path = folder / "wide.onnx"
    path.write_bytes(tiny_yolo((256, 256)).SerializeToString())
    return path


@pytest.mark.parametrize("verb", ["plan", "optimize"])
def test_where_nothing_fits_the_target_all_are_refused_by_name(
    cli: Cli, inputs: Inputs, tmp_path: Path, verb: str
) -> None:
    toy = small_board(tmp_path, 0.001)
    given = (*inputs.flags, "--target", toy, "--out", tmp_path / "run")
    said = refused(cli, verb, *given, "--candidates", wide_model(tmp_path))
    assert "'tiny.onnx' does not fit into toy" in said
    assert "Give a smaller model or input size, or choose a target with more memory" in said
    assert "What might take its place does not run there either: wide." in said


def test_where_only_a_candidate_fits_the_target_it_is_estimated(
    cli: Cli, inputs: Inputs, tmp_path: Path
) -> None:
    given = ("--model", wide_model(tmp_path), "--target", small_board(tmp_path, 0.5))
    flags = (*given, "--candidates", inputs.model, "--out", tmp_path / "run")
    found = document(cli("plan", *flags, "--json").out)
    assert [c["memory"]["fit"] for c in found["candidates"]] == ["too large"]
    assert [c["usable"] for c in found["others"]["tiny"]["candidates"]] == [True]
    ((what, reason),) = found["left_out"]
    assert what == "the model itself"
    assert "'wide.onnx' does not fit into toy" in reason and "Give a smaller model" in reason
    printed = " ".join(cli("plan", *flags).out.split())
    assert "Left out" in printed and "'wide.onnx' does not fit into toy" in printed


def test_where_only_a_candidate_fits_the_target_the_study_goes_on_with_it(
    cli: Cli, inputs: Inputs, tmp_path: Path
) -> None:
    given = ("--model", wide_model(tmp_path), "--target", small_board(tmp_path, 0.5))
    others = ("--data", inputs.data, "--candidates", inputs.model, "--out", tmp_path / "run")
    outcome = cli("optimize", *given, *others, "--json")
    assert outcome.code == 4, outcome.err
    found = document(outcome.out)
    assert any("the model itself is left out: 'wide.onnx'" in note for note in found["notes"])
    assert found["trials"] and all(t["change"].startswith("tiny: ") for t in found["trials"])
    kit = json.loads((Path(found["kit"]) / "kit.json").read_text("utf-8"))
    assert {c["model"] for c in kit["candidates"]} == {"tiny"}
    assert kit["reference"].startswith("tiny.onnx@")
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "does not fit into toy" in page


def test_where_only_smaller_sizes_fit_the_target_the_kit_holds_these(
    cli: Cli, inputs: Inputs, tmp_path: Path
) -> None:
    """Of TensorRT, too, whose engine for any size is of the model itself."""
    jetson = yaml.safe_load((TARGETS / "jetson-orin-nano.yaml").read_text("utf-8"))
    path = tmp_path / "jetson.yaml"
    path.write_text(yaml.safe_dump({**jetson, "memory_mb": {"value": 0.2, "source": "its box"}}))
    spec = tmp_path / "s.yaml"
    given = {"model": str(write_tiny("onnx", tmp_path)), "data": str(inputs.data)}
    overrides = {"input_size": 256, "class_names": ["cat", "dog"]}
    spec.write_text(yaml.safe_dump({**given, "target": str(path), "overrides": overrides}))
    outcome = cli("export", "--kit", spec, "--out", tmp_path / "kit", "--json")
    assert outcome.code == 0, outcome.err
    kit = json.loads((tmp_path / "kit" / "kit.json").read_text("utf-8"))
    assert {c["model"] for c in kit["candidates"]} == {"192px", "160px"}
    assert any(c["runtime"] == "tensorrt" for c in kit["candidates"])
    assert "dynamic" not in (tmp_path / "kit" / "build_tensorrt.sh").read_text("utf-8")


@pytest.mark.parametrize("verb", ["plan", "optimize", "export", "doctor"])
def test_an_unknown_target_names_the_nearest(
    cli: Cli, inputs: Inputs, tmp_path: Path, verb: str
) -> None:
    kit = ("--kit",) if verb == "export" else ()
    flags = () if verb == "doctor" else (*inputs.flags, "--out", tmp_path / "run")
    said = refused(cli, verb, *kit, *flags, "--target", "jetson-orin-nona")
    assert "Did you mean 'jetson-orin-nano'?" in said


@pytest.mark.parametrize("verb", ["baseline", "profile", "diagnose"])
def test_verbs_that_measure_this_machine_refuse_another(
    cli: Cli, inputs: Inputs, tmp_path: Path, verb: str
) -> None:
    spec = tmp_path / "s.yaml"
    spec.write_text(f"model: {inputs.model}\nvideo: {inputs.video}\ntarget: rpi5\n", "utf-8")
    said = refused(cli, verb, spec, "--out", tmp_path / "run")
    assert "This measures this machine, and the target is 'rpi5'" in said


class TestCuda:
    """`cuda` is the GPU of this machine, and few machines that test this have one."""

    @pytest.fixture(autouse=True)
    def machine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """No GPU, whatever this machine has."""
        self.plant(monkeypatch, None, ("cpu",))

    @staticmethod
    def plant(monkeypatch: pytest.MonkeyPatch, gpu: Any, devices: tuple[str, ...]) -> None:
        """A machine with that GPU, whose ONNX Runtime reports those devices."""
        here = replace(detect(), gpu=gpu)
        real = prepare.runtimes()
        found = {**real, "onnxruntime": replace(real["onnxruntime"], devices=devices)}
        for module in ("prepare", "optimize", "partial"):
            monkeypatch.setattr(f"saccade.playbook.{module}.detect", lambda: here)
            monkeypatch.setattr(f"saccade.playbook.{module}.runtimes", lambda: found)

    @pytest.mark.slow
    def test_without_a_gpu_there_is_a_kit_and_nothing_is_concluded(
        self, cli: Cli, inputs: Inputs, tmp_path: Path
    ) -> None:
        goals = ("--goal", "latency_ms.p50<=50", "--goal", "peak_rss_mb<=500")
        given = ("--model", inputs.model, "--data", inputs.data, "--target", "cuda", *goals)
        outcome = cli("optimize", *given, "--out", tmp_path / "run", "--json")
        assert outcome.code == 4, outcome.err
        found = document(outcome.out)
        assert {goal["status"] for goal in found["goals"]} == {"inconclusive"}
        assert found["estimates"] == {}
        assert any("no NVIDIA GPU that answers" in note for note in found["notes"])
        kit = json.loads((Path(found["kit"]) / "kit.json").read_text("utf-8"))
        assert any(c["runtime"] == "tensorrt" for c in kit["candidates"])

    def test_a_kit_needs_no_gpu(self, cli: Cli, inputs: Inputs, tmp_path: Path) -> None:
        given = ("--model", inputs.model, "--data", inputs.data, "--target", "cuda")
        outcome = cli("export", "--kit", *given, "--out", tmp_path / "kit", "--json")
        assert outcome.code == 0, outcome.err
        assert (tmp_path / "kit" / "build_tensorrt.sh").is_file()

    @pytest.mark.parametrize("verb", ["plan", "baseline"])
    def test_what_measures_refuses_and_says_what_to_do(
        self, cli: Cli, inputs: Inputs, tmp_path: Path, verb: str
    ) -> None:
        spec = tmp_path / "s.yaml"
        spec.write_text(f"model: {inputs.model}\nvideo: {inputs.video}\ntarget: cuda\n", "utf-8")
        said = refused(cli, verb, spec, "--out", tmp_path / "run")
        assert "this machine has no NVIDIA GPU that answers" in said
        assert "Name the machine instead" in said
        assert "export --kit" in said

    def test_a_gpu_that_no_runtime_can_use_is_not_at_hand(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.plant(monkeypatch, GPU, ("cpu",))
        environment, found = prepare.detect(), prepare.runtimes()
        with pytest.raises(SpecError, match=r"no installed runtime can use its GPU \(pip install"):
            prepare.check_at_hand("cuda", environment, found)

    def test_a_gpu_that_a_runtime_reports_is_measured(
        self, cli: Cli, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.plant(monkeypatch, GPU, ("cpu", "cuda"))
        given = (*inputs.flags, "--target", "cuda", "--budget", "1s")
        outcome = cli("optimize", *given, "--out", tmp_path / "run", "--json")
        found = document(outcome.out)
        assert found["baseline"]["metrics"]["latency_ms.p50"]
        assert (tmp_path / "run" / "baseline.json").is_file()
        assert "kit" not in found

    def test_what_runs_on_the_gpu_only_is_no_runtime_of_the_cpu(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.plant(monkeypatch, GPU, ("cuda",))
        for_cpu = prepare.runtimes_for("cpu")["onnxruntime"]
        assert not for_cpu.ok
        assert "--target cuda" in for_cpu.detail
        assert prepare.runtimes_for("cuda")["onnxruntime"].ok


def test_export_says_what_it_exports(cli: Cli, inputs: Inputs) -> None:
    assert "Give --kit" in refused(cli, "export", *inputs.flags)


@pytest.mark.parametrize("name", names())
def test_doctor_shows_every_figure_with_its_source(cli: Cli, name: str) -> None:
    outcome = cli("doctor", "--target", name, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    found = document(outcome.out)
    assert found["verified_on_hardware"] is False
    assert found["target"]["memory_mb"]["source"]
    printed = " ".join(cli("doctor", "--target", name).out.split())
    assert "not verified on hardware" in printed
