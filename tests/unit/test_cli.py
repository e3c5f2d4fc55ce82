"""The command: its verbs, its exit codes and its one-line messages."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from command_line import SACCADE, Cli, Inputs, document, refused
from tiny_system import write_labels

from saccade.cli import app as command

VERBS = (
    "optimize",
    "init",
    "doctor",
    "baseline",
    "profile",
    "diagnose",
    "plan",
    "compare",
    "validate",
    "run",
    "report",
    "demo",
)


# Verbs and help


def test_every_verb_of_the_issue_exists() -> None:
    assert set(VERBS) <= set(command.VERBS)
    assert set(typer.main.get_command(command.app).commands) == set(command.VERBS)  # type: ignore[attr-defined]


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every verb that does something, those of `saccade train` too."""
    for name, found in group.commands.items():
        if hasattr(found, "commands"):
            yield from commands(found, (*path, name))
        else:
            yield (*path, name), found


ALL = dict(commands(typer.main.get_command(command.app)))


@pytest.mark.parametrize("verb", ALL, ids=" ".join)
def test_help_has_an_example_whose_flags_exist(cli: Cli, verb: tuple[str, ...]) -> None:
    outcome = cli(*verb, "--help")
    assert (outcome.code, outcome.err) == (0, "")
    text = " ".join(outcome.out.split())
    assert f"Example: saccade {' '.join(verb)}" in text
    example = text.partition("Example: ")[2].partition("╭")[0]
    options = ALL[verb].params
    known = {flag for option in options for flag in option.opts}
    assert set(re.findall(r"--[a-z-]+", example)) <= known
    assert "--json" in known


def test_help_shows_brackets_as_they_are(cli: Cli) -> None:
    assert "saccade[demo]" in cli("demo", "--help").out


def test_the_command_alone_shows_its_verbs(cli: Cli) -> None:
    outcome = cli()
    assert (outcome.code, outcome.err) == (2, "")
    assert all(verb in outcome.out for verb in VERBS)


def test_the_installed_command_is_this_one() -> None:
    done = subprocess.run([*SACCADE, "report", "--help"], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--frob",), "No such option: --frob"),
        (("frob",), "No such command 'frob'"),
        (("optimize", "--bugdet", "5m"), "--budget"),
        (("optimize", "--model"), "requires an argument"),
        (("run",), "Missing argument"),
        (("run", "x", "--source", "y", "--limit", "0"), "'--limit'"),
        (("run", "x", "--source", "y", "--score", "2"), "'--score'"),
    ],
)
def test_wrong_usage_is_one_line_that_points_to_the_help(
    cli: Cli, arguments: tuple[str, ...], says: str
) -> None:
    outcome = cli(*arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert says in outcome.message
    assert "--help`." in outcome.message


# Bad input: exit code 2, one line, nothing on stdout


def test_nothing_to_do(cli: Cli) -> None:
    assert "`saccade init` writes a spec" in refused(cli, "optimize")


def test_a_missing_model(cli: Cli, inputs: Inputs, tmp_path: Path) -> None:
    flags = ("--model", tmp_path / "none.onnx", "--video", inputs.video, "--out", tmp_path / "run")
    said = refused(cli, "optimize", *flags, "--json")
    assert "There is no model file at" in said
    assert "Check the path" in said


@pytest.mark.parametrize("keep", [0, 10, 0.5])
def test_a_corrupt_model(cli: Cli, inputs: Inputs, tmp_path: Path, keep: float) -> None:
    content = inputs.model.read_bytes()
    inputs.model.write_bytes(content[: int(len(content) * keep) if keep < 1 else int(keep)])
    said = refused(cli, "optimize", *inputs.flags, "--out", tmp_path / "run")
    assert re.search(r"Export or download it again|export or download it again", said)


@pytest.mark.realdata
def test_a_model_that_is_no_detector(
    cli: Cli, data_root: Path, inputs: Inputs, tmp_path: Path
) -> None:
    model = data_root.parent / "models" / "espnet_camvid_360x480.onnx"
    flags = ("--model", model, "--video", inputs.video, "--out", tmp_path / "run")
    assert "is not a detector" in refused(cli, "optimize", *flags)


@pytest.mark.parametrize("flag", ["--data", "--video"])
def test_a_folder_without_images(cli: Cli, inputs: Inputs, tmp_path: Path, flag: str) -> None:
    (tmp_path / "empty").mkdir()
    given = ("--model", inputs.model, flag, tmp_path / "empty", "--out", tmp_path / "run")
    said = refused(cli, "optimize", *given)
    assert "image" in said
    assert "empty" in said


@pytest.mark.parametrize("flag", ["--data", "--video"])
def test_an_input_that_is_not_there(cli: Cli, inputs: Inputs, tmp_path: Path, flag: str) -> None:
    given = ("--model", inputs.model, flag, tmp_path / "none", "--out", tmp_path / "run")
    assert "does not exist. Check the spelling" in refused(cli, "optimize", *given)


def test_label_classes_that_the_model_does_not_have(
    cli: Cli, inputs: Inputs, tmp_path: Path
) -> None:
    data = write_labels(tmp_path / "wrong", class_id=7)
    said = refused(cli, "optimize", *inputs.flags, "--data", data, "--out", tmp_path / "run")
    assert "7" in said
    assert "class" in said


@pytest.mark.parametrize(
    ("goal", "says"),
    [
        ("map50_95>=1.5", "cannot be met by any system"),
        ("map50_95_drop<=-0.1", "cannot be met"),
        ("throughput_fps<=60", "asks for a worse system"),
        ("troughput_fps>=60", "Did you mean 'throughput_fps'"),
        ("map50_95_drop<=0.01", "needs labelled images"),
        ("map50>=0.5", "set a goal on 'agreement'"),
    ],
)
def test_goals_that_cannot_be_met_or_judged(
    cli: Cli, inputs: Inputs, tmp_path: Path, goal: str, says: str
) -> None:
    flags = ("--goal", goal, "--out", tmp_path / "run")
    assert says in refused(cli, "optimize", *inputs.flags, *flags)


def test_an_unknown_setting_in_a_spec(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("model: m.onnx\nbugdet: 5m\n", encoding="utf-8")
    said = refused(cli, "optimize", tmp_path / "s.yaml", "--out", tmp_path / "run")
    assert said == "saccade: Unknown setting 'bugdet'. Did you mean 'budget'?"


def test_a_spec_that_is_no_yaml(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("model: [m\n", encoding="utf-8")
    assert "is not valid YAML" in refused(cli, "plan", tmp_path / "s.yaml")
    assert "cannot be read" in refused(cli, "plan", tmp_path / "none.yaml")


@pytest.mark.parametrize("verb", ["optimize", "baseline", "profile", "diagnose", "plan"])
def test_a_folder_of_somebody_elses_is_left_alone(
    cli: Cli, inputs: Inputs, tmp_path: Path, verb: str
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "spec.yaml").write_text("# my notes\nmodel: tiny.onnx\n", encoding="utf-8")
    said = refused(cli, verb, *inputs.flags, "--out", mine)
    assert "holds no saccade run. Nothing was changed; choose another --out" in said
    assert [path.name for path in mine.iterdir()] == ["spec.yaml"]
    assert (mine / "spec.yaml").read_text(encoding="utf-8").startswith("# my notes")


def test_another_job_is_not_mixed_into_a_run_but_a_slip_may_be_corrected(
    cli: Cli, inputs: Inputs, tmp_path: Path
) -> None:
    run = ("--out", tmp_path / "run")
    typo = ("--model", tmp_path / "tyni.onnx", "--video", inputs.video)
    refused(cli, "optimize", *typo, *run)
    inputs.model.write_bytes(b"broken")
    assert "cannot be read as an ONNX model" in refused(cli, "optimize", *inputs.flags, *run)
    (tmp_path / "run" / "baseline.json").write_text("{}", encoding="utf-8")
    assert "holds a run with another model" in refused(cli, "optimize", *typo, *run)


def test_ctrl_c_promises_nothing_where_nothing_is_kept(
    cli: Cli, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("saccade.playbook.judge.judge_bundle", stopped)
    said = refused(cli, "validate", "bundle", "--data", inputs.data, code=4)
    assert said == "saccade: Interrupted."


def test_the_traceback_is_in_the_run_folder(cli: Cli, inputs: Inputs, tmp_path: Path) -> None:
    inputs.model.write_bytes(b"broken")
    refused(cli, "optimize", *inputs.flags, "--out", tmp_path / "run")
    log = (tmp_path / "run" / "error.log").read_text(encoding="utf-8")
    assert "Traceback" in log
    assert "ModelError" in log


def test_a_full_disk(cli: Cli, inputs: Inputs, tiny_disk: Path) -> None:
    out = tiny_disk / "run"
    out.mkdir()
    with contextlib.suppress(OSError):
        (tiny_disk / "filler").write_bytes(b"x" * 100_000)
    said = refused(cli, "optimize", *inputs.flags, "--out", out, code=1)
    assert "The disk is full" in said
    assert "Free some space and run the same command again" in said
    (tiny_disk / "filler").unlink()
    inputs.model.write_bytes(b"broken")
    assert "cannot be read" in refused(cli, "optimize", *inputs.flags, "--out", out)


def test_an_error_nobody_expected_is_one_line_and_exit_code_1(
    cli: Cli, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError("first line\nsecond line")

    monkeypatch.setattr("saccade.tasks.detection.DetectionTask.describe", fail)
    flags = (*inputs.flags, "--out", tmp_path / "run")
    assert refused(cli, "plan", *flags, code=1) == (
        "saccade: ZeroDivisionError: first line second line"
    )
    assert "ZeroDivisionError" in (tmp_path / "run" / "error.log").read_text(encoding="utf-8")


@pytest.mark.parametrize("verb", ["report", "run", "validate", "compare"])
def test_verbs_on_what_is_no_run_or_bundle(
    cli: Cli, inputs: Inputs, tmp_path: Path, verb: str
) -> None:
    more: dict[str, tuple[object, ...]] = {
        "report": (),
        "run": ("--source", inputs.video),
        "validate": ("--data", inputs.data),
        "compare": (tmp_path / "none", "--video", inputs.video),
    }
    said = refused(cli, verb, tmp_path / "none", *more[verb], "--json")
    assert "holds no finished run" in said or "is not a bundle" in said
    assert not (tmp_path / "none").exists()


# Specs


def test_init_writes_a_spec_that_reads_back(cli: Cli, inputs: Inputs, tmp_path: Path) -> None:
    spec = tmp_path / "new" / "s.yaml"
    outcome = cli("init", *inputs.flags, "--data", inputs.data, "--out", spec, "--json")
    assert outcome.code == 0
    facts = document(outcome.out)
    assert facts["spec"] == str(spec)
    assert facts["data"] == {"calibration": 2, "selection": 3, "report": 3}
    assert facts["video"]["width"] == 128
    text = spec.read_text(encoding="utf-8")
    assert text.count("#") > 10
    values = yaml.safe_load(text)
    assert {"model", "data", "video", "goals", "budget"} <= set(values)
    said = refused(cli, "init", *inputs.flags, "--out", spec)
    assert "exists and was left alone" in said
    assert spec.read_text(encoding="utf-8") == text


def test_flags_override_a_spec_and_fill_it_in(
    cli: Cli, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "s.yaml").write_text(
        "video: ../v.mp4\nmodel: wrong.onnx\nbudget: 10s\n", encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)
    inputs.model.write_bytes(b"broken")
    refused(cli, "optimize", "sub/s.yaml", "--model", "tiny.onnx", "--out", "run")
    written = yaml.safe_load((tmp_path / "run" / "spec.yaml").read_text(encoding="utf-8"))
    assert written["model"] == str(inputs.model)
    assert written["video"] == str(inputs.video)
    assert written["budget"] == 10
    (tmp_path / "sub" / "half.yaml").write_text("video: ../v.mp4\n", encoding="utf-8")
    said = refused(cli, "optimize", "sub/half.yaml", "--model", "tiny.onnx", "--out", "run2")
    assert "cannot be read as an ONNX model" in said


def test_doctor_speaks_json(cli: Cli) -> None:
    outcome = cli("doctor", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    found = document(outcome.out)
    assert found["environment"]["cores"] >= 1
    assert found["runtimes"]["onnxruntime"]["ok"] is True
