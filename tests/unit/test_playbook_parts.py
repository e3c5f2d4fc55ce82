"""The first steps of the playbook, from a spec to a job; finished things; the demo."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import pytest
import yaml
from tiny_system import FRAMES, write_labels, write_model, write_video

from saccade.deploy.bundle import write_bundle
from saccade.environment import Environment, detect
from saccade.errors import BundleError, DataError, GoalError, MissingExtraError, SpecError
from saccade.goals import parse_goal
from saccade.label_settings import LabelSettings
from saccade.optimize.float_versions import last_unquantized
from saccade.optimize.job import Job
from saccade.pipeline.config import PipelineConfig
from saccade.playbook import demo
from saccade.playbook.draft import draft_spec
from saccade.playbook.final import LATENCY_FRAMES, LEAST_LATENCY_FRAMES, fallbacks, more_frames
from saccade.playbook.judge import config_at, judge_bundle
from saccade.playbook.partial import start
from saccade.playbook.prepare import choose_source, guard_goal, prepare
from saccade.playbook.said import doubt_about
from saccade.progress import SilentProgress
from saccade.spec import make_spec
from saccade.study import RunFolder, Trial


class Notes(SilentProgress):
    """Keeps what it was told."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Any]:
    return {
        "model": write_model(tmp_path),
        "video": str(write_video(tmp_path / "v.mp4")),
        "data": write_labels(tmp_path / "data", images=12),
    }


def job_of(tmp_path: Path, **settings: Any) -> Job:
    return prepare(make_spec(settings), RunFolder(tmp_path / "run"), SilentProgress())


# Drafts


def test_a_draft_reads_back_from_where_it_lies(
    inputs: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "specs").mkdir()
    text, facts = draft_spec("tiny.onnx", Path("data/data.yaml"), "v.mp4", Path("specs"))
    spec = make_spec(yaml.safe_load(text), tmp_path / "specs")
    assert (Path(spec.model), spec.video, spec.data) == tuple(inputs.values())
    assert facts["labelled"] is True
    assert spec.goals == ("throughput_fps>=60", "map50_95_drop<=0.01")


def test_a_draft_of_a_model_alone_is_a_spec_too(inputs: dict[str, Any]) -> None:
    text, facts = draft_spec(str(inputs["model"]), None, None)
    assert make_spec(yaml.safe_load(text)).model == str(inputs["model"])
    assert "# video: street.mp4" in text
    assert "labelled" not in facts
    stream, _ = draft_spec(str(inputs["model"]), None, str(inputs["video"]))
    assert "128x96, h264, 25 FPS" in stream


def test_the_overrides_of_a_draft_change_nothing_when_they_are_uncommented(
    inputs: dict[str, Any], tmp_path: Path
) -> None:
    text, _ = draft_spec(str(inputs["model"]), None, inputs["video"])
    head, _, tail = text.partition("# overrides:")
    said = head + "overrides:" + tail.replace("\n# ", "\n")
    values = yaml.safe_load(said)
    assert {"decode", "input_size", "scale", "mean", "anchor"} <= set(values["overrides"])
    plain = job_of(tmp_path, model=inputs["model"], video=inputs["video"])
    explicit = prepare(make_spec(values), RunFolder(tmp_path / "run2"), SilentProgress())
    assert explicit.baseline.hash == plain.baseline.hash


def test_what_a_model_says_about_itself_stays_a_comment(tmp_path: Path) -> None:
    import onnx

    path = write_model(tmp_path)
    model = onnx.load(str(path))
    model.metadata_props.add(key="license", value="free\nbudget: 1s\n---")
    onnx.save(model, str(path))
    text, _ = draft_spec(path, None, None)
    assert "licence of the weights: free budget: 1s ---" in text
    assert make_spec(yaml.safe_load(text)).budget == 300


# From a spec to a job


def test_a_job_with_labels(inputs: dict[str, Any], tmp_path: Path) -> None:
    goals = ["map50_drop<=0.05", "latency_ms.p99<=20"]
    job = job_of(tmp_path, **inputs, goals=goals, score_threshold=0.3)
    assert (job.labelled, job.video, job.objective) == (True, True, "latency")
    assert job.roles is not None
    parts = (job.roles.calibration, job.roles.selection, job.roles.report)
    counts = [len(part or ()) for part in parts]
    assert sum(counts) == 12
    assert counts[0] == 3
    baseline = job.baseline
    assert (baseline.runtime, baseline.execution, baseline.nms) == (
        "onnxruntime",
        "sequential",
        "loop",
    )
    assert (baseline.shape, baseline.reader, baseline.preprocessor) == ("square", "opencv", "numpy")
    assert baseline.score_threshold == 0.3
    assert guard_goal(job) == parse_goal("map50_drop<=0.05")
    scores = RunFolder(tmp_path / "run").read_json("verification.json")
    assert scores is not None
    assert scores["scores"]


def test_without_labels_agreement_is_the_guard(inputs: dict[str, Any], tmp_path: Path) -> None:
    job = job_of(tmp_path, model=inputs["model"], video=inputs["video"])
    assert (job.labelled, job.roles, job.objective) == (False, None, "throughput")
    guard = guard_goal(job)
    assert guard is not None
    assert guard.metric == "agreement_drop"


def test_with_labels_and_no_goal_map_is_guarded(inputs: dict[str, Any], tmp_path: Path) -> None:
    guard = guard_goal(job_of(tmp_path, **inputs))
    assert guard is not None
    assert guard.name == "map50_95_drop<=0.01"


def test_without_a_video_the_images_are_the_source(inputs: dict[str, Any], tmp_path: Path) -> None:
    job = job_of(tmp_path, model=inputs["model"], data=inputs["data"])
    assert job.video is False
    assert job.source == str(tmp_path / "data" / "images" / "val")


@pytest.mark.parametrize(
    ("settings", "kind", "says"),
    [
        ({}, SpecError, "There is nothing to run on"),
        ({"task": "telepathy"}, SpecError, "no task named 'telepathy'"),
        ({"video": "none.mp4"}, DataError, "does not exist"),
        ({"video": "v.mp4", "goals": ["map50>=0.5"]}, GoalError, "needs labelled images"),
    ],
)
def test_a_job_that_could_only_waste_time_is_refused(
    inputs: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    kind: type[Exception],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind, match=says):
        job_of(tmp_path, model=inputs["model"], **settings)


def test_a_stream_is_not_taken_for_a_folder(tmp_path: Path) -> None:
    spec = make_spec({"model": "m.onnx", "video": str(tmp_path)})
    assert choose_source(spec, None) == (str(tmp_path), False)


def test_progress_says_what_the_job_is(inputs: dict[str, Any], tmp_path: Path) -> None:
    notes = Notes()
    prepare(make_spec(inputs), RunFolder(tmp_path / "run"), notes)
    assert "yolov8 detector, 64 px (fixed shape), 2 classes" in notes.texts[-1]


def test_starting_leaves_the_spec_and_the_environment(
    inputs: dict[str, Any], tmp_path: Path
) -> None:
    _, run = start(make_spec(inputs), tmp_path / "run")
    written = yaml.safe_load((run.path / "spec.yaml").read_text(encoding="utf-8"))
    assert make_spec(written) == make_spec(inputs)
    environment = run.read_json("environment.json")
    assert environment is not None
    assert environment.pop("hash") == detect().hash
    assert Environment.from_dict(environment).hash == detect().hash


# Finished things, and the demo


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"config": 3}', '{"config": {"a": 1}}', "x"])
def test_a_file_without_a_configuration_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "baseline.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(BundleError, match="holds no configuration"):
        config_at(path)


def test_the_configuration_of_a_baseline(inputs: dict[str, Any], tmp_path: Path) -> None:
    job = job_of(tmp_path, model=inputs["model"], video=inputs["video"])
    path = tmp_path / "baseline.json"
    path.write_text(json.dumps({"config": job.baseline.to_dict()}), encoding="utf-8")
    assert config_at(path) == job.baseline
    model = Path(job.baseline.model.path)
    model.write_bytes(model.read_bytes() + b"\n")
    with pytest.raises(BundleError, match="content has changed"):
        config_at(path)


def test_a_bundle_is_judged_on_labels_read_as_those_it_was_made_with(
    inputs: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = job_of(tmp_path, model=inputs["model"], video=inputs["video"]).baseline
    bundle = write_bundle(config, {"labels": {"first_class": 1}}, tmp_path / "bundle")
    asked: list[Any] = []

    def opened(*given: Any) -> None:
        asked.append(given[3:])
        raise DataError("enough")

    monkeypatch.setattr("saccade.playbook.judge.open_labelled", opened)
    for labels in (None, LabelSettings(void_ids=(7,))):
        with pytest.raises(DataError, match="enough"):
            judge_bundle(bundle, inputs["data"], None, (), SilentProgress(), labels)
    assert asked == [({}, {"first_class": 1}), ({"void_ids": (7,)}, {"first_class": 1})]


@pytest.mark.parametrize(
    ("task", "names", "said"),
    [
        ("detection", ("dog", "cat"), "class 0 is 'dog' there"),
        ("tracking", ("cat", "dog"), "the one is for detection, the other for tracking"),
    ],
)
def test_what_is_for_another_task_or_other_classes_is_not_compared(
    inputs: dict[str, Any], tmp_path: Path, task: str, names: tuple[str, ...], said: str
) -> None:
    config = job_of(tmp_path, model=inputs["model"], video=inputs["video"]).baseline
    other = replace(config, task=task, description=replace(config.description, class_names=names))
    first = write_bundle(config, {}, tmp_path / "first")
    second = write_bundle(other, {}, tmp_path / "second")
    with pytest.raises(BundleError, match=said):
        judge_bundle(first, inputs["data"], second, (), SilentProgress())


def test_the_demo_names_the_extra_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'saccade\[demo\]'"):
        demo.demo_spec(tmp_path / "demo", "1m", SilentProgress())
    assert not (tmp_path / "demo").exists()


def test_the_demo_video_is_rendered_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "HEIGHT", 108)
    monkeypatch.setattr(demo, "WIDTH", 192)
    source, target = write_video(tmp_path / "in.mp4"), tmp_path / "out" / "city.mp4"
    demo.render(source, target)
    with av.open(str(target)) as container:
        frames = list(container.decode(video=0))
    assert len(frames) == FRAMES
    assert (frames[0].width, frames[0].height) == (192, 108)
    source.write_bytes(source.read_bytes()[:500])
    with pytest.raises(Exception, match=r"."):
        demo.render(source, tmp_path / "out" / "broken.mp4")
    assert [path.name for path in target.parent.iterdir()] == ["city.mp4"]


# Taking changes back at the end


def test_taking_int8_back_restores_the_precision_that_the_float_model_ran_in(
    tmp_path: Path, inputs: dict[str, Any]
) -> None:
    baseline = job_of(tmp_path, model=inputs["model"], video=inputs["video"]).baseline
    bf16 = replace(baseline, options=replace(baseline.options, precision="bf16"))
    cut = replace(baseline.description, decode="yolov8_raw")
    quantized = replace(baseline, model=replace(baseline.model, sha256="int8"), description=cut)
    steps = dict(fallbacks(baseline, bf16, quantized))
    assert steps["int8"].options.precision == "bf16"
    assert steps["int8"].model == baseline.model
    assert steps["int8"].description == baseline.description
    assert steps["int8 and bf16"] == baseline
    assert [name for name, _ in fallbacks(baseline, bf16, bf16)] == ["bf16"]


def test_a_file_made_for_a_smaller_input_is_taken_back_with_that_input(
    tmp_path: Path, inputs: dict[str, Any]
) -> None:
    baseline = job_of(tmp_path, model=inputs["model"], video=inputs["video"]).baseline
    made = replace(baseline.model, format="ncnn", sha256="small")
    small = replace(baseline, model=made, runtime="ncnn", input_size=baseline.input_size // 2)
    assert dict(fallbacks(baseline, small, small))["resolution"] == baseline


def test_the_last_unquantized_configuration_may_have_a_cut_model(
    tmp_path: Path, inputs: dict[str, Any]
) -> None:
    baseline = job_of(tmp_path, model=inputs["model"], video=inputs["video"]).baseline
    cut = replace(baseline, model=replace(baseline.model, sha256="cut"))
    quantized = replace(cut, model=replace(baseline.model, sha256="int8", stored="int8"))
    trials = [kept(1, cut), kept(2, quantized)]
    assert last_unquantized(baseline, trials) == cut
    assert last_unquantized(baseline, trials[1:]) == baseline


def kept(number: int, config: PipelineConfig) -> Trial:
    return Trial(
        number=number,
        parent=number - 1,
        change="a change",
        name="change",
        config=config.to_dict(),
        config_hash=config.hash,
        parent_hash="",
        verdict="better",
        reason="",
        kept=True,
    )


@pytest.mark.parametrize(
    ("fps", "seconds", "expected"),
    [
        (100.0, 60.0, LATENCY_FRAMES - 100),  # all of them are affordable
        (20.0, 25.0, 500),  # as many as the time left allows
        (20.0, 0.0, LEAST_LATENCY_FRAMES - 100),  # the least that a p99 takes, however late
    ],
)
def test_a_percentile_goal_gets_as_many_frames_as_time_allows(
    fps: float, seconds: float, expected: int
) -> None:
    goals = (parse_goal("latency_ms.p99<=20"),)
    assert more_frames(goals, 100, fps, seconds) == expected
    assert more_frames(goals, LATENCY_FRAMES, fps, seconds) == 0
    assert more_frames((parse_goal("throughput_fps>=60"),), 100, fps, seconds) == 0


def test_a_baseline_that_is_hardly_ever_right_is_doubted() -> None:
    assert doubt_about("miou", 0.72) == ""
    said = doubt_about("miou", 0.052)
    assert "0.052" in said
    assert "channel_order" in said
