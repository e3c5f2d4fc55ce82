"""One run, interrupted and resumed, and the verbs that go on from it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from command_line import SACCADE, Cli, Inputs, Outcome, document, make_inputs, refused
from PIL import Image
from tiny_system import picture, write_model

from saccade.optimize.race import RacePlan

pytestmark = pytest.mark.alone
GOALS = ("throughput_fps>=1", "agreement_drop<=0.9")
# Long enough for a busy machine; only a test that fails waits for it.
PATIENCE_S = 240.0


@dataclass(frozen=True)
class Finished:
    """A run that was interrupted once and then came to its end."""

    inputs: Inputs
    folder: Path
    interrupted: Outcome
    result_then: dict[str, Any]
    baseline_then: bytes
    resumed: Outcome


def _wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"{path.name} did not come"
        time.sleep(0.05)


def _interrupted(arguments: list[str], folder: Path) -> Outcome:
    """Send what a terminal sends on Ctrl-C, to the whole group, once there are findings."""
    process = subprocess.Popen(
        [*SACCADE, *arguments, "--budget", "10m"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell that runs the tests in the background has its children ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        _wait_for(folder / "findings.json", process)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE_S)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    return Outcome(process.returncode, out, err)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    inputs = make_inputs(tmp_path_factory.mktemp("inputs"))
    folder = inputs.folder / "run"
    goals = [part for goal in GOALS for part in ("--goal", goal)]
    arguments = ["optimize", *map(str, inputs.flags), *goals, "--out", str(folder), "--json"]
    interrupted = _interrupted(arguments, folder)
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    baseline = (folder / "baseline.json").read_bytes()
    again = subprocess.run(
        [*SACCADE, *arguments, "--budget", "12s"], capture_output=True, text=True, check=False
    )
    resumed = Outcome(again.returncode, again.stdout, again.stderr)
    return Finished(inputs, folder, interrupted, result, baseline, resumed)


def test_ctrl_c_ends_with_4_and_keeps_what_there_is(finished: Finished) -> None:
    outcome = finished.interrupted
    assert outcome.code == 4, outcome.err
    assert "Interrupted. What was measured is kept" in outcome.message
    assert "run the same command again to resume" in outcome.message
    assert finished.result_then["interrupted"] is True
    assert finished.result_then["status"] == "inconclusive"
    assert finished.result_then["baseline"]["metrics"]["throughput_fps"] > 0
    assert {goal["status"] for goal in finished.result_then["goals"]} == {"inconclusive"}


def test_a_run_that_was_interrupted_is_resumed(finished: Finished) -> None:
    outcome = finished.resumed
    assert outcome.code in (0, 3, 4), outcome.err
    assert "the baseline was measured before and is used again" in outcome.err
    assert (finished.folder / "baseline.json").read_bytes() == finished.baseline_then
    result = document(outcome.out)
    assert result["interrupted"] is False
    assert {"met": 0, "not_met": 3, "inconclusive": 4}[result["status"]] == outcome.code
    assert result == json.loads((finished.folder / "result.json").read_text(encoding="utf-8"))


def test_report_speaks_json(cli: Cli, finished: Finished) -> None:
    outcome = cli("report", finished.folder, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    assert document(outcome.out)["goals"][0]["name"] == GOALS[0]
    assert cli("report", finished.folder).out.strip()


@pytest.mark.parametrize("verb", ["baseline", "profile", "diagnose", "plan"])
def test_verbs_of_single_steps_speak_json(cli: Cli, finished: Finished, verb: str) -> None:
    outcome = cli(verb, finished.folder / "spec.yaml", "--out", finished.folder, "--json")
    assert outcome.code == 0, outcome.err
    key = {"baseline": "metrics", "profile": "stages", "diagnose": "findings", "plan": "changes"}
    assert document(outcome.out)[key[verb]]


def test_run_speaks_json_and_draws(cli: Cli, finished: Finished, tmp_path: Path) -> None:
    source = ("--source", finished.inputs.video)
    out = tmp_path / "out.mp4"
    outcome = cli("run", finished.folder, *source, "--save", out, "--limit", "5", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    found = document(outcome.out)
    assert (found["frames"], found["saved"]) == (5, str(out))
    assert out.stat().st_size > 0
    said = refused(cli, "run", finished.folder, *source, "--save", finished.inputs.video)
    assert "would write over the source" in said


def test_validate_speaks_json_and_judges_goals(cli: Cli, finished: Finished) -> None:
    bundle, data = finished.folder / "bundle", ("--data", finished.inputs.data)
    against = ("--against", finished.folder / "baseline.json")
    outcome = cli("validate", bundle, *data, *against, "--goal", "map50_drop<=1", "--json")
    assert outcome.code == 0, outcome.err
    found = document(outcome.out)
    assert (found["status"], found["images"]) == ("met", 8)
    assert set(found["metrics"]) == {"map50_95", "map50", "map50_95_drop", "map50_drop"}
    missed = cli("validate", bundle, *data, "--goal", "map50>=1", "--json")
    assert missed.code == 3
    assert document(missed.out)["status"] == "not_met"
    assert "needs --against" in refused(cli, "validate", bundle, *data, "--goal", "map50_drop<=1")
    assert "is about throughput_fps" in refused(
        cli, "validate", bundle, *data, "--goal", "throughput_fps>=1"
    )


def test_validate_needs_labels(cli: Cli, finished: Finished, tmp_path: Path) -> None:
    Image.fromarray(picture()).save(tmp_path / "a.png")
    assert "no labelled images" in refused(
        cli, "validate", finished.folder, "--data", tmp_path, "--json"
    )


def test_a_baseline_whose_model_has_changed_since_is_refused(
    cli: Cli, finished: Finished, tmp_path: Path
) -> None:
    baseline = json.loads(finished.baseline_then)
    other = write_model(tmp_path)
    other.write_bytes(other.read_bytes() + b"\n")
    baseline["config"]["model"]["path"] = str(other)
    (tmp_path / "baseline.json").write_text(json.dumps(baseline), encoding="utf-8")
    flags = (finished.folder, "--video", finished.inputs.video)
    assert "content has changed" in refused(cli, "compare", tmp_path / "baseline.json", *flags)


def test_compare_speaks_json(cli: Cli, finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    short = RacePlan(block_s=0.05, min_pairs=6, max_pairs=6)
    monkeypatch.setattr("saccade.playbook.judge.COMPARE_RACE", short)
    flags = ("--video", finished.inputs.video, "--json")
    outcome = cli("compare", finished.folder / "bundle", finished.folder / "bundle", *flags)
    found = document(outcome.out)
    same = found["verdict"] == "not distinguishable"
    assert outcome.code == (4 if same else 0)
    assert found["interval"][0] <= found["ratio"] <= found["interval"][1]


def test_a_tampered_bundle_is_refused_by_the_command(
    cli: Cli, finished: Finished, tmp_path: Path
) -> None:
    copy = shutil.copytree(finished.folder / "bundle", tmp_path / "copy")
    model = next(Path(copy).glob("model.*"))
    model.write_bytes(model.read_bytes()[:-1])
    said = refused(cli, "run", copy, "--source", finished.inputs.video)
    assert "was changed after it was written" in said
