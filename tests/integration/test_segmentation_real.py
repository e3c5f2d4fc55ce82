"""ESPNet on CamVid: the ways of choosing the class agree, and other sizes and ranks run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saccade import plugins
from saccade.data.contract import Dataset
from saccade.data.images import read_image
from saccade.data.open import open_labelled
from saccade.models.files import model_file
from saccade.optimize.change import PlanContext
from saccade.optimize.changes.full_rank import FullRankConstants
from saccade.optimize.changes.graph_argmax import ArgmaxInGraph
from saccade.optimize.changes.resolution import LowerResolution
from saccade.optimize.changes.running_argmax import RunningArgmax
from saccade.pipeline.config import PipelineConfig
from saccade.pipeline.pipeline import Pipeline, input_hw
from saccade.playbook.prepare import naive, runtimes
from saccade.spec import make_spec
from saccade.tasks.segmentation import Masks
from saccade.testing.planted import healthy
from saccade.validate.bootstrap import resample_weights
from saccade.validate.segmentation import SegmentationJudge

pytestmark = pytest.mark.realdata

# From the sample data's README: mIoU of the 11 classes, ONNX Runtime fp32.
REFERENCE = 0.717
OVERRIDES = {
    "channel_order": "bgr",
    "scale": 1.0,
    "mean": [110.33, 108.41, 105.03],
    "std": [18393.15, 18535.95, 17824.5],
}


@pytest.fixture(scope="module")
def plan(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> PlanContext:
    model = data_root.parent / "models" / "espnet_camvid_360x480.onnx"
    if not model.is_file():
        pytest.skip(f"'{model}' is missing")
    spec = make_spec({"task": "segmentation", "model": model, "overrides": OVERRIDES})
    described = plugins.load("tasks", "segmentation").describe(model, spec.overrides.given())
    return PlanContext(
        config=naive(spec, model_file(model), described),
        profile=healthy(),
        objective="throughput",
        cores=2,
        frame_hw=(360, 480),
        video=False,
        source=str(data_root / "camvid" / "val"),
        runtimes=runtimes(),
        calibration=None,
        folder=tmp_path_factory.mktemp("models"),
        labelled=True,
    )


@pytest.fixture(scope="module")
def dataset(data_root: Path, plan: PlanContext) -> Dataset:
    names = plan.config.description.class_names
    found = open_labelled(data_root / "camvid", names, "segmentation").val
    assert found is not None and len(found) == 40
    return found


@pytest.fixture(scope="module")
def masks_of(dataset: Dataset) -> Callable[[PipelineConfig], Masks]:
    def run(config: PipelineConfig) -> Masks:
        with Pipeline(config) as pipeline:
            results = [pipeline.judge(read_image(image.path), 0.0) for image in dataset.images]
        return Masks(tuple(result.mask for result in results))

    return run


@pytest.fixture(scope="module")
def baseline(plan: PlanContext, masks_of: Callable[[PipelineConfig], Masks]) -> Masks:
    return masks_of(plan.config)


def miou(dataset: Dataset, masks: Masks) -> float:
    weights = resample_weights(len(dataset), resamples=2)
    return SegmentationJudge.scored(dataset, masks, weights).values["miou"]


def different(first: Masks, second: Masks) -> int:
    return sum(
        int(np.count_nonzero(a != b)) for a, b in zip(first.masks, second.masks, strict=True)
    )


def applied(change: Any, plan: PlanContext) -> PipelineConfig:
    assert change.applies(plan) is None
    after: PipelineConfig = change.apply(plan)
    return after


def test_the_baseline_reproduces_the_reference(dataset: Dataset, baseline: Masks) -> None:
    assert miou(dataset, baseline) == pytest.approx(REFERENCE, abs=0.001)


@pytest.mark.parametrize("change", [RunningArgmax(), ArgmaxInGraph()])
def test_every_way_of_choosing_the_class_gives_the_same_pixels(
    change: Any,
    plan: PlanContext,
    baseline: Masks,
    masks_of: Callable[[PipelineConfig], Masks],
) -> None:
    after = applied(change, plan)
    assert different(masks_of(after), baseline) == 0
    assert change.applies(replace(plan, config=after)) is not None


def test_in_openvino_the_graphs_choice_and_the_full_ranks_change_no_pixel(
    plan: PlanContext, masks_of: Callable[[PipelineConfig], Masks]
) -> None:
    pytest.importorskip("openvino")
    there = replace(plan, config=replace(plan.config, runtime="openvino"))
    before = masks_of(there.config)
    full = applied(FullRankConstants(), there)
    assert FullRankConstants().applies(replace(there, config=full)) is not None
    both = applied(ArgmaxInGraph(), replace(there, config=full))
    assert different(masks_of(both), before) == 0


def test_what_the_search_arrives_at_keeps_the_accuracy(
    plan: PlanContext,
    dataset: Dataset,
    baseline: Masks,
    masks_of: Callable[[PipelineConfig], Masks],
) -> None:
    """The exact changes together with bf16 where there is any: the drop of a hundredth is far."""
    pytest.importorskip("openvino")
    offered = plan.runtimes["openvino"].precisions
    precision: Any = "bf16" if "bf16" in offered else "fp32"
    config = replace(plan.config, runtime="openvino", preprocessor="graph", argmax="running")
    config = replace(config, options=replace(config.options, precision=precision))
    config = applied(FullRankConstants(), replace(plan, config=config))
    assert miou(dataset, baseline) - miou(dataset, masks_of(config)) <= 0.005


def test_a_smaller_input_and_another_aspect_run_and_cost_accuracy(
    plan: PlanContext,
    dataset: Dataset,
    baseline: Masks,
    masks_of: Callable[[PipelineConfig], Masks],
) -> None:
    full = miou(dataset, baseline)
    offered = [c for c in LowerResolution.variants(plan) if c.applies(plan) is None]
    assert [input_hw(c.apply(plan)) for c in offered] == [
        (360, 384),
        (288, 384),
        (288, 304),
        (232, 312),
    ]
    for change in offered[:2]:
        found = miou(dataset, masks_of(change.apply(plan)))
        assert full / 2 < found < full
