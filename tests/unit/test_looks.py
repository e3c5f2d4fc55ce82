"""How the frames of a dynamic resolution were looked at: counted, told, and left out elsewhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import pytest
from sample_result import sample_result
from test_playbook_result import block
from test_report_console import _summary
from tiny_system import picture

from saccade.deploy.running import run_source
from saccade.looks import counted, in_words, shares
from saccade.optimize.measuring import Subject
from saccade.optimize.race import RaceResult, compare_blocks, cpu_comparison
from saccade.optimize.referee import Judgement
from saccade.optimize.verdicts import decided, with_judgement
from saccade.pipeline.config import PipelineConfig, ResolutionPolicy
from saccade.pipeline.pipeline import Pipeline
from saccade.report.html import render_html
from saccade.study import Trial, block_from_dict, to_json
from saccade.testing.tiny_models import tiny_config


def test_shares_are_of_all_frames() -> None:
    counts = [counted(["small", "full", "small"]), counted(["as before"]), {}]
    assert shares(counts) == {"small": 0.5, "full": 0.25, "as before": 0.25}
    assert counted([None, None]) == {} and shares([{}]) == {} and in_words({}) == ""


def test_shares_in_words() -> None:
    always = in_words({"full": 1.0})
    assert "for 0% of the frames the small look was enough" in always
    assert "100% were looked at twice" in always and "nothing had moved" not in always
    assert "25% got the last full look's result" in in_words(
        {"small": 0.5, "full": 0.25, "as before": 0.25}
    )


# From the pipeline to whoever asks


@pytest.fixture
def config(tmp_path: Path) -> PipelineConfig:
    """A still picture that is always in doubt: one full look, then none."""
    folder = tmp_path / "still"
    folder.mkdir()
    for index in range(6):
        cv2.imwrite(str(folder / f"{index}.png"), picture(0, (48, 96)))
    policy = ResolutionPolicy(32, 0.0, 2.0, still_up_to=0.01)
    return tiny_config(tmp_path, preprocessor="fused", dynamic_resolution=policy)


def test_a_block_counts_the_looks_of_its_measured_frames(
    config: PipelineConfig, tmp_path: Path
) -> None:
    source = str(tmp_path / "still")
    subject = Subject(config, source)
    try:
        found = subject.block(4, 1).block
    finally:
        subject.close()
    assert found.looks == {"as before": 4}  # the full one was in the frame before
    plain = Subject(replace(config, dynamic_resolution=None), source)
    try:
        assert plain.block(2, 1).block.looks == {}
    finally:
        plain.close()


def test_a_run_says_how_often_it_looked(config: PipelineConfig, tmp_path: Path) -> None:
    video = tmp_path / "still.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 10, (96, 48))
    for _ in range(4):
        writer.write(picture(0, (48, 96)))
    writer.release()
    with Pipeline(config) as pipeline:
        assert run_source(pipeline, str(video), None, None)["looks"] == {
            "full": 0.25,
            "as before": 0.75,
        }
    with Pipeline(replace(config, dynamic_resolution=None)) as pipeline:
        assert run_source(pipeline, str(video), None, None)["looks"] == {}


# In the trial, and at the end


def test_a_trial_says_how_the_frames_of_its_race_were_looked_at() -> None:
    before = [block(0.2)] * 4
    after = [replace(block(0.1), looks={"small": 1, "full": 9})] * 4
    speeds = compare_blocks(after, before, "throughput", 0.0)
    result = RaceResult(tuple(before), tuple(after), speeds, cpu_comparison(after, before))
    draft = Trial(1, 0, "dynamic_resolution: 50% first", "dynamic_resolution", {}, "a", "b",
                  "failed", "")  # fmt: skip

    def judge(trial: Trial) -> Trial:
        return with_judgement(trial, Judgement(True, ""))

    trial = decided(draft, result, (), (1.0, 1.0), judge)
    assert trial.verdict == "worse" and "90% were looked at twice" in trial.reason
    stored = Trial.from_dict(trial.to_dict())
    assert [b.looks for b in stored.blocks] == [b.looks for b in after]


def test_blocks_of_before_looks_were_counted_are_read() -> None:
    document: dict[str, Any] = {**vars(block(0.1))}
    del document["looks"]
    assert block_from_dict(document).looks == {}


def dynamic_result() -> dict[str, Any]:
    result = sample_result()
    policy = {"small_size": 320, "doubt_above": 0.05, "sure_from": 0.6, "still_up_to": 0.02}
    result["best"]["config"] = {"input_size": 640, "dynamic_resolution": policy}
    result["best"]["looks"] = {"small": 0.7, "full": 0.3}
    return result


def test_console_and_page_say_what_the_policy_does() -> None:
    said = " ".join(_summary(dynamic_result(), 140).split())
    for text in (said, render_html(dynamic_result())):
        assert "each frame at 320 px, and again at 640 px where a box scores between" in text
        assert "0.05 and 0.6, unless nothing changed by more than 2% of full brightness" in text
        assert "for 70% of the frames the small look was enough" in text
    assert "Dynamic resolution" not in _summary(sample_result(), 140)
    assert "Dynamic resolution" not in render_html(sample_result())


def test_the_console_has_accuracy_by_object_size_of_what_looks_at_other_pixels() -> None:
    result = sample_result()
    sizes = {"small": {"objects": 40, "baseline": 0.25, "candidate": 0.125}}
    result["trials"][0]["by_size"] = sizes
    output = _summary(result, 140)
    assert "Accuracy by object size" in output and "0.250 → 0.125" in output
    assert "Accuracy by object size" not in _summary(sample_result(), 140)
    assert to_json(result)
