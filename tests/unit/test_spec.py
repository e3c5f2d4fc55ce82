"""The spec: the one place where untrusted input is validated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from saccade.duration import parse_duration
from saccade.errors import GoalError, SpecError
from saccade.optimize.job import objective_of
from saccade.spec import Spec, make_spec, read_spec
from saccade.system_settings import ModelOverrides


def refused(values: dict[str, Any], kind: type[SpecError] | type[GoalError] = SpecError) -> str:
    with pytest.raises(kind) as caught:
        make_spec(values)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5m", 300),
        ("90s", 90),
        ("1h30m", 5400),
        ("1h 2m 3s", 3723),
        ("2m30s", 150),
        ("0.5h", 1800),
        ("5 min", 300),
        ("300", 300),
        (300, 300),
        (1.5, 1.5),
    ],
)
def test_durations(text: object, seconds: float) -> None:
    assert parse_duration(text) == seconds
    assert make_spec({"model": "m.onnx", "budget": text}).budget == seconds


@pytest.mark.parametrize("text", ["", "  ", "soon", "5x", "30m1h", True, None, [5], "-5m", "1e400"])
def test_what_is_no_duration_is_refused(text: object) -> None:
    assert "expected a duration such as 5m" in refused({"model": "m.onnx", "budget": text})


@pytest.mark.parametrize("value", [0, -1, "0s", float("inf"), float("nan")])
def test_a_budget_is_finite_and_above_zero(value: object) -> None:
    assert "'budget' is wrong" in refused({"model": "m.onnx", "budget": value})


def test_an_unknown_key_names_the_nearest_known_one() -> None:
    assert refused({"model": "m", "bugdet": 3}) == (
        "Unknown setting 'bugdet'. Did you mean 'budget'?"
    )
    assert "Known: task, model, weights" in refused({"model": "m", "zzz": 3})
    said = refused({"model": "m", "overrides": {"chanel_order": "rgb"}})
    assert said == "Unknown setting 'overrides.chanel_order'. Did you mean 'channel_order'?"


def test_an_unknown_key_is_named_before_the_one_that_is_missing_for_it() -> None:
    assert "Did you mean 'model'" in refused({"modell": "m.onnx"})


def test_an_override_at_the_top_is_sent_to_its_place() -> None:
    assert "under 'overrides'" in refused({"model": "m", "class_names": ["cat"]})


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, "'model' is missing"),
        ({"model": 3}, "'model' is wrong"),
        ({"model": "m", "overrides": 5}, "'overrides' is wrong"),
        ({"model": "m", "overrides": {"mean": [1, 2]}}, "'overrides.mean.2' is wrong"),
        ({"model": "m", "overrides": {"channel_order": "gbr"}}, "'rgb' or 'bgr'"),
        ({"model": "m", "overrides": {"input_size": 8}}, "greater than or equal to 32"),
        ({"model": "m", "score_threshold": 1.0}, "'score_threshold' is wrong"),
        ({"model": "m", "max_detections": 0}, "'max_detections' is wrong"),
        ({"model": "m", "goals": [1]}, "'goals.0' is wrong"),
        ({"model": "m", 1: 2}, "'1' is wrong"),
        ({"model": "m", "target": "gpu"}, "target 'gpu' is not known"),
        ({"model": "m", "seed": "x" * 10_000}, "…"),
    ],
)
def test_invalid_values_are_refused(values: dict[str, Any], says: str) -> None:
    said = refused(values)
    assert says in said
    assert len(said) < 400


def test_goals_are_checked_when_the_spec_is_made() -> None:
    assert "cannot be met" in refused({"model": "m", "goals": ["map50>=2"]}, GoalError)
    twice = {"model": "m", "goals": ["throughput_fps>=60", "throughput_fps>=70"]}
    assert "two goals for throughput_fps" in refused(twice, GoalError)
    assert make_spec({"model": "m", "goals": "throughput_fps>=60"}).goals == ("throughput_fps>=60",)


def test_relative_paths_are_relative_to_the_spec(tmp_path: Path) -> None:
    values = {"model": "m.onnx", "data": "../coco", "video": "v.mp4"}
    spec = make_spec(values, tmp_path / "a")
    assert spec.model == str(tmp_path / "a" / "m.onnx")
    assert spec.data == tmp_path / "coco"
    assert spec.video == str(tmp_path / "a" / "v.mp4")


def test_without_a_file_paths_are_relative_to_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    spec = make_spec({"model": "m.onnx", "data": Path("~/coco")})
    assert spec.model == str(tmp_path / "m.onnx")
    assert spec.data == tmp_path / "home" / "coco"


@pytest.mark.parametrize("video", ["rtsp://user:pass@host/1", "http://host/a.m3u8", "0", "2"])
def test_a_stream_is_no_path(video: str, tmp_path: Path) -> None:
    assert make_spec({"model": "m", "video": video}, tmp_path).video == video


def test_a_camera_index_may_be_a_number() -> None:
    assert make_spec({"model": "m", "video": 0}).video == "0"


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.onnx").touch()
    (tmp_path / "link.onnx").symlink_to(tmp_path / "real.onnx")
    assert make_spec({"model": "link.onnx"}, tmp_path).model == str(tmp_path / "link.onnx")


def _written(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "spec.yaml"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"model: a\n  data: b\n", "line 2, column 7"),
        (b"goals: [a, b\nmodel: c\n", "line 2, column 6"),
        (b"model: \xff\xfe\n", "not valid YAML"),
        (b"model: \x00\n", "not valid YAML"),
        (b"", "holds no settings"),
        (b"- model\n", "holds no settings"),
        (b"just text\n", "holds no settings"),
    ],
)
def test_a_damaged_file_is_refused_and_the_place_named(
    tmp_path: Path, content: bytes, says: str
) -> None:
    with pytest.raises(SpecError) as caught:
        read_spec(_written(tmp_path, content))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be read: No such file"):
        read_spec(tmp_path / "none.yaml")
    with pytest.raises(SpecError, match="cannot be read: Is a directory"):
        read_spec(tmp_path)


def test_yaml_that_would_make_objects_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="not valid YAML"):
        read_spec(_written(tmp_path, b"model: !!python/object/apply:os.getcwd []\n"))


# Control characters are left out: PyYAML itself does not bring all of them back (U+0085).
letters = st.characters(
    codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"], exclude_characters="/"
)
names = st.text(letters, min_size=1, max_size=12)
thirds = st.tuples(*[st.floats(-500, 500)] * 3)
overrides = st.fixed_dictionaries(
    {},
    optional={
        "decode": names,
        "input_size": st.integers(32, 8192),
        "channel_order": st.sampled_from(["rgb", "bgr"]),
        "scale": st.floats(1e-6, 10),
        "mean": thirds,
        "anchor": st.sampled_from(["center", "top_left"]),
        "class_names": st.lists(names, max_size=3).map(tuple),
    },
)
specs = st.fixed_dictionaries(
    {"model": names},
    optional={
        "data": names,
        "video": names,
        "goals": st.just(("throughput_fps>=60", "map50_95_drop<=0.01")),
        "budget": st.floats(0.1, 1e6),
        "score_threshold": st.floats(0, 0.99),
        "max_detections": st.integers(1, 10_000),
        "overrides": overrides,
        "preprocessor": names,
        "seed": st.integers(0, 2**31),
    },
)


@given(specs)
def test_a_spec_survives_yaml(values: dict[str, Any]) -> None:
    spec = make_spec(values)
    text = yaml.safe_dump(spec.document(), sort_keys=False, allow_unicode=True)
    again = make_spec(yaml.safe_load(text))
    assert again == spec
    assert again.document() == spec.document()


def test_every_setting_says_what_it_means() -> None:
    undescribed = {name for name, field in Spec.model_fields.items() if not field.description}
    assert undescribed == set()
    assert ModelOverrides(stride=16).given() == {"stride": 16}


def test_label_settings_are_checked() -> None:
    spec = make_spec({"model": "m.onnx", "task": "segmentation", "labels": {"void_ids": 11}})
    assert spec.labels.given() == {"void_ids": (11,)}
    assert make_spec(spec.document()).labels == spec.labels
    # Runs of before there were such settings are still of the same job.
    assert "labels" not in make_spec({"model": "m.onnx"}).document()
    both = {"model": "m.onnx", "also": {"task": "segmentation", "model": "n.onnx"}}
    assert "labels" not in make_spec(both).document()["also"]
    for place in (
        {"labels": {"void_id": 11}},
        {"also": {**both["also"], "labels": {"void_id": 1}}},
    ):
        with pytest.raises(SpecError, match=r"labels\.void_id'.*'void_ids'"):
            make_spec({"model": "m.onnx", **place})
    for wrong in ({"void_ids": [256]}, {"first_class": 2}):
        with pytest.raises(SpecError, match=r"labels\."):
            make_spec({"model": "m.onnx", "labels": wrong})


def test_tracker_settings_are_checked() -> None:
    spec = make_spec({"model": "m.onnx", "task": "tracking", "tracker": {"lost_frames": 12}})
    assert spec.tracker.given() == {"lost_frames": 12}
    with pytest.raises(SpecError, match="Did you mean 'lost_frames'"):
        make_spec({"model": "m.onnx", "tracker": {"lost_frame": 12}})
    with pytest.raises(SpecError, match=r"tracker\.confirm_hits"):
        make_spec({"model": "m.onnx", "tracker": {"confirm_hits": 0}})


def test_one_class_is_a_list_of_one() -> None:
    assert make_spec({"model": "m.onnx", "classes": "person"}).classes == ("person",)


@pytest.mark.parametrize(
    ("goals", "scenario", "objective"),
    [
        ((), "", "throughput"),
        (("latency_ms.p50<=9",), "", "latency"),
        (("latency_ms.p50<=9", "throughput_fps>=60"), "", "throughput"),
        (("latency_ms.p50<=9",), "throughput", "throughput"),
        ((), "latency", "latency"),
    ],
)
def test_the_scenario_says_what_is_to_be_fast_and_goals_do_where_it_does_not(
    goals: tuple[str, ...], scenario: str, objective: str
) -> None:
    spec = make_spec({"model": "m.onnx", "goals": goals, "scenario": scenario})
    assert objective_of(spec.parsed_goals(), spec.scenario) == objective
    assert ("scenario" in spec.document()) is bool(scenario)


def test_an_unknown_scenario_is_named_with_those_that_there_are() -> None:
    with pytest.raises(SpecError, match=r"'scenario' is wrong.*throughput.*latency.*'batch'"):
        make_spec({"model": "m.onnx", "scenario": "batch"})
