"""Plan, race and tuning: what they decide, apart from what they measure."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade import plugins
from saccade.errors import RuntimeFailure, SpecError, StorageError
from saccade.measurement import Block
from saccade.optimize.changes.bf16 import UseBf16
from saccade.optimize.changes.fp16_weights import StoreFp16
from saccade.optimize.changes.int8_weights import CompressWeights
from saccade.optimize.changes.tensorrt_int8 import QuantizeTensorRt
from saccade.optimize.job import Job
from saccade.optimize.measuring import BlockReply, Subject
from saccade.optimize.plan import MIN_GAIN, make_plan
from saccade.optimize.race import RacePlan, Runner, compare_blocks, cpu_comparison, race, speed
from saccade.optimize.tuning import BY_HINT, knobs, tune, with_knobs
from saccade.pipeline.config import PipelineConfig, RuntimeOptions
from saccade.pipeline.reel import Reel
from saccade.progress import SilentProgress
from saccade.study import RunFolder
from saccade.testing.optimization_conformance import example_contexts
from saccade.testing.tiny_models import tiny_config

# Plug-ins


@pytest.mark.parametrize("kind", list(plugins.TABLE))
def test_every_plugin_of_the_table_can_be_loaded(kind: str) -> None:
    for name in plugins.names(kind):
        assert plugins.load(kind, name) is not None


def test_an_unknown_plugin_lists_the_known_ones() -> None:
    with pytest.raises(SpecError, match=r"no runtime named 'teapot'. Known: onnxruntime"):
        plugins.load("runtimes", "teapot")


def test_a_plugin_can_be_named_by_module() -> None:
    name = "saccade.testing.planted:SlowPreprocessor"
    assert plugins.load("preprocessors", name).__name__ == "SlowPreprocessor"


@pytest.mark.parametrize(
    "name", ["no_such_module:X", "saccade.testing.planted:Absent", "saccade.testing.planted:"]
)
def test_a_plugin_that_cannot_be_imported_is_an_input_error(name: str) -> None:
    with pytest.raises(SpecError, match=r"cannot be imported.*PYTHONPATH"):
        plugins.load("preprocessors", name)


def test_a_foreign_plugin_that_cannot_be_imported_is_named_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = tmp_path / "teapot_tools-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: teapot-tools\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[saccade.rules]\nteapot = no_such_module:teapot\n")
    monkeypatch.syspath_prepend(tmp_path)
    plugins._foreign.cache_clear()
    try:
        assert plugins.names("rules") == list(plugins.TABLE["rules"])
        with pytest.raises(SpecError, match=r"'teapot' of the package 'teapot-tools' cannot be"):
            plugins.load("rules", "teapot")
        assert [reason for reason in plugins.unusable() if "no_such_module" in reason]
    finally:
        plugins._foreign.cache_clear()
        plugins._why_not.cache_clear()


# Plan


def test_a_plan_is_ordered_and_says_why_the_rest_is_not_in_it(tmp_path: Path) -> None:
    for context in example_contexts(tmp_path):
        plan = make_plan(context)
        for candidate in plan.candidates:
            assert candidate.prediction.bound >= MIN_GAIN or candidate.worth > 1
            assert candidate.change.applies(context) is None
        if context.candidates:
            continue  # another model has a place of its own, see test_candidates
        groups = [candidate.change.effect == "lossy" for candidate in plan.candidates]
        assert groups == sorted(groups)
        for lossy in (False, True):
            group = [c for c in plan.candidates if (c.change.effect == "lossy") is lossy]
            # What a missed goal of size needs comes first, but for dear files (test_size_goals).
            order = [(not c.needed, -c.score) for c in group if not c.prediction.cost_s]
            assert order == sorted(order)
        assert all(reason for _, reason in plan.inapplicable)
        labels = [c.change.label for c in plan.candidates] + [name for name, _ in plan.inapplicable]
        assert len(set(labels)) == len(labels)


@pytest.mark.parametrize("change", [UseBf16(), StoreFp16(), CompressWeights(), QuantizeTensorRt()])
def test_what_starts_from_onnx_says_so_of_another_format(tmp_path: Path, change: Any) -> None:
    context = next(iter(example_contexts(tmp_path)))
    model = replace(context.config.model, format="torch_export")
    config = replace(context.config, model=model, runtime="tensorrt")
    context = replace(context, config=config, missed=frozenset({"model_mb"}))
    said = change.applies(context)
    assert said == "the model is in torch_export format, and this starts from ONNX"


def test_the_document_of_a_plan(tmp_path: Path) -> None:
    plan = make_plan(next(iter(example_contexts(tmp_path))))
    document = plan.document()
    assert len(document["changes"]) == len(plan.candidates) > 0
    assert {"change", "predicted_gain", "upper_bound", "basis", "cost_s"} <= set(
        document["changes"][0]
    )


# Race


def block(fps: float, latency_ms: float = 10.0, core_ms: float = 20.0, frames: int = 20) -> Block:
    return Block(
        emitted_s=tuple(np.arange(frames + 1) / fps),
        latency_ms=(latency_ms,) * frames,
        cpu_s=core_ms * frames / 1e3,
        busy_share=1.0,
        stage_ms={},
        peak_rss_mb=1.0,
    )


class ScriptedRunner:
    """Gives blocks of set speeds and notes in which order it was asked."""

    def __init__(self, name: str, speeds: Callable[[int], float], log: list[str]) -> None:
        self._name, self._speeds, self._log = name, speeds, log
        self._count = 0

    config = SimpleNamespace(frames_ahead=0)
    warmup = 2

    def frames_for(self, seconds: float) -> int:
        return 20

    def whole(self, frames: int) -> int:
        return frames

    def block(self, frames: int, at: int | None = None) -> BlockReply:
        self._log.append(self._name)
        self._count += 1
        return BlockReply(block(self._speeds(self._count), frames=frames), ())


def run_race(
    candidate: Callable[[int], float], plan: RacePlan, left: Callable[[], float] = lambda: 1.0
) -> tuple[Any, list[str]]:
    log: list[str] = []
    a = ScriptedRunner("A", lambda i: 10 + 0.1 * (i % 3), log)
    b = ScriptedRunner("B", candidate, log)
    result = race(cast(Runner, a), cast(Runner, b), "throughput", 0.01, plan, left)
    return result, log


def test_a_clear_race_ends_after_the_pairs_that_are_always_run() -> None:
    result, log = run_race(lambda i: 20 + 0.1 * (i % 2), RacePlan(min_pairs=4, max_pairs=9))
    assert result.comparison.verdict == "faster"
    assert result.comparison.ratio.value == pytest.approx(2.0, rel=0.05)
    assert len(result.candidate) == len(result.reference) == 4
    assert "".join(log) == "ABBAABBA"  # the order alternates


def test_an_undecided_race_goes_on_to_the_last_pair() -> None:
    result, log = run_race(lambda i: 10 + (1 if i % 2 else -1), RacePlan(min_pairs=4, max_pairs=7))
    assert result.comparison.verdict == "not distinguishable"
    assert len(log) == 14


def test_an_undecided_race_of_long_blocks_ends_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(0, 10)
    monkeypatch.setattr("saccade.optimize.race.time", SimpleNamespace(monotonic=clock.__next__))
    plan = RacePlan(block_s=0.8, min_pairs=4, max_pairs=7)
    result, _ = run_race(lambda i: 10 + (1 if i % 2 else -1), plan)
    assert len(result.candidate) == 4


@pytest.mark.parametrize(("left_s", "pairs"), [(18.0, 4), (30.0, 6), (600.0, 7)])
def test_an_undecided_race_takes_a_share_of_the_time_that_is_left(
    left_s: float, pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second per pair; a sixth of the time."""
    clock = itertools.count()
    monkeypatch.setattr("saccade.optimize.race.time", SimpleNamespace(monotonic=clock.__next__))
    plan = RacePlan(min_pairs=4, max_pairs=7, share=1 / 6)
    result, _ = run_race(lambda i: 10 + (1 if i % 2 else -1), plan, lambda: left_s)
    assert len(result.candidate) == pairs


def test_a_race_ends_when_time_is_up_but_not_after_one_pair() -> None:
    result, log = run_race(lambda i: 20.0, RacePlan(min_pairs=6, max_pairs=9), lambda: 0.0)
    assert len(log) == 4
    assert result.comparison.ratio.value == pytest.approx(2.0, rel=0.05)


def test_both_sides_of_a_pair_begin_at_the_same_frame_and_go_forward_only() -> None:
    asked: dict[str, list[int | None]] = {"A": [], "B": []}

    class Noted(ScriptedRunner):
        def block(self, frames: int, at: int | None = None) -> BlockReply:
            asked[self._name].append(at)
            return super().block(frames, at)

    a, b = (Noted(name, lambda i: 10.0, []) for name in "AB")
    b.config, b.warmup = SimpleNamespace(frames_ahead=8), 8
    plan = RacePlan(min_pairs=3, max_pairs=3)
    race(cast(Runner, a), cast(Runner, b), "throughput", 0.01, plan, lambda: 1.0)
    # 8 frames to warm up, 20 measured, 8 behind them, and so on.
    assert asked["A"] == asked["B"] == [8, 44, 80]


def test_nothing_that_was_prepared_before_a_block_counts_in_it(tmp_path: Path) -> None:
    options = RuntimeOptions(threads=2, streams=2, in_flight=24)
    config = tiny_config(tmp_path, options=options, execution="overlapped")
    folder = tmp_path / "frames"
    folder.mkdir()
    for index in range(4):
        cv2.imwrite(str(folder / f"{index}.png"), np.full((64, 64, 3), 9 * index, np.uint8))
    subject = Subject(config, str(folder))
    try:
        blocks = [subject.block(24, config.frames_ahead, at).block for at in (26, 102)]
    finally:
        subject.close()
    for found in blocks:
        begun = np.array(found.emitted_s[1:]) - np.array(found.latency_ms) / 1e3
        assert (begun > 0).all(), "a frame was begun before its block"


def test_a_reel_goes_where_it_is_asked_to() -> None:
    opened: list[int] = []

    def frames() -> Iterator[Any]:
        opened.append(1)
        yield from range(100)

    reel = Reel(frames)
    assert list(reel.frames(None, 2)) == [0, 1]
    assert list(reel.frames(5, 2)) == [5, 6]
    assert list(reel.frames(None, 1)) == [7] and len(opened) == 1
    assert list(reel.frames(3, 2)) == [3, 4] and len(opened) == 2


def test_speed_is_by_the_objective() -> None:
    assert speed(block(50), "throughput") == pytest.approx(50)
    assert speed(block(50, latency_ms=4), "latency") == pytest.approx(250)
    slow, fast = [block(50, latency_ms=8)] * 4, [block(50, latency_ms=4)] * 4
    assert compare_blocks(fast, slow, "latency", 0.0).ratio.value == pytest.approx(2)
    assert compare_blocks(fast, slow, "throughput", 0.0).verdict == "not distinguishable"


def test_cpu_time_is_compared_even_where_none_was_seen() -> None:
    thrifty, greedy = [block(50, core_ms=10)] * 4, [block(50, core_ms=20)] * 4
    assert cpu_comparison(thrifty, greedy).ratio.value == pytest.approx(2)
    idle = [block(50, core_ms=0)] * 4
    assert cpu_comparison(idle, idle).verdict == "not distinguishable"


# Tuning


def job_with(cores: int) -> Job:
    environment = SimpleNamespace(cores=cores, hash="here")
    spec = SimpleNamespace(seed=0)
    return cast(Job, SimpleNamespace(environment=environment, spec=spec, source="", objective=""))


@pytest.fixture
def config(tmp_path: Path) -> PipelineConfig:
    return tiny_config(tmp_path)


def test_knobs_fit_the_execution_and_the_cores(config: PipelineConfig) -> None:
    overlapped = replace(config, execution="overlapped", reader="pyav")
    assert set(knobs(job_with(2), overlapped)) == {
        "streams",
        "in_flight",
        "queue_depth",
        "decode_threads",
    }
    assert "decode_threads" not in knobs(job_with(2), replace(overlapped, reader="opencv"))
    assert set(knobs(job_with(4), config)) == {"threads"}
    assert knobs(job_with(1), config) == {}


def test_openvinos_hints_are_tried_beside_explicit_streams(config: PipelineConfig) -> None:
    alone = replace(config, runtime="openvino")
    busy = replace(alone, execution="overlapped")
    assert knobs(job_with(2), alone)["hint"] == ["none", "latency"]
    assert with_knobs(alone, {"threads": 2, "hint": "latency"}).options.hint == "latency"
    values = {"in_flight": 6, "queue_depth": 2}
    assert BY_HINT in knobs(job_with(2), busy)["streams"]
    assert BY_HINT not in knobs(job_with(2), replace(busy, runtime="onnxruntime"))["streams"]
    hinted = with_knobs(busy, {"streams": BY_HINT, **values})
    assert (hinted.options.hint, hinted.options.in_flight) == ("throughput", 6)
    explicit = with_knobs(hinted, {"streams": 2, **values})
    assert (explicit.options.hint, explicit.options.streams) == ("none", 2)


@given(
    st.integers(1, 64),
    st.sampled_from(["sequential", "overlapped"]),
    st.sampled_from(["onnxruntime", "openvino"]),
    st.data(),
)
def test_any_setting_of_the_knobs_is_a_configuration_that_can_run(
    cores: int, execution: Any, runtime: str, data: st.DataObject
) -> None:
    described = cast(Any, SimpleNamespace(preprocessing=None))
    config = PipelineConfig(
        "detection", cast(Any, None), described, 64, 0.7, execution=execution, reader="pyav"
    )
    config = replace(config, runtime=runtime)
    space = knobs(job_with(cores), config)
    assert all(len(set(values)) == len(values) > 0 for values in space.values())
    drawn = {name: data.draw(st.sampled_from(values)) for name, values in space.items()}
    tuned = with_knobs(config, drawn)
    assert tuned.options.in_flight >= tuned.options.streams >= 1
    assert tuned.queue_depth >= 1
    if isinstance(drawn.get("streams"), int):
        assert (tuned.options.threads or 0) >= tuned.options.streams
    assert with_knobs(tuned, drawn) == tuned


def test_tuning_needs_time(config: PipelineConfig, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    assert tune(job_with(2), run, config, SilentProgress(), lambda: 0.0) is None
    assert not (run.path / "study.db").exists()


def test_a_damaged_database_says_what_to_do(config: PipelineConfig, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    (run.path / "study.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(StorageError, match=r"study\.db.*not a database.*remove the file"):
        tune(job_with(2), run, config, SilentProgress(), lambda: 1.0)


def test_a_full_disk_while_tuning_says_what_to_do(config: PipelineConfig, tiny_disk: Path) -> None:
    run = RunFolder(tiny_disk / "run")
    with pytest.raises(StorageError, match=r"study\.db.*[Ff]ree some space"):
        tune(job_with(2), run, config, SilentProgress(), lambda: 1.0)


@pytest.fixture
def raced(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Races are decided by queue depth; notes which configurations were raced."""
    log: list[str] = []

    def quick(_: Any, __: Any, config: PipelineConfig, ___: Any) -> float:
        log.append(config.hash)
        return 1.0 + config.queue_depth / 10

    monkeypatch.setattr("saccade.optimize.tuning._quick_race", quick)
    quiet = SimpleNamespace(close=lambda: None)
    monkeypatch.setattr("saccade.optimize.tuning.Runner", lambda *_: quiet)
    return log


def test_the_best_setting_wins_and_a_resumed_study_races_nothing_again(
    config: PipelineConfig, tmp_path: Path, raced: list[str]
) -> None:
    run, job = RunFolder(tmp_path / "run"), job_with(2)
    incumbent = replace(config, execution="overlapped", reader="pyav")
    half = tune(job, run, incumbent, SilentProgress(), lambda: 1.0, max_trials=5)
    before = list(raced)
    assert half is not None
    best = tune(job, run, incumbent, SilentProgress(), lambda: 1.0, max_trials=14)
    assert best is not None
    assert best.queue_depth >= half.queue_depth
    assert len(set(raced)) == len(raced) > len(before)
    elsewhere = job_with(4)
    elsewhere.environment.hash = "there"  # type: ignore[misc]
    assert tune(elsewhere, run, incumbent, SilentProgress(), lambda: 1.0) is not None
    raced.clear()
    for_latency = job_with(2)
    for_latency.objective = "latency"  # type: ignore[misc]
    tune(for_latency, run, incumbent, SilentProgress(), lambda: 1.0)
    assert raced, "what a setting is worth depends on the objective"


def test_an_incumbent_that_fails_ends_the_tuning_not_the_study(
    config: PipelineConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeFailure("gone")

    monkeypatch.setattr("saccade.optimize.tuning.Runner", fail)
    run = RunFolder(tmp_path / "run")
    assert tune(job_with(2), run, config, SilentProgress(), lambda: 1.0) is None
