"""Other models that may take the model's place: named, described, tried, taken back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import pytest
from command_line import Cli, refused
from hypothesis import given
from hypothesis import strategies as st
from test_optimize_parts import block
from tiny_system import CLASSES, tiny_yolo, write_labels, write_model, write_video

from saccade import plugins
from saccade.cli.app import spread
from saccade.errors import (
    MissingExtraError,
    ModelError,
    RuntimeFailure,
    SaccadeError,
    SpecError,
    StorageError,
)
from saccade.models.candidates import candidate_name, classes_differ, full_reference
from saccade.optimize.change import PlanContext
from saccade.optimize.changes.model_swap import ModelSwap
from saccade.optimize.job import Job
from saccade.optimize.plan import MADE_S, make_plan
from saccade.optimize.race import RaceResult, Runner, compare_blocks, cpu_comparison
from saccade.optimize.referee import Judgement
from saccade.optimize.search import Search
from saccade.pipeline.config import PipelineConfig
from saccade.pipeline.pipeline import Pipeline
from saccade.playbook.candidates import with_candidates
from saccade.playbook.final import WayBack, all_fallbacks, ways_back
from saccade.playbook.pareto import pareto
from saccade.playbook.prepare import prepare
from saccade.playbook.result import Story
from saccade.playbook.steps import Baseline
from saccade.progress import SilentProgress
from saccade.spec import absolute_paths, make_spec
from saccade.study import Drop, RunFolder, Trial
from saccade.testing.optimization_conformance import example_contexts

# In the spec and on the command line


def test_candidates_are_paths_or_paths_with_overrides(tmp_path: Path) -> None:
    listed = ["a.onnx", {"model": "b.onnx", "overrides": {"channel_order": "bgr"}}, "timm:some_net"]
    spec = make_spec({"model": "m.onnx", "candidates": listed}, tmp_path)
    names = [candidate.model for candidate in spec.candidates]
    assert names == [str(tmp_path / "a.onnx"), str(tmp_path / "b.onnx"), "timm:some_net"]
    assert spec.candidates[1].overrides.given() == {"channel_order": "bgr"}
    assert make_spec(spec.document()) == spec
    assert make_spec({"model": "m.onnx", "candidates": "a.onnx"}).candidates
    assert "candidates" not in make_spec({"model": "m.onnx"}).document()


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ([{"modle": "a.onnx"}], "Unknown setting 'candidates.0.modle'. Did you mean 'model'"),
        ([{"model": "a.onnx", "overrides": {"chanel_order": "bgr"}}], "Did you mean 'channel_ord"),
        (3, "'candidates' is wrong"),
    ],
)
def test_a_slip_in_a_candidate_is_named(given_: object, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        make_spec({"model": "m.onnx", "candidates": given_})


def test_several_values_after_one_option() -> None:
    given_ = ["optimize", "spec.yaml", "--candidates", "a.onnx", "b.onnx", "--budget", "5m"]
    assert spread(given_, ["--candidates"]) == [
        *("optimize", "spec.yaml", "--candidates", "a.onnx", "--candidates", "b.onnx"),
        *("--budget", "5m"),
    ]
    assert spread(["--candidates=a", "b"], ["--candidates"]) == [
        *("--candidates=a", "--candidates", "b")
    ]


@pytest.mark.parametrize("more", [(), ("--out", "x")])
def test_an_option_without_a_value_is_not_dropped(cli: Cli, more: tuple[str, ...]) -> None:
    assert "'--candidates' requires an argument" in refused(cli, "optimize", "--candidates", *more)


@given(st.lists(st.sampled_from(["a", "b.onnx", "--json", "--out", "-"])))
def test_other_arguments_are_left_alone(arguments: list[str]) -> None:
    assert spread(arguments, ["--candidates"]) == arguments


# Resolving and comparing


def test_what_a_candidate_may_be(tmp_path: Path) -> None:
    path = write_model(tmp_path)
    assert full_reference(str(path)) == str(path)
    assert full_reference("torchvision:resnet50") == "torchvision:resnet50"
    assert candidate_name(str(path)) == path.stem
    assert candidate_name("torchvision:resnet50") == "resnet50"
    with pytest.raises(ModelError, match=r"no candidate model at .*Check the path\.$"):
        full_reference(str(tmp_path / "absent.onnx"))


def libraries(monkeypatch: pytest.MonkeyPatch, **names: tuple[str, ...]) -> None:
    """Libraries that know these names; those without any are not installed."""

    def source(name: str) -> type:
        known = names.get(name)
        if known is None:
            return type(name, (), {})
        return type(
            name,
            (),
            {
                "prefix": f"{name}:",
                "looks_for": name,
                "names": staticmethod(lambda: known),
                "recognizes": staticmethod(lambda reference: False),
                "resolve": staticmethod(lambda request: None),
            },
        )

    monkeypatch.setattr(plugins, "load", lambda kind, name: source(name))


def test_a_word_is_a_model_of_the_library_that_knows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    libraries(monkeypatch, timm=("resnet50",), torchvision=("resnet50", "vgg11"), ultralytics=())
    assert full_reference("vgg11") == "torchvision:vgg11"
    with pytest.raises(ModelError, match=r"More than one") as several:
        full_reference("resnet50")
    assert "timm:resnet50" in str(several.value)
    assert "torchvision:resnet50" in str(several.value)
    with pytest.raises(ModelError) as unknown:
        full_reference("vgg1")
    for said in ("no model file 'vgg1'", "vgg11", "Not installed, so not asked: ultralytics"):
        assert said in str(unknown.value)


def test_a_real_library_knows_its_names() -> None:
    pytest.importorskip("torchvision")
    assert full_reference("ssdlite320_mobilenet_v3_large") == (
        "torchvision:ssdlite320_mobilenet_v3_large"
    )


def test_a_word_stays_one_unless_there_is_a_file_of_that_name(tmp_path: Path) -> None:
    path = write_model(tmp_path)
    values = absolute_paths({"candidates": [path.stem, "yolo11n", {"model": "yolo11n"}]}, tmp_path)
    assert values["candidates"] == [str(path), "yolo11n", {"model": "yolo11n"}]


@pytest.mark.parametrize(
    ("candidate", "differs"),
    [
        (("cat", "dog", "traffic light", "tv"), None),
        (("Cat", "dog", "traffic_light", "TV"), None),
        (("class_0", "class_1", "class_2", "class_3"), None),
        (("cat", "dog", "traffic light"), "it has 3 classes, the model has 4"),
        (("dog", "cat", "traffic light", "tv"), "class 0 is 'dog' there and 'cat' in the model"),
        (("a", "b", "c", "d"), "class 0 is 'a' there"),
    ],
)
def test_classes_are_compared_one_by_one(candidate: tuple[str, ...], differs: str | None) -> None:
    found = classes_differ(candidate, ("cat", "dog", "traffic light", "tv"))
    assert (found or "").startswith(differs or "") and (found is None) == (differs is None)


def test_a_few_other_spellings_are_the_same_classes() -> None:
    names = [f"thing {i}" for i in range(20)]
    assert classes_differ([*names[:-2], "motorbike", "sofa"], names) is None
    assert "thing 15" in (classes_differ([*names[:15], *"abcde"], names) or "")


# Preparing


def other_model(folder: Path, name: str, names: tuple[str, ...] = CLASSES) -> Path:
    """The same layout at another size, so another file."""
    model = tiny_yolo((96, 96))
    for entry in model.metadata_props:
        entry.value = str(dict(enumerate(names)))
    onnx.save(model, folder / name)
    return folder / name


def job_with(tmp_path: Path, *candidates: object) -> Job:
    spec = make_spec(
        {
            "model": write_model(tmp_path),
            "video": str(write_video(tmp_path / "v.mp4")),
            "data": write_labels(tmp_path / "data", images=12),
            "candidates": list(candidates),
        }
    )
    run = RunFolder(tmp_path / "run")
    return with_candidates(prepare(spec, run, SilentProgress()), run, SilentProgress())


def test_candidates_are_described_by_themselves(tmp_path: Path) -> None:
    job = job_with(tmp_path, other_model(tmp_path, "larger.onnx"))
    (candidate,) = job.candidates
    assert candidate.name == "larger"
    assert candidate.config.input_size == 96 and job.baseline.input_size == 64
    assert candidate.config.score_threshold == job.baseline.score_threshold
    assert job.spec.document()["candidates"][0]["model"].endswith("larger.onnx")


def test_a_candidate_that_cannot_take_the_place_is_named_and_the_rest_goes_on(
    tmp_path: Path,
) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    job = job_with(
        tmp_path,
        other_model(tmp_path, "swapped.onnx", ("dog", "cat")),
        tmp_path / "broken.onnx",
        tmp_path / "tiny.onnx",
        other_model(tmp_path, "larger.onnx"),
    )
    assert [c.name for c in job.candidates] == ["larger"]
    swapped, broken, same = job.notes
    assert "swapped.onnx" in swapped and "class 0 is 'dog' there" in swapped
    assert "broken.onnx" in broken and "cannot be read as an ONNX model" in broken
    assert "it is the model itself" in same


@pytest.mark.parametrize(
    "error", [MissingExtraError("ultralytics", "ultralytics", "it"), RuntimeFailure("refused")]
)
def test_no_fault_of_a_candidate_ends_the_study_but_a_full_disk_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: SaccadeError
) -> None:
    faults = [error]
    monkeypatch.setattr(
        "saccade.playbook.candidates.describe_model", lambda *_: raise_(faults.pop())
    )
    job = job_with(tmp_path, "ultralytics:yolo11n")
    assert job.candidates == () and str(error) in job.notes[0]
    faults.append(StorageError("full"))
    with pytest.raises(StorageError):
        job_with(tmp_path, "ultralytics:yolo11n")


def raise_(error: Exception) -> None:
    raise error


def test_a_missing_candidate_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no candidate model at .*absent.onnx"):
        job_with(tmp_path, tmp_path / "absent.onnx")


def test_two_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    second = tmp_path / "elsewhere" / "larger.onnx"
    model = tiny_yolo((128, 128))
    onnx.save(model, second)
    names = [
        c.name for c in job_with(tmp_path, other_model(tmp_path, "larger.onnx"), second).candidates
    ]
    assert names[0] == "larger" and names[1].startswith("larger (")


# The change


@pytest.fixture
def context(tmp_path: Path) -> PlanContext:
    found = [c for c in example_contexts(tmp_path) if c.candidates]
    return found[0]


def test_a_swap_brings_its_own_preprocessing_into_the_pipeline_as_it_is(
    context: PlanContext,
) -> None:
    (change,) = ModelSwap.variants(context)
    tuned = replace(context.config, runtime="openvino", preprocessor="graph", shape="rect")
    after = change.apply(replace(context, config=tuned))
    candidate = context.candidates[0].config
    assert after.model == candidate.model and after.description == candidate.description
    assert after.input_size == candidate.input_size
    assert (after.runtime, after.preprocessor) == ("openvino", "graph")
    image = np.random.default_rng(0).integers(0, 255, (50, 70, 3), np.uint8)
    with Pipeline(after) as pipeline:
        assert len(pipeline(image).boxes) >= 0


def test_a_swap_from_an_int8_file_starts_from_the_candidates_own(context: PlanContext) -> None:
    (change,) = ModelSwap.variants(context)
    quantized = replace(context.config.model, format="openvino_ir", sha256="int8", dynamic=True)
    config = replace(context.config, runtime="openvino", model=quantized)
    after = change.apply(replace(context, config=config))
    assert after.model.format == "onnx" and after.options.precision == "bf16"


def test_every_candidate_is_planned_whatever_its_operations_say(context: PlanContext) -> None:
    planned = [c.change.label for c in make_plan(context).candidates]
    assert "model_swap: fixed" in planned


def test_another_model_comes_before_new_files_of_this_one_and_after_the_harmless(
    context: PlanContext,
) -> None:
    ready = replace(context, config=replace(context.config, runtime="openvino"))
    costly = [c.change.label for c in make_plan(ready).candidates if c.prediction.cost_s]
    labels = [c.change.label for c in make_plan(ready).candidates]
    swap = labels.index("model_swap: fixed")
    assert all(labels.index(label) > swap for label in costly)
    lossy = [c.change.effect == "lossy" for c in make_plan(ready).candidates]
    assert swap and not any(lossy[:swap])
    alone = [c.change for c in make_plan(replace(ready, candidates=())).candidates]
    assert [c.effect == "lossy" for c in alone] == sorted(c.effect == "lossy" for c in alone)


def test_in_a_hurry_what_is_quick_comes_by_its_promise_and_files_last(
    context: PlanContext,
) -> None:
    ready = replace(context, config=replace(context.config, runtime="openvino"), candidates=())
    calm, hurried = (make_plan(ready, seconds).candidates for seconds in (MADE_S, MADE_S - 1))
    assert {c.change.label for c in calm} == {c.change.label for c in hurried}
    quick = [c for c in hurried if not c.prediction.cost_s]
    assert tuple(quick) == hurried[: len(quick)]
    assert [c.score for c in quick] == sorted((c.score for c in quick), reverse=True)
    # Otherwise what costs no accuracy comes first, whatever it takes.
    lossy = [c.change.effect == "lossy" for c in calm]
    assert lossy == sorted(lossy)
    assert lossy != [c.change.effect == "lossy" for c in hurried]


# In the search


class OneBlockRunner:
    """A runner without a process, which is only asked for its configuration."""

    def __init__(self, config: PipelineConfig) -> None:
        self.config = config


class Accurate:
    """A referee that always finds the same accuracy."""

    metric, allowed = "map50_95", 0.01

    def __init__(self, keep: bool) -> None:
        self.keep, self.asked = keep, 0

    def judge(self, runner: Runner, effect: str) -> Judgement:
        self.asked += 1
        drop = Drop("map50_95", 0.1, 0.05, 0.15, 0.95, 64)
        return Judgement(self.keep, "judged", drop, 0.4)


def verdict_of(
    tmp_path: Path, context: PlanContext, change: Any, fps: float, keep: bool = True
) -> tuple[Trial, Accurate, Search]:
    referee = Accurate(keep)
    job = job_with(tmp_path)
    search = Search(
        job,
        RunFolder(tmp_path / "s"),
        cast(Any, referee),
        cast(Any, None),
        SilentProgress(),
        0.01,
        0,
    )
    candidate, reference = [block(fps)] * 4, [block(20.0)] * 4
    result = RaceResult(
        tuple(reference),
        tuple(candidate),
        compare_blocks(candidate, reference, "throughput", 0.01),
        cpu_comparison(candidate, reference),
    )
    config = change.apply(context)
    draft = Trial(1, 0, change.label, change.name, config.to_dict(), config.hash, "", "failed", "")
    runner = cast(Runner, OneBlockRunner(config))
    return search._verdict(runner, runner, result, draft, change), referee, search


def test_a_slower_candidate_is_judged_all_the_same_and_is_on_the_front(
    tmp_path: Path, context: PlanContext
) -> None:
    (change,) = ModelSwap.variants(context)
    trial, referee, _ = verdict_of(tmp_path, context, change, fps=10.0)
    assert (trial.verdict, trial.kept, referee.asked) == ("worse", False, 1)
    assert trial.metrics["map50_95"] == 0.4
    job = job_with(tmp_path)
    story = Story(job, Baseline(job.baseline, (block(20.0),), 0.01), None, trials=(trial,))
    (point,) = pareto(story)
    assert point["label"] == "model_swap: fixed" and point["front"]


def test_other_changes_are_judged_only_where_they_are_faster(
    tmp_path: Path, context: PlanContext
) -> None:
    from saccade.optimize.changes.bf16 import UseBf16

    trial, referee, _ = verdict_of(tmp_path, context, UseBf16(), fps=10.0)
    assert (trial.verdict, referee.asked) == ("worse", 0)
    trial, referee, _ = verdict_of(tmp_path, context, UseBf16(), fps=40.0)
    assert (trial.verdict, referee.asked) == ("better", 1)


def test_the_goals_bound_decides_over_a_faster_candidate(
    tmp_path: Path, context: PlanContext
) -> None:
    (change,) = ModelSwap.variants(context)
    trial, _, _ = verdict_of(tmp_path, context, change, fps=40.0, keep=False)
    assert (trial.verdict, trial.kept) == ("broke a goal", False)


def test_after_a_swap_changes_are_tried_again_but_candidates_are_not(
    tmp_path: Path, context: PlanContext
) -> None:
    (change,) = ModelSwap.variants(context)
    trial, _, search = verdict_of(tmp_path, context, change, fps=40.0)
    assert trial.kept
    search._promised = {"int8: everything": 1.3, "model_swap: fixed": 1.1}
    search.record(trial)
    assert search._promised == {"model_swap: fixed": 1.1}
    assert search.incumbent.hash == trial.config_hash


# Taking a swap back


def steps(*configs: tuple[str, PipelineConfig]) -> Iterator[Trial]:
    for number, (name, config) in enumerate(configs, start=1):
        yield Trial(
            *(number, number - 1, name, name, config.to_dict(), config.hash, "", "better", ""),
            kept=True,
        )


def test_the_ladder_goes_back_from_int8_to_the_swap_to_the_users_own_model(
    context: PlanContext,
) -> None:
    baseline = context.config
    own = replace(baseline, options=replace(baseline.options, precision="bf16"))
    swapped = replace(own, model=context.candidates[0].config.model, input_size=48)
    int8 = replace(
        swapped, model=replace(swapped.model, sha256="8", format="openvino_ir", stored="int8")
    )
    trials = list(steps(("bf16", own), ("model_swap", swapped), ("int8", int8)))
    ways = ways_back(baseline, int8, trials)
    assert ways == [WayBack(int8, swapped, "model_swap"), WayBack(own, own)]
    ladder = all_fallbacks(baseline, ways)
    assert [name for name, _ in ladder] == ["int8", "model_swap", "model_swap and bf16"]
    assert [config for _, config in ladder] == [swapped, own, baseline]
    alone = ways_back(baseline, own, trials[:1])
    assert [name for name, _ in all_fallbacks(baseline, alone)] == ["bf16"]
