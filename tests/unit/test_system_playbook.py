"""Two tasks from a spec to a bundle: what is refused, what is written, what is shown."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from rich.console import Console
from sample_result import sample_result
from test_sharing_stages import SHARINGS, as_fused
from tiny_system import picture, write_video

import saccade
from saccade.deploy.bundle import bundle_config, read_manifest, system_config, write_system_bundle
from saccade.deploy.running import run_source
from saccade.errors import BundleError, DataError, GoalError, SpecError
from saccade.optimize.sharing.one_pass import OnePass
from saccade.pipeline.system import SystemConfig
from saccade.pipeline.system_pipeline import SystemPipeline
from saccade.playbook import system as system_playbook
from saccade.playbook.prepare import check_alone
from saccade.playbook.system import _second_spec
from saccade.report.console import summary
from saccade.report.html import render_html
from saccade.report.systems import not_shared, task_rows
from saccade.spec import Spec, make_spec
from saccade.testing.sharing_conformance import tiny_context, tiny_parts

FIRST = {"task": "detection", "model": "a.onnx", "video": "v.mp4"}
ALSO = {"task": "segmentation", "model": "b.onnx", "data": "masks"}


def refused(also: Any, **changes: Any) -> str:
    with pytest.raises(SpecError) as caught:
        make_spec({**FIRST, "also": also, **changes})
    assert "\n" not in str(caught.value)
    return str(caught.value)


# What the user asks


def test_a_second_system_has_settings_of_its_own(tmp_path: Path) -> None:
    spec = make_spec({**FIRST, "also": ALSO}, tmp_path)
    assert spec.also is not None and spec.also.model == str(tmp_path / "b.onnx")
    assert spec.also.data == tmp_path / "masks"
    assert make_spec(spec.document()) == spec


def test_a_second_system_may_be_in_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    document = {**ALSO, "video": "../v.mp4", "budget": "5m", "target": "cpu"}
    (tmp_path / "sub" / "second.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    spec = make_spec({**FIRST, "also": "sub/second.yaml"}, tmp_path)
    assert spec.also is not None and spec.also.model == str(tmp_path / "sub" / "b.onnx")


def test_a_spec_without_a_second_system_does_not_speak_of_it() -> None:
    assert "also" not in make_spec(FIRST).document()


@pytest.mark.parametrize(
    ("also", "said"),
    [
        ({**ALSO, "task": "detection"}, "both systems are for detection"),
        ({**ALSO, "task": "tracking"}, "tracking needs frames in a row"),
        ({**ALSO, "video": "other.mp4"}, "the same frames"),
        ({**ALSO, "modle": "c.onnx"}, "Did you mean 'model'"),
        ({"task": "segmentation"}, "also.model"),
        ({**ALSO, "overrides": {"sclae": 1}}, "Did you mean 'scale'"),
    ],
)
def test_systems_that_do_not_go_together_are_refused(also: Any, said: str) -> None:
    assert said in refused(also)


def test_a_first_system_that_tracks_is_refused_too() -> None:
    assert "tracking needs frames in a row" in refused(ALSO, task="tracking")


def test_a_file_that_is_not_there_is_named() -> None:
    assert "second.yaml" in refused("second.yaml")


def test_goals_of_speed_are_those_of_both_together() -> None:
    with pytest.raises(GoalError, match="beside 'also'"):
        make_spec({**FIRST, "also": {**ALSO, "goals": ["throughput_fps>=30"]}})


def test_the_second_system_runs_on_the_frames_of_the_first() -> None:
    goals = ["throughput_fps>=30", "map50_95_drop<=0.01"]
    also = {**ALSO, "goals": ["miou_drop<=0.02"]}
    models = {"candidates": ["c.onnx"], "students": ["torchvision:resnet18"]}
    second = _second_spec(make_spec({**FIRST, **models, "goals": goals, "also": also}), "/frames")
    assert second.video == "/frames" and second.task == "segmentation" and second.also is None
    assert second.goals == ("miou_drop<=0.02", "throughput_fps>=30")
    assert second.candidates == second.students == ()


def test_both_are_looked_at_before_either_is_improved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(spec: Spec, *_: Any) -> Any:
        if spec.task == "segmentation":
            raise DataError("no masks")
        return SimpleNamespace(source=spec.video)

    monkeypatch.setattr(system_playbook, "job_of", look)
    monkeypatch.setattr(system_playbook, "improve", lambda *_: pytest.fail("was improved"))
    spec = make_spec({**FIRST, "also": ALSO}, tmp_path)
    with pytest.raises(DataError, match="no masks"):
        saccade.optimize(spec, out=tmp_path / "run")


def test_other_verbs_say_that_they_take_one_system() -> None:
    with pytest.raises(SpecError, match="only `saccade optimize` takes"):
        check_alone(make_spec({**FIRST, "also": ALSO}))
    check_alone(make_spec(FIRST))


def test_a_target_that_is_not_at_hand_is_refused(cli: Any, tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    document = {**FIRST, "target": "rpi5", "also": ALSO}
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    outcome = cli("optimize", path, "--out", tmp_path / "run")
    assert outcome.code == 2 and "at hand" in outcome.err


def test_the_command_takes_the_second_spec(cli: Any, tmp_path: Path) -> None:
    second = tmp_path / "second.yaml"
    second.write_text(yaml.safe_dump({**ALSO, "task": "detection"}), encoding="utf-8")
    outcome = cli("optimize", "--model", "a.onnx", "--video", "v.mp4", "--also", second)
    assert outcome.code == 2 and "both systems are for detection" in outcome.err


# The bundle


@pytest.fixture
def system(tmp_path: Path) -> SystemConfig:
    first, second = (as_fused(part) for part in tiny_parts(tmp_path))
    return SystemConfig((first, second), SHARINGS["preprocess"])


def test_a_bundle_is_one_pipeline_for_both(system: SystemConfig, tmp_path: Path) -> None:
    bundle = write_system_bundle(system, {"changes": []}, tmp_path / "run" / "bundle")
    assert {path.name for path in bundle.iterdir()} >= {
        "detection.onnx",
        "segmentation.onnx",
        "labels-detection.txt",
        "labels-segmentation.txt",
    }
    assert system_config(bundle) is not None
    with saccade.load(tmp_path / "run") as pipeline, SystemPipeline(system) as original:
        assert isinstance(pipeline, SystemPipeline) and pipeline.config.hash == system.hash
        found, expected = pipeline(picture()), original(picture())
    assert np.array_equal(found["detection"].boxes, expected["detection"].boxes)
    assert np.array_equal(found["segmentation"].mask, expected["segmentation"].mask)


def test_overrides_are_for_both(system: SystemConfig, tmp_path: Path) -> None:
    bundle = write_system_bundle(system, {}, tmp_path / "bundle")
    with saccade.load(bundle, score_threshold=0.9) as pipeline:
        assert isinstance(pipeline, SystemPipeline)
        assert [part.score_threshold for part in pipeline.config.parts] == [0.9, 0.9]
    with pytest.raises(BundleError, match="Unknown setting"):
        saccade.load(bundle, threshold=0.9)


def test_a_model_for_both_is_in_the_bundle_once(system: SystemConfig, tmp_path: Path) -> None:
    context = tiny_context(system.parts, tmp_path, str(write_video(tmp_path / "v.mp4")))
    context = replace(context, config=system)
    bundle = write_system_bundle(OnePass().apply(context), {}, tmp_path / "bundle")
    assert [path.name for path in bundle.glob("*.onnx")] == ["both.onnx"]
    with saccade.load(bundle) as pipeline:
        assert set(pipeline(picture())) == {"detection", "segmentation"}


def test_a_bundle_that_was_changed_is_refused(system: SystemConfig, tmp_path: Path) -> None:
    bundle = write_system_bundle(system, {}, tmp_path / "bundle")
    read_manifest(bundle)
    (bundle / "segmentation.onnx").write_bytes(b"other")
    with pytest.raises(BundleError, match="does not"):
        saccade.load(bundle)


def test_where_one_task_is_expected_a_bundle_of_two_is_named(
    system: SystemConfig, tmp_path: Path
) -> None:
    bundle = write_system_bundle(system, {}, tmp_path / "bundle")
    with pytest.raises(BundleError, match="detection and segmentation at once"):
        bundle_config(bundle)


def test_it_runs_on_a_video_and_draws_both(system: SystemConfig, tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.mp4")
    with SystemPipeline(system) as pipeline:
        document = run_source(pipeline, str(video), tmp_path / "out.mp4", 5)
        with pytest.raises(DataError, match="does not track"):
            run_source(pipeline, str(video), None, 5, tmp_path / "tracks.txt")
    assert document["frames"] == 5 and (tmp_path / "out.mp4").stat().st_size > 0
    tasks = {name.partition(":")[0] for name in document["classes"]}
    assert tasks == {"detection", "segmentation"}


def test_it_runs_on_a_folder_of_images(system: SystemConfig, tmp_path: Path) -> None:
    from PIL import Image

    folder = tmp_path / "images"
    folder.mkdir()
    Image.fromarray(picture()).save(folder / "a.png")
    (folder / "b.png").write_bytes(b"no image")
    with SystemPipeline(system) as pipeline:
        document = run_source(pipeline, str(folder), tmp_path / "out", None)
    assert document["frames"] == 1 and (tmp_path / "out" / "a.png").is_file()
    assert document["problems"][0]["kind"] == "unreadable_image"


# The report


def document_of_two() -> dict[str, Any]:
    drop = {"estimate": 0.001, "lower": -0.002, "upper": 0.004, "level": 0.975, "images": 40}
    own = {"run": "runs/x/<seg>", "changes": ["bf16"], "speedup": 1.8, "interval": [1.7, 1.9]}
    row = {
        "task": "segmentation",
        "model": "/models/<b>.onnx",
        "metric": "miou",
        "allowed": 0.02,
        "baseline": 0.717,
        "best": 0.716,
        "drop": drop,
        "own": own,
    }
    reason = "the models see a frame in other geometries"
    return {
        **sample_result(),
        "systems": [{**row, "task": "detection", "metric": "map50_95"}, row],
        "inapplicable": [{"change": "one_pass", "reason": reason}],
    }


def test_the_report_shows_both_tasks_and_what_was_not_shared() -> None:
    document = document_of_two()
    rows = task_rows(document)
    assert [row.task for row in rows] == ["detection", "segmentation"]
    assert rows[1].after == "0.716" and "1.8" in rows[1].own and "bf16" in rows[1].own
    page = render_html(document)
    assert "Two tasks on the same frames" in page and "other geometries" in page
    assert "&lt;b&gt;.onnx" in page and "<b>.onnx" not in page
    said = StringIO()
    summary(document, Console(file=said, width=160))
    assert "Two tasks on the same frames" in said.getvalue()
    assert "not shared: one_pass" in said.getvalue()


def test_a_report_of_one_task_says_nothing_of_two() -> None:
    assert not task_rows(sample_result()) and not not_shared(sample_result())
    assert "Two tasks" not in render_html(sample_result())


def test_a_report_is_written_of_whatever_there_is() -> None:
    page = render_html({**sample_result(), "systems": [{}], "inapplicable": [{}]})
    assert "Two tasks on the same frames" in page


def test_specs_are_values() -> None:
    assert Spec.model_validate({**FIRST, "also": ALSO}).also is not None
    assert json.dumps(make_spec({**FIRST, "also": ALSO}).document())
