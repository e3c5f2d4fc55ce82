"""Other models in a kit: candidates and smaller sizes are measured, and the best is chosen."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from command_line import Cli, Inputs, document, make_inputs, refused
from kit_script import REFERENCE, run_script
from test_targets import write_toy
from tiny_system import tiny_yolo

from saccade.deploy.exports.contract import Run
from saccade.deploy.kit.read import read_kit, read_measurements
from saccade.deploy.kit.record import KitCandidate, KitFile, reference_of, slug
from saccade.goals import Goal
from saccade.models.files import model_file
from saccade.optimize.referee import Judgement
from saccade.playbook.absent import _trial, unmeasured_goal
from saccade.playbook.estimates import estimate, smaller, with_others
from saccade.playbook.kit import _judgeable
from saccade.playbook.partial import export_kit
from saccade.spec import make_spec
from saccade.study import Drop, Trial
from saccade.testing.tiny_models import SIZE, tiny_config, write_tiny

# The candidate's file has a name that neither file systems nor shells like.
OTHER = "larger one"
SAFE = slug(OTHER)
FLOAT, INT8 = f"{SAFE}.onnx@onnxruntime-fp32", f"{SAFE}.onnx_int8@onnxruntime-int8"
TARGET = "aws-c7i-xlarge"


class MeasuredKit:
    """A kit with a candidate of another input size, and what its script wrote on this machine."""

    def __init__(self, folder: Path) -> None:
        self.inputs: Inputs = make_inputs(folder)
        self.candidate = folder / f"{OTHER}.onnx"
        onnx.save(tiny_yolo((96, 96)), self.candidate)
        self.kit = folder / "kit"
        given = {"model": str(self.inputs.model), "data": str(self.inputs.data)}
        self.document = export_kit(
            make_spec({**given, "target": TARGET, "candidates": [str(self.candidate)]}), self.kit
        )
        self.file = folder / "m.json"
        only = ("--only", REFERENCE, FLOAT, INT8)
        run_script(self.kit, self.file, "--rounds", "3", "--seconds", "0.01", *only)

    @property
    def flags(self) -> tuple[object, ...]:
        given = ("--model", self.inputs.model, "--data", self.inputs.data, "--target", TARGET)
        return (*given, "--kit", self.kit)

    def faster(self, out: Path, name: str, times: float) -> Path:
        """The measurements as if one candidate were that many times as fast as all others."""
        content = json.loads(self.file.read_text("utf-8"))
        for block in content["blocks"]:
            ms = 10.0 / times if block["candidate"] == name else 10.0
            noise = np.random.default_rng(block["round"]).normal(1, 0.01, 30)
            block["latency_ms"] = (ms * noise).tolist()
        del content["digest"]
        text = json.dumps(content, sort_keys=True)
        content["digest"] = hashlib.sha256(text.encode()).hexdigest()
        out.write_text(json.dumps(content), "utf-8")
        return out


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> MeasuredKit:
    return MeasuredKit(tmp_path_factory.mktemp("models"))


def test_a_kit_holds_the_candidates_in_the_formats_of_the_target(measured: MeasuredKit) -> None:
    files = {c["file"] for c in measured.document["candidates"] if c["model"] == OTHER}
    own = {c["file"] for c in measured.document["candidates"] if not c["model"]}
    assert files == {f"{SAFE}.{name}" for name in own}
    assert f"{SAFE}.onnx_int8" in files
    said = measured.document["models"][OTHER]
    assert said == {"sha256": model_file(measured.candidate).sha256, "input_hw": [96, 96]}
    assert measured.document["reference"] == REFERENCE
    assert measured.document["estimates"]["others"][OTHER]["input_hw"] == [96, 96]
    assert f"- `{FLOAT}`" in (measured.kit / "README.md").read_text("utf-8")


def test_each_model_is_fed_its_own_frames_and_checked_by_its_own_outputs(
    measured: MeasuredKit,
) -> None:
    file = measured.document["files"][f"{SAFE}.onnx"]
    assert np.load(measured.kit / file["frames"][0]).shape == (1, 3, 96, 96)
    assert np.load(measured.kit / measured.document["frames"][0]).shape == (1, 3, 64, 64)
    found = read_measurements(measured.file)
    for name, most in ((FLOAT, 1e-4), (INT8, 0.3)):
        assert found.candidates[name]["status"] == "measured", found.candidates[name]
        assert found.candidates[name]["error"] < most
    # A stand-in for accuracy is a file of the same model.
    entries = read_kit(measured.kit).candidates.values()
    assert all(e["judged_as"].startswith(f"{SAFE}.") == bool(e["model"]) for e in entries)


def test_the_best_of_all_models_is_chosen_by_what_was_measured(
    cli: Cli, measured: MeasuredKit, tmp_path: Path
) -> None:
    path = measured.faster(tmp_path / "m.json", FLOAT, 2.0)
    goals = ("--goal", "latency_ms.p50<=8", "--goal", "agreement_drop<=1")
    out = ("--out", tmp_path / "run", "--json")
    outcome = cli("optimize", *measured.flags, *goals, "--measurements", path, *out)
    found = document(outcome.out)
    assert found["best"]["changes"] == [FLOAT], outcome.err
    assert found["best"]["config"]["input_size"] == 96
    bundled = next(Path(found["bundle"]).rglob("*.onnx"))
    assert bundled.read_bytes() == measured.candidate.read_bytes()
    compared = cli("compare", "--measurements", path, "--kit", measured.kit, "--json")
    rows = {row["candidate"]: row for row in document(compared.out)["candidates"]}
    assert rows[FLOAT]["verdict"] == "faster"


def test_a_faster_model_that_breaks_the_bound_is_not_chosen(
    cli: Cli, measured: MeasuredKit, tmp_path: Path
) -> None:
    path = measured.faster(tmp_path / "m.json", FLOAT, 2.0)
    goals = ("--goal", "latency_ms.p50<=8", "--goal", "agreement_drop<=0.001")
    out = ("--out", tmp_path / "run", "--json")
    outcome = cli("optimize", *measured.flags, *goals, "--measurements", path, *out)
    found = document(outcome.out)
    assert found["best"]["changes"] == [REFERENCE], outcome.err
    broke = {trial["change"] for trial in found["trials"] if trial["verdict"] == "broke a goal"}
    assert FLOAT in broke


def test_a_candidate_that_the_kit_lacks_is_named(
    cli: Cli, measured: MeasuredKit, tmp_path: Path
) -> None:
    absent = tmp_path / "absent.onnx"
    absent.write_bytes(measured.candidate.read_bytes())
    given = ("--candidates", measured.candidate, absent, "--students", measured.candidate)
    out = ("--measurements", measured.file, "--out", tmp_path / "run", "--json")
    notes = document(cli("optimize", *measured.flags, *given, *out).out)["notes"]
    (lacking,) = [note for note in notes if "the kit was made without it" in note]
    assert "absent.onnx" in lacking
    (student,) = [note for note in notes if note.startswith("the student")]
    assert "a kit for 'aws-c7i-xlarge' cannot teach" in student


def test_optimize_for_a_target_elsewhere_ignores_nobody(
    cli: Cli, measured: MeasuredKit, tmp_path: Path
) -> None:
    toy = write_toy(tmp_path)
    given = ("--model", measured.inputs.model, "--data", measured.inputs.data, "--target", toy)
    others = ("--candidates", measured.candidate, "--students", measured.candidate)
    out = ("--goal", "latency_ms.p50<=50", "--out", tmp_path / "run", "--json")
    outcome = cli("optimize", *given, *others, *out)
    assert outcome.code == 4, outcome.err
    found = document(outcome.out)
    assert any(trial["change"].startswith(f"{OTHER}: ") for trial in found["trials"])
    assert OTHER in found["estimates"]["others"]
    assert any("cannot teach" in note for note in found["notes"])
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert f"{OTHER}: onnxruntime" in page
    kit = json.loads((Path(found["kit"]) / "kit.json").read_text("utf-8"))
    assert any(left["what"].startswith("the student") for left in kit["left_out"])


def test_a_goal_that_only_a_candidate_can_reach_is_not_ruled_out(measured: MeasuredKit) -> None:
    """The larger model cannot; the tiny one stands as its candidate."""
    own = estimate(measured.candidate, (96, 96), "rpi5")
    config = read_kit(measured.kit).config("onnx")
    both = with_others(own, [("tiny", config, False)])
    fastest = [
        min(c.latency.bound_ms for c in found.candidates if c.latency)
        for found in (own, both.others[0].estimates)
    ]
    assert fastest[1] < fastest[0]
    goal = Goal("latency_ms.p50", "<=", sum(fastest) / 2)
    assert unmeasured_goal(goal, own, None, ())["status"] == "not_met"
    assert unmeasured_goal(goal, both, None, ())["status"] == "inconclusive"


def test_a_plan_for_a_target_elsewhere_estimates_the_candidates_too(
    cli: Cli, measured: MeasuredKit, tmp_path: Path
) -> None:
    spec = tmp_path / "s.yaml"
    lines = (f"model: {measured.inputs.model}", f"data: {measured.inputs.data}", "target: rpi5")
    spec.write_text("\n".join((*lines, f"candidates: ['{measured.candidate}']")), "utf-8")
    outcome = cli("plan", spec, "--out", tmp_path / "run")
    assert outcome.code == 0, outcome.err
    assert f"{OTHER}: " in outcome.out
    spec.write_text("\n".join((*lines, "candidates: [absent.onnx]")), "utf-8")
    said = refused(cli, "plan", spec, "--out", tmp_path / "other")
    assert "There is no candidate model at" in said


def test_a_model_of_any_size_is_estimated_at_smaller_ones(tmp_path: Path) -> None:
    path = write_tiny("onnx", tmp_path)
    config = tiny_config(tmp_path, None, model=model_file(path), input_size=2 * SIZE)
    found = smaller(config)
    assert [(name, c.input_size) for name, c in found] == [("104px", 104), ("80px", 80)]
    own = estimate(path, (2 * SIZE, 2 * SIZE), "rpi5")
    others = with_others(own, [(name, c, True) for name, c in found]).others
    assert [other.estimates.graph.input_hw for other in others] == [(104, 104), (80, 80)]
    assert smaller(tiny_config(tmp_path, (SIZE, SIZE))) == []


def test_smaller_sizes_are_in_the_kit_in_what_is_made_quickly(tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path)
    path = write_tiny("onnx", tmp_path)
    given = {"model": str(path), "data": str(inputs.data), "target": TARGET}
    overrides = {"input_size": 2 * SIZE, "class_names": ["cat", "dog"]}
    kit = export_kit(make_spec({**given, "overrides": overrides}), tmp_path / "kit")
    sizes = {c["model"] for c in kit["candidates"]}
    assert sizes == {"", "96px"}
    small = [c for c in kit["candidates"] if c["model"] == "96px"]
    assert {c["runtime"] for c in small} <= {"onnxruntime", "openvino"}
    assert any(c["precision"] == "int8" for c in small)
    config = read_kit(tmp_path / "kit").config("96px.onnx_fixed")
    assert config.input_size == 96
    only = ("--only", REFERENCE, "96px.onnx_fixed@onnxruntime-fp32")
    run_script(tmp_path / "kit", tmp_path / "m.json", "--rounds", "3", "--seconds", "0.01", *only)
    found = read_measurements(tmp_path / "m.json")
    assert found.candidates[only[2]]["error"] < 1e-4


def test_a_run_that_nothing_stands_for_here_is_left_out(measured: MeasuredKit) -> None:
    """Accuracy of an engine in int8 is not that of its float file."""
    runs = (Run("tensorrt", "fp32"), Run("tensorrt", "int8", judged_as="onnx_int8_symmetric"))
    file = KitFile("onnx", "ONNX", "fp32", read_kit(measured.kit).config("onnx"), (), runs)
    left_out: list[tuple[str, str]] = []
    assert _judgeable(file, {"onnx": file}, left_out).runs == runs[:1]
    assert left_out[0][0] == "ONNX in tensorrt int8"
    assert _judgeable(file, {"onnx_int8_symmetric": file}, []).runs == runs


def test_only_a_file_that_was_judged_counts_for_a_goal_of_size(measured: MeasuredKit) -> None:
    own, kit = estimate(measured.inputs.model, (64, 64), "rpi5"), read_kit(measured.kit)
    goal = Goal("model_mb", "<=", 50)
    drop = Drop("map50_95", 0.0, -0.01, 0.01, 0.975, 8)

    def status(**changes: Any) -> str:
        trial = Trial(1, 0, "ONNX", "onnx", {}, "", "", "inconclusive", "")
        return str(unmeasured_goal(goal, own, kit, (replace(trial, **changes),))["status"])

    assert status(drop=drop) == "met"
    assert status() == status(drop=drop, verdict="broke a goal") == "inconclusive"


def test_another_model_is_judged_by_a_stricter_rule_than_rounding(
    measured: MeasuredKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    effects: list[str] = []

    def judged(config: Any, job: Any, referee: Any, effect: str) -> Judgement:
        effects.append(effect)
        return Judgement(True, "")

    monkeypatch.setattr("saccade.playbook.absent._judgement", judged)
    kit = read_kit(measured.kit)
    referee: Any = object()
    job: Any = SimpleNamespace(
        spec=SimpleNamespace(target=TARGET),
        baseline=kit.config("onnx"),
        environment=SimpleNamespace(hash=""),
    )
    for name in ("onnx", f"{SAFE}.onnx"):
        _trial(1, name, job, kit, referee)
    assert effects == ["near_lossless", "lossy"]


def test_why_a_goal_of_accuracy_is_open_is_said_as_it_is(measured: MeasuredKit) -> None:
    own = estimate(measured.inputs.model, (64, 64), "rpi5")
    drop = Drop("map50_95", 0.0, -0.01, 0.01, 0.975, 8)
    given = Trial(1, 0, "ONNX", "onnx", {}, "", "", "inconclusive", "", drop=drop)

    def note(metric: str, *trials: Trial) -> str:
        return str(unmeasured_goal(Goal(metric, ">=", 0.5), own, None, trials)["note"])

    assert note("map50_95") == note("map50", given).replace("map50", "map50_95")
    assert note("map50_95", given) == "only the model as it was given was judged"
    made = replace(given, name="onnx_int8")
    assert note("map50_95", made) == "only the drop of map50_95 was judged"


def test_the_model_itself_is_the_reference_wherever_it_runs() -> None:
    def candidate(name: str, model: str, precision: str) -> KitCandidate:
        return KitCandidate(name, name, "tensorrt", precision, (), 0.1, name, model)

    found = (candidate("other", "yolox", "fp32"), candidate("own", "", "fp16"))
    assert reference_of(found).id == "own"


def test_names_of_models_are_safe_as_names_of_files_and_stay_apart() -> None:
    assert slug("yolox_nano.v2") == "yolox_nano.v2"
    found = [slug(name) for name in ("a b", "a/b", "a-b", "..", ".", "x (a1b2c3)")]
    assert len(set(found)) == len(found)
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_.") for name in found)
    assert not any(name.startswith(".") for name in found)
