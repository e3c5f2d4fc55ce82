"""The first and the last steps of the playbook: from a spec to a job, from a run to its result."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import pytest
import yaml
from tiny_system import FRAMES, write_labels, write_model, write_video

from saccade.data.contract import DataProblem
from saccade.environment import Environment, detect
from saccade.errors import BundleError, DataError, GoalError, MissingExtraError, SpecError
from saccade.goals import parse_goal
from saccade.measurement import STAGES, Block
from saccade.optimize.job import Job
from saccade.optimize.metrics import Estimate
from saccade.playbook import demo
from saccade.playbook.draft import draft_spec
from saccade.playbook.final import Accuracy, Final
from saccade.playbook.judge import config_at
from saccade.playbook.partial import baseline_report, start
from saccade.playbook.prepare import choose_source, guard_goal, prepare
from saccade.playbook.result import Story, count_problems, goal_rows, loss, result_document
from saccade.playbook.steps import Baseline
from saccade.progress import SilentProgress
from saccade.spec import make_spec
from saccade.study import Drop, Ratio, RunFolder, Trial


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
    text, facts = draft_spec(Path("tiny.onnx"), Path("data/data.yaml"), "v.mp4", Path("specs"))
    spec = make_spec(yaml.safe_load(text), tmp_path / "specs")
    assert (spec.model, spec.video, spec.data) == tuple(inputs.values())
    assert facts["labelled"] is True
    assert spec.goals == ("throughput_fps>=60", "map50_95_drop<=0.01")


def test_a_draft_of_a_model_alone_is_a_spec_too(inputs: dict[str, Any]) -> None:
    text, facts = draft_spec(inputs["model"], None, None)
    assert make_spec(yaml.safe_load(text)).model == inputs["model"]
    assert "# video: street.mp4" in text
    assert "labelled" not in facts
    stream, _ = draft_spec(inputs["model"], None, str(inputs["video"]))
    assert "128x96, h264, 25 FPS" in stream


def test_the_overrides_of_a_draft_change_nothing_when_they_are_uncommented(
    inputs: dict[str, Any], tmp_path: Path
) -> None:
    text, _ = draft_spec(inputs["model"], None, inputs["video"])
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


# From a run to its result


def block(fps: float = 50.0) -> Block:
    return Block(
        emitted_s=tuple(i / fps for i in range(11)),
        latency_ms=(1e3 / fps,) * 10,
        cpu_s=0.2,
        busy_share=0.5,
        stage_ms=dict.fromkeys(STAGES, (1.0, 3.0)),
        peak_rss_mb=100.0,
    )


def story_of(job: Job, **settings: Any) -> Story:
    baseline = Baseline(job.baseline, (block(), block(51)), 0.02)
    return Story(job, baseline, guard_goal(job), **settings)


def estimates(fps: float, spread: float = 0.0) -> dict[str, Estimate]:
    return {
        "throughput_fps": Estimate(fps, fps - spread, fps + spread),
        "latency_ms.p50": Estimate(1e3 / fps),
        "latency_ms.p99": Estimate(None),
        "peak_rss_mb": Estimate(100.0, 100.0, 100.0),
    }


def final_of(job: Job, accuracy: Accuracy | None = None, **settings: Any) -> Final:
    values: dict[str, Any] = {
        "config": replace(job.baseline, nms="vectorized"),
        "speedup": Ratio(2.0, 1.9, 2.1),
        "baseline": estimates(50),
        "best": estimates(100, 5),
        "baseline_blocks": (block(),),
        "best_blocks": (block(100),),
        "accuracy": accuracy,
    }
    return Final(**{**values, **settings})


def trial(number: int, kept: bool, **settings: Any) -> Trial:
    made = Trial(
        number=number,
        parent=0,
        change=f"change {number}",
        name="x",
        config={"n": number},
        config_hash=f"h{number}",
        parent_hash="p",
        verdict="better" if kept else "worse",
        reason="so",
        kept=kept,
    )
    return replace(made, **settings)


@pytest.fixture
def job(inputs: dict[str, Any], tmp_path: Path) -> Job:
    goals = ["throughput_fps>=80", "latency_ms.p99<=20", "agreement_drop<=0.1"]
    return job_of(tmp_path, model=inputs["model"], video=inputs["video"], goals=goals)


def accuracy(estimate: float, lower: float, upper: float) -> Accuracy:
    drop = Drop("agreement", estimate, lower, upper, 0.975, 40)
    return Accuracy({"agreement": 1 - estimate}, {"agreement": 1.0}, {"agreement": drop}, None)


def statuses(story: Story) -> list[str]:
    return [row["status"] for row in goal_rows(story)]


def test_goals_are_judged_by_their_intervals(job: Job) -> None:
    met = story_of(job, final=final_of(job, accuracy(0.02, 0.0, 0.05)))
    assert statuses(met) == ["met", "inconclusive", "met"]
    wide = story_of(job, final=final_of(job, accuracy(0.02, 0.0, 0.2), best=estimates(82, 5)))
    assert statuses(wide) == ["inconclusive", "inconclusive", "inconclusive"]
    missed = story_of(job, final=final_of(job, accuracy(0.3, 0.2, 0.4), best=estimates(60, 5)))
    assert statuses(missed) == ["not_met", "inconclusive", "not_met"]
    assert result_document(missed)["status"] == "not_met"
    assert result_document(met)["status"] == "inconclusive"


def test_without_a_final_measurement_nothing_is_decided(job: Job) -> None:
    document = result_document(story_of(job, interrupted=True))
    assert {row["status"] for row in document["goals"]} == {"inconclusive"}
    assert (document["status"], document["best"], document["bundle"]) == (
        "inconclusive",
        None,
        None,
    )
    kept = result_document(story_of(job, trials=(trial(1, True), trial(2, False))))
    assert kept["best"]["trial"] == 1
    assert [row["trial"] for row in kept["rejected"]] == [2]


@pytest.mark.parametrize(
    ("goal", "base", "best", "status"),
    [
        # Two systems with FPS within 1 of what is said.
        ("throughput_fps_drop<=5", 60, 58, "met"),
        ("throughput_fps_drop<=5", 60, 54, "inconclusive"),
        ("throughput_fps_drop<=5", 60, 40, "not_met"),
        ("throughput_fps_drop<=5", 60, 90, "met"),
    ],
)
def test_a_drop_of_speed_is_judged_by_both_intervals(
    job: Job, goal: str, base: float, best: float, status: str
) -> None:
    asked = replace(job, goals=(parse_goal(goal),))
    final = final_of(job, baseline=estimates(base, 1), best=estimates(best, 1))
    assert statuses(story_of(asked, final=final)) == [status]


def test_a_drop_of_what_should_be_low_is_a_rise(job: Job) -> None:
    asked = replace(job, goals=(parse_goal("latency_ms.p50_drop<=3"),))
    faster = final_of(job, baseline=estimates(50), best=estimates(100))
    slower = final_of(job, baseline=estimates(100), best=estimates(50))
    assert statuses(story_of(asked, final=faster)) == ["met"]
    assert statuses(story_of(asked, final=slower)) == ["not_met"]
    assert loss(Estimate(5, 4, 6), Estimate(3, 2, 3.5)) == Estimate(2, 0.5, 4)


def test_the_result_survives_json_and_has_the_keys_of_the_design(job: Job, tmp_path: Path) -> None:
    done = story_of(
        job, final=final_of(job, accuracy(0.0, 0.0, 0.0)), trials=(trial(1, True),), wall_s=3.0
    )
    run = RunFolder(tmp_path / "out")
    run.write_json("result.json", result_document(done))
    text = (run.path / "result.json").read_text(encoding="utf-8")
    document = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert {
        "schema_version",
        "status",
        "goals",
        "baseline",
        "best",
        "pareto",
        "rejected",
        "wall_s",
    } <= set(document)
    assert document["best"]["speedup"] == {"value": 2.0, "interval": [1.9, 2.1]}
    assert document["best"]["metrics"]["agreement_drop"] == 0.0
    assert document["best"]["changes"] == ["change 1"]


def test_the_front_holds_what_nothing_beats_in_both(job: Job) -> None:
    def point(number: int, fps: float, drop: float) -> Trial:
        metrics = {"throughput_fps": fps, "agreement": 1 - drop}
        return trial(
            number, True, metrics=metrics, drop=Drop("agreement", drop, drop, drop, 0.95, 40)
        )

    story = story_of(job, trials=(point(1, 70, 0.0), point(2, 90, 0.05), point(3, 80, 0.1)))
    front = {row["trial"]: row["front"] for row in result_document(story)["pareto"]}
    assert (front[1], front[2], front[3]) == (True, True, False)


def test_problems_are_counted_with_examples() -> None:
    problems = [DataProblem("truncated_image", f"{i}.jpg", "cut", "skipped") for i in range(5)]
    counted = count_problems([*problems, DataProblem("bad_label_line", "a.txt", "x", "skipped")])
    assert [(row["kind"], row["count"]) for row in counted] == [
        ("truncated_image", 5),
        ("bad_label_line", 1),
    ]
    assert counted[0]["examples"] == ["0.jpg: cut", "1.jpg: cut", "2.jpg: cut"]


def test_the_baseline_report(job: Job) -> None:
    report = baseline_report(Baseline(job.baseline, (block(), block(51)), 0.02), {"map50": 0.5})
    assert report["metrics"]["map50"] == {"value": 0.5, "low": None, "high": None}
    assert report["metrics"]["latency_ms.p99"]["value"] is None
    assert report["stages_ms"] == dict.fromkeys(STAGES, 2.0)


# Finished things, and the demo


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"config": 3}', '{"config": {"a": 1}}', "x"])
def test_a_file_without_a_configuration_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "baseline.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(BundleError, match="holds no configuration"):
        config_at(path)


def test_the_configuration_of_a_baseline(job: Job, tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    path.write_text(json.dumps({"config": job.baseline.to_dict()}), encoding="utf-8")
    assert config_at(path) == job.baseline
    model = Path(job.baseline.model.path)
    model.write_bytes(model.read_bytes() + b"\n")
    with pytest.raises(BundleError, match="content has changed"):
        config_at(path)


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
