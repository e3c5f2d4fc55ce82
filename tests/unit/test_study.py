"""Trials and the run folder: whole or not at all, nothing of anybody else's, resumable."""

from __future__ import annotations

import errno
import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade.errors import InputError, StorageError
from saccade.measurement import Block
from saccade.study import (
    Drop,
    Ratio,
    RunFolder,
    Study,
    Trial,
    finite,
    storage_errors,
    to_json,
)

BLOCK = Block(
    emitted_s=(0.0, 0.1, 0.25),
    latency_ms=(100.0, 150.0),
    cpu_s=0.3,
    busy_share=0.9,
    stage_ms={"decode": (1.0, 2.0), "infer": (3.0, 4.0)},
    peak_rss_mb=120.5,
    warmup_s=(0.01,),
)
TRIAL = Trial(
    number=1,
    parent=0,
    change="precision: bf16",
    name="bf16",
    config={"model": {"path": "größe.onnx"}},
    config_hash="a",
    parent_hash="b",
    verdict="better",
    reason="ratio 1.5",
    kept=True,
    predicted_gain=1.4,
    gain=Ratio(1.5, 1.4, 1.6),
    metrics={"throughput_fps": 60.0, "latency_ms.p99": None},
    drop=Drop("map50_95", 0.001, -0.002, 0.004, 0.95, 64),
    blocks=(BLOCK,),
    parent_blocks=(BLOCK, BLOCK),
)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


def test_a_document_carries_the_schema_version_and_comes_back(run: RunFolder) -> None:
    run.write_json("a.json", {"ä": [1, 2.5, None], "path": Path("x")})
    assert run.read_json("a.json") == {"schema_version": 1, "ä": [1, 2.5, None], "path": "x"}
    assert "ä" in (run.path / "a.json").read_text(encoding="utf-8")


def test_what_json_cannot_hold_becomes_null(run: RunFolder) -> None:
    values = {"a": math.inf, "b": [math.nan, np.float32(1.5), np.int64(3)], "c": {"d": -math.inf}}
    run.write_json("a.json", values)
    text = (run.path / "a.json").read_text(encoding="utf-8")
    document = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert document == {"schema_version": 1, "a": None, "b": [None, 1.5, 3], "c": {"d": None}}


def test_a_file_name_that_is_not_utf8_can_be_written(run: RunFolder) -> None:
    name = os.fsdecode(b"caf\xe9.onnx")
    run.write_json("a.json", {"name": name})
    assert run.read_json("a.json") == {"schema_version": 1, "name": name}
    run.append_trial(replace(TRIAL, change=name))
    assert run.trials()[0].change == name


@pytest.mark.parametrize("content", [None, b"", b"{", b"[1]", b"null", b"\xff\xfe"])
def test_an_unreadable_document_is_none(run: RunFolder, content: bytes | None) -> None:
    if content is not None:
        (run.path / "a.json").write_bytes(content)
    assert run.read_json("a.json") is None


def test_a_write_that_fails_leaves_the_old_document_and_nothing_else(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.write_json("a.json", {"old": True})
    before = contents(run.path)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(StorageError, match=r"disk is full.*Free some space"):
        run.write_json("a.json", {"old": False})
    assert contents(run.path) == before


def test_a_full_disk_is_a_storage_error_and_loses_nothing(tiny_disk: Path) -> None:
    run = RunFolder(tiny_disk / "run")
    run.write_json("result.json", {"status": "met"})
    run.append_trial(TRIAL)
    long = replace(TRIAL, reason="x" * 100_000)
    with pytest.raises(StorageError, match="disk is full") as caught:
        run.write_json("result.json", {"status": "y" * 100_000})
    assert caught.value.exit_code == 1
    with pytest.raises(StorageError, match=r"trials\.jsonl.*resumes where it stopped"):
        run.append_trial(long)
    assert run.read_json("result.json") == {"schema_version": 1, "status": "met"}
    assert run.trials() == [TRIAL]
    assert not list(run.path.glob(".result*"))


def test_a_run_goes_on_where_a_full_disk_cut_a_line(tiny_disk: Path) -> None:
    run = RunFolder(tiny_disk / "run")
    with pytest.raises(StorageError):
        run.append_trial(replace(TRIAL, reason="x" * 100_000))
    trials = run.path / "trials.jsonl"
    os.truncate(trials, min(1000, trials.stat().st_size))
    run.append_trial(TRIAL)
    assert run.trials() == [TRIAL]


def test_writing_to_a_full_device_says_so() -> None:
    device = Path("/dev/full")
    if not device.exists():
        pytest.skip("there is no /dev/full here")
    with pytest.raises(StorageError, match="disk is full"), storage_errors(device):
        device.write_text("x", encoding="utf-8")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EIO])
def test_other_refusals_name_the_reason(number: int) -> None:
    with (
        pytest.raises(StorageError, match=f"{os.strerror(number)}. Choose another --out"),
        storage_errors(Path("x")),
    ):
        raise OSError(number, os.strerror(number))


def test_a_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    for name in ("notes.txt", "spec.yaml", "result.json", "environment.json"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_text('{"mine": true, "schema_version": 3}', encoding="utf-8")
        before = contents(folder)
        with pytest.raises(InputError, match=r"holds no saccade run. Nothing was changed"):
            RunFolder(folder)
        assert contents(folder) == before


def test_a_file_is_no_run_folder(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("x", encoding="utf-8")
    with pytest.raises(InputError, match="is a file"):
        RunFolder(path)
    with pytest.raises(StorageError, match="could not be written"):
        RunFolder(path / "below")


def test_a_folder_name_that_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="File name too long"):
        RunFolder(tmp_path / ("x" * 300))


def test_a_run_folder_is_known_again(tmp_path: Path) -> None:
    RunFolder(tmp_path / "run").write_text("spec.yaml", "model: m\n")
    assert RunFolder.holds_run(tmp_path / "run")
    assert RunFolder(tmp_path / "run").path.is_dir()


def test_a_run_that_was_copied_without_its_hidden_marker_is_known(tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    folder.mkdir()
    environment = {"schema_version": 1, "cpu_model": "x", "hash": "y"}
    (folder / "environment.json").write_text(json.dumps(environment), encoding="utf-8")
    assert RunFolder.holds_run(folder)


def test_trials_come_back_as_they_were(run: RunFolder) -> None:
    failed = Trial(2, 1, "x", "y", {}, "", "a", "failed", "it crashed")
    run.append_trial(TRIAL)
    run.append_trial(failed)
    assert run.trials() == [TRIAL, failed]


def test_a_rerun_goes_on_counting_and_puts_nothing_on_record_twice(run: RunFolder) -> None:
    assert run.record_trial(TRIAL) == run.record_trial(TRIAL) == TRIAL
    again = run.record_trial(replace(TRIAL, reason="ratio 1.6"))
    assert again.number == 2
    assert run.trials() == [TRIAL, again]


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_text_in_a_trial_survives_one_line(reason: str, change: str) -> None:
    trial = replace(TRIAL, reason=reason, change=change)
    line = to_json(trial.to_dict())
    assert "\n" not in line
    assert Trial.from_dict(json.loads(line.encode())) == trial


def test_text_that_only_looks_like_a_line_end_splits_nothing(run: RunFolder) -> None:
    trial = replace(TRIAL, reason="a\u2028b\x85c\x0bd")
    run.append_trial(trial)
    assert run.trials() == [trial]


def test_a_last_line_cut_anywhere_costs_that_trial_only(run: RunFolder) -> None:
    run.append_trial(TRIAL)
    run.append_trial(replace(TRIAL, number=2, reason="é" * 20))
    path = run.path / "trials.jsonl"
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    tail_of_text = whole.rindex("é".encode()) + 1  # within a character
    for size in (first + 1, first + 50, tail_of_text, len(whole) - 2):
        path.write_bytes(whole[:size])
        assert run.trials() == [TRIAL]
        run.append_trial(replace(TRIAL, number=3))
        assert [trial.number for trial in run.trials()] == [1, 3]


@pytest.mark.parametrize("line", ["null", "[]", '"x"', "{}", '{"number": 1}', "3", ""])
def test_lines_that_are_no_trials_are_passed_over(run: RunFolder, line: str) -> None:
    (run.path / "trials.jsonl").write_text(f"{line}\n", encoding="utf-8")
    run.append_trial(TRIAL)
    assert run.trials() == [TRIAL]


def test_no_trials_file_is_no_trials(run: RunFolder) -> None:
    assert run.trials() == []


def test_a_study_is_loaded_with_what_a_reader_wants(run: RunFolder) -> None:
    run.write_json(
        "result.json",
        {
            "status": "met",
            "best": {"trial": 1},
            "pareto": [{"trial": 1, "front": True}, {"trial": 2, "front": False}],
            "rejected": [],
        },
    )
    run.append_trial(TRIAL)
    study = Study.load(run.path)
    assert (study.status, study.best, study.trials) == ("met", {"trial": 1}, (TRIAL,))
    assert (study.pareto, study.rejected, study.bundle) == ([{"trial": 1, "front": True}], [], None)
    (run.path / "bundle").mkdir()
    assert study.bundle == run.path / "bundle"


def test_loading_what_is_no_run_says_so_and_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no finished run"):
        Study.load(tmp_path / "absent")
    assert not (tmp_path / "absent").exists()
    (tmp_path / "result.json").write_text('{"x": 1}', encoding="utf-8")
    with pytest.raises(InputError, match="holds no finished run"):
        Study.load(str(tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


def test_finite_leaves_finite_documents_as_they_are() -> None:
    document = {"a": [1, 2.5, "x", None, True], "b": {"c": []}}
    assert finite(document) == document
