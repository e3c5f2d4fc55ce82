"""A system of two pipelines: whatever is shared, each task says what it says alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_system import FRAMES, picture, write_video

from saccade import plugins
from saccade.errors import DataError
from saccade.optimize.sharing.subject import SystemSubject
from saccade.pipeline.config import PipelineConfig, RuntimeOptions
from saccade.pipeline.pipeline import Pipeline
from saccade.pipeline.system import Sharing, SystemConfig, is_system
from saccade.pipeline.system_pipeline import SystemPipeline
from saccade.testing.sharing_conformance import tiny_parts

TASKS = ("detection", "segmentation")
Alter = Callable[[PipelineConfig], PipelineConfig]


def overlapped(config: PipelineConfig) -> PipelineConfig:
    options = RuntimeOptions(threads=1, streams=1, in_flight=2)
    return replace(config, execution="overlapped", options=options)


def as_graph(config: PipelineConfig) -> PipelineConfig:
    return replace(config, preprocessor="graph")


def as_fused(config: PipelineConfig) -> PipelineConfig:
    return replace(config, preprocessor="fused")


@pytest.fixture
def video(tmp_path: Path) -> str:
    return str(write_video(tmp_path / "v.mp4"))


@pytest.fixture
def parts(tmp_path: Path) -> tuple[PipelineConfig, PipelineConfig]:
    return tiny_parts(tmp_path)


def alone(config: PipelineConfig, video: str) -> list[Any]:
    with Pipeline(config) as pipeline:
        return list(pipeline.stream(video))


def same(task: str, expected: list[Any], found: list[Any]) -> bool:
    kind = plugins.load("tasks", task)
    return bool(kind.same(kind.collect(expected), kind.collect(found)))


SHARINGS = {
    "nothing": Sharing(),
    "decode": Sharing(decode=True),
    "preprocess": Sharing(decode=True, preprocess=True),
}


@pytest.mark.parametrize("execution", ["sequential", "overlapped"])
@pytest.mark.parametrize("sharing", SHARINGS.values(), ids=SHARINGS)
def test_each_task_says_what_it_says_alone(
    parts: tuple[PipelineConfig, PipelineConfig], video: str, sharing: Sharing, execution: str
) -> None:
    expected = [alone(part, video) for part in parts]
    assert any(len(result.boxes) for result in expected[0])
    changed = [as_fused(part) for part in parts]
    if execution == "overlapped":
        changed = [overlapped(part) for part in changed]
    with SystemPipeline(SystemConfig((changed[0], changed[1]), sharing)) as pipeline:
        found = list(pipeline.stream(video))
    assert len(found) == FRAMES
    for task, before in zip(TASKS, expected, strict=True):
        assert same(task, before, [results[task] for results in found])


@pytest.mark.parametrize(
    "alter",
    [
        (as_graph, as_graph),
        (as_graph, as_fused),
        (as_fused, as_graph),
    ],
    ids=["graph-graph", "graph-fused", "fused-graph"],
)
def test_shared_pixels_feed_graphs_and_tensors(
    parts: tuple[PipelineConfig, PipelineConfig], video: str, alter: tuple[Alter, Alter]
) -> None:
    """The segmenter takes BGR and the detector RGB, so one of them gets the pixels turned round."""
    first, second = (change(part) for change, part in zip(alter, parts, strict=True))
    system = SystemConfig((first, second), SHARINGS["preprocess"])
    with SystemPipeline(system) as pipeline:
        found = list(pipeline.stream(video))
    for part, config in enumerate(parts):
        task = TASKS[part]
        assert same(task, alone(config, video), [results[task] for results in found])


def test_one_overlapped_pipeline_beside_a_sequential_one(
    parts: tuple[PipelineConfig, PipelineConfig], video: str
) -> None:
    first, second = as_fused(parts[0]), overlapped(as_fused(parts[1]))
    system = SystemConfig((first, second), SHARINGS["decode"])
    assert system.execution == "overlapped"
    with SystemPipeline(system) as pipeline:
        frames = [next(stream) for stream in [pipeline.stream(video)] for _ in range(5)]
    assert all(set(results) == set(TASKS) for results in frames)


def test_a_stream_that_is_left_early_can_be_begun_again(
    parts: tuple[PipelineConfig, PipelineConfig], video: str
) -> None:
    for sharing in SHARINGS.values():
        system = SystemConfig((overlapped(as_fused(parts[0])), as_fused(parts[1])), sharing)
        with SystemPipeline(system) as pipeline:
            stream = pipeline.stream(video)
            next(stream)
            stream.close()  # type: ignore[attr-defined]
            assert len(list(pipeline.stream(video))) == FRAMES


def test_an_image_gives_the_results_of_both(parts: tuple[PipelineConfig, PipelineConfig]) -> None:
    image = picture()
    for sharing in SHARINGS.values():
        system = SystemConfig((as_fused(parts[0]), as_fused(parts[1])), sharing)
        with SystemPipeline(system) as pipeline:
            found = pipeline(image)
            drawn = pipeline.draw(image, found)
            with pytest.raises(DataError, match="RGB uint8"):
                pipeline(image.astype(np.float32))
            counted = [pipeline.class_names[index] for index in pipeline.classes_in(found)]
        assert drawn.shape == image.shape and not np.array_equal(drawn, image)
        assert found["segmentation"].mask.shape == image.shape[:2]
        assert sum(name.startswith("detection: ") for name in counted) == len(
            found["detection"].boxes
        )
        assert any(name.startswith("segmentation: ") for name in counted)


def test_a_subject_measures_and_is_judged_task_by_task(
    parts: tuple[PipelineConfig, PipelineConfig], video: str
) -> None:
    for sharing in SHARINGS.values():
        system = SystemConfig((as_fused(parts[0]), as_fused(parts[1])), sharing)
        subject = SystemSubject(system, video)
        try:
            reply = subject.block(10, 2)
            watched = subject.watch_part(1, 3, "selection", 0.0)
        finally:
            subject.close()
        assert reply.block.frames == 10
        assert len(watched) == 3
        assert all(value >= 0 for value in reply.block.stage_ms["decode"])


def test_a_threshold_for_judging_is_that_of_one_task_only(
    parts: tuple[PipelineConfig, PipelineConfig], video: str
) -> None:
    system = SystemConfig((as_fused(parts[0]), as_fused(parts[1])), SHARINGS["preprocess"])
    with SystemPipeline(system) as pipeline:
        few = list(pipeline.judge_frames(0, video, 2, 3, 0.9))
        many = list(pipeline.judge_frames(0, video, 2, 3, 0.01))
    assert sum(len(r.boxes) for r in many) > sum(len(r.boxes) for r in few)


def test_a_system_is_a_value_that_survives_json(
    parts: tuple[PipelineConfig, PipelineConfig],
) -> None:
    system = SystemConfig(parts, SHARINGS["preprocess"])
    document = json.loads(json.dumps(system.to_dict()))
    again = SystemConfig.from_dict(document)
    assert again == system and again.hash == system.hash
    assert is_system(document) and not is_system(parts[0].to_dict())


def test_the_hash_changes_with_all_that_is_shared(
    parts: tuple[PipelineConfig, PipelineConfig],
) -> None:
    system = SystemConfig(parts)
    others = {"decode": True, "preprocess": True, "first_outputs": 1}
    assert others.keys() == {field.name for field in fields(Sharing)}
    hashes = {system.hash, SystemConfig(parts[::-1]).hash}  # type: ignore[arg-type]
    for name, value in others.items():
        hashes.add(replace(system, sharing=replace(system.sharing, **{name: value})).hash)
    assert len(hashes) == 5


def test_one_model_for_both_is_counted_once(
    parts: tuple[PipelineConfig, PipelineConfig],
) -> None:
    system = SystemConfig(parts)
    first, second = (part.model.size_mb for part in parts)
    assert system.model_mb == pytest.approx(first + second)
    one = replace(parts[1], model=parts[0].model)
    assert SystemConfig((parts[0], one)).model_mb == pytest.approx(first)
