"""YOLO11n and YOLOX-nano in each other's place, on COCO images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from saccade.data.images import read_image
from saccade.optimize.changes.model_swap import ModelSwap
from saccade.optimize.changes.rect_letterbox import RectLetterbox
from saccade.optimize.job import Job, plan_context
from saccade.optimize.plan import make_plan
from saccade.pipeline.config import PipelineConfig
from saccade.pipeline.pipeline import Pipeline
from saccade.playbook.candidates import with_candidates
from saccade.playbook.prepare import prepare
from saccade.progress import SilentProgress
from saccade.spec import make_spec
from saccade.study import RunFolder
from saccade.tasks.detection import DetectionTask
from saccade.testing.planted import healthy
from saccade.validate.detection_metrics import evaluate, evaluate_by_size

pytestmark = pytest.mark.realdata

# From the sample data's README: pycocotools on the 64 validation images.
MAP = {"yolo11n": 0.468, "yolox_nano_coco": 0.345}


@pytest.fixture(scope="module")
def models(data_root: Path, yolo11n: Path) -> dict[str, Path]:
    yolox = data_root.parent / "models" / "yolox_nano_coco.onnx"
    if not yolox.is_file():
        pytest.skip(f"'{yolox}' is missing")
    return {"yolo11n": yolo11n, "yolox_nano_coco": yolox}


@pytest.fixture(scope="module")
def job_of(
    data_root: Path, models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Job]:
    def prepared(own: str) -> Job:
        folder = tmp_path_factory.mktemp(own)
        espnet = data_root.parent / "models" / "espnet_camvid_360x480.onnx"
        spec = make_spec(
            {
                "model": models[own],
                "data": data_root / "coco" / "data.yaml",
                "goals": ["throughput_fps>=10", "map50_95_drop<=0.01"],
                "candidates": [*models.values(), espnet],
            }
        )
        run = RunFolder(folder)
        return with_candidates(prepare(spec, run, SilentProgress()), run, SilentProgress())

    return prepared


def accuracy(job: Job, config: PipelineConfig) -> tuple[float, dict[str, Any]]:
    assert job.roles is not None and job.roles.report is not None
    dataset = job.roles.report
    config = replace(config, preprocessor="fused", nms="vectorized")
    with Pipeline(config) as pipeline:
        results = [pipeline.judge(read_image(image.path), 0.001) for image in dataset.images]
    found = DetectionTask.collect(results)
    return evaluate(dataset, found).map50_95, evaluate_by_size(dataset, found)


@pytest.mark.slow
@pytest.mark.parametrize(("own", "other"), [tuple(MAP), tuple(MAP)[::-1]])
def test_each_takes_the_others_place_with_its_own_preprocessing(
    own: str, other: str, job_of: Callable[[str], Job]
) -> None:
    job = job_of(own)
    assert [candidate.name for candidate in job.candidates] == [other]
    left_out = "\n".join(job.notes)
    assert "it is the model itself" in left_out
    assert "espnet_camvid_360x480.onnx' is left out" in left_out
    context = plan_context(job, replace(job.baseline, shape="rect"), healthy())
    planned = [c.change for c in make_plan(context).candidates if c.change.name == "model_swap"]
    assert [change.label for change in planned] == [f"model_swap: {other}"]
    swapped = ModelSwap.variants(context)
    (change,) = swapped
    square = replace(change.apply(context), shape=job.baseline.shape)
    found, by_size = accuracy(job, square)
    assert found == pytest.approx(MAP[other], abs=0.002)
    # As COCO's detectors do: the smaller the object, the less is found.
    assert by_size["small"][0] < by_size["medium"][0] < by_size["large"][0]
    assert sum(objects for _, objects in by_size.values()) > 100


@pytest.mark.slow
def test_a_rectangle_stays_where_the_candidate_takes_it(job_of: Callable[[str], Job]) -> None:
    """YOLOX-nano's file has a fixed square; its shape is rewritten for each stream."""
    job = job_of("yolo11n")
    context = plan_context(job, job.baseline, replace(healthy(), frame_hw=(480, 640)))
    rect = replace(context, config=RectLetterbox().apply(context))
    (change,) = ModelSwap.variants(rect)
    after = change.apply(rect)
    assert after.shape == "rect" and not after.dynamic
    with Pipeline(after) as pipeline:
        assert pipeline.letterbox((480, 640)).input_hw == (320, 416)
