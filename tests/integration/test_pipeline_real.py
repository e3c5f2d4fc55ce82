"""Every way of running YOLO11n on real frames: the same objects, in order, in constant memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from saccade import plugins
from saccade.data.contract import Dataset
from saccade.data.image_folder import ImageFolderFormat
from saccade.data.images import read_image
from saccade.models.files import model_file
from saccade.models.onnx_model import describe
from saccade.optimize.change import PlanContext
from saccade.optimize.changes.rect_letterbox import RectLetterbox
from saccade.optimize.quantization.make import quantized_file
from saccade.optimize.quantization.recipe import Recipe
from saccade.pipeline.config import PipelineConfig, RuntimeOptions, Shape
from saccade.pipeline.pipeline import Pipeline
from saccade.tasks.nms import iou_matrix
from saccade.tasks.results import DetectionResult
from saccade.testing.optimization_conformance import example_contexts

pytestmark = pytest.mark.realdata

COUNT, STEP = 6, 15
SMALL = 320
# What the baseline is this sure of, every variant must see; just above the threshold it may differ.
SURE, SEEN = 0.45, 0.2


@pytest.fixture(scope="module")
def video(data_root: Path) -> str:
    return str(data_root / "video" / "street-1080p.mp4")


@pytest.fixture(scope="module")
def naive(yolo11n: Path) -> PipelineConfig:
    """As `saccade.playbook.prepare.naive` makes it."""
    described = describe(yolo11n)
    return PipelineConfig(
        task="detection",
        model=model_file(yolo11n),
        description=described,
        input_size=described.input_size,
        iou_threshold=described.iou_threshold,
        score_threshold=SEEN,
    )


@pytest.fixture(scope="module")
def expected(naive: PipelineConfig, video: str) -> list[DetectionResult]:
    found = watched(naive, video)
    assert sum(int((result.scores > SURE).sum()) for result in found) > 3 * COUNT
    return found


def watched(config: PipelineConfig, video: str) -> list[DetectionResult]:
    with Pipeline(config) as pipeline:
        return list(pipeline.judge_frames(video, COUNT, STEP, SEEN))


def seen_share(expected: list[DetectionResult], found: list[DetectionResult]) -> float:
    """Share of the sure boxes that are found again: same class, IoU of 0.8 and more."""
    hits = total = 0
    for truth, result in zip(expected, found, strict=True):
        sure = truth.scores > SURE
        overlaps = iou_matrix(truth.boxes[sure], result.boxes)
        same = truth.class_ids[sure][:, None] == result.class_ids[None]
        hits += int(((overlaps > 0.8) & same).any(axis=1).sum())
        total += int(sure.sum())
    return hits / total


OVERLAPPED = RuntimeOptions(threads=2, streams=2, in_flight=3, spinning=False)
FAST = {"reader": "pyav", "resize": "planes", "nms": "vectorized"}
EXACT = {
    "fused": {"preprocessor": "fused"},
    "graph": {"preprocessor": "graph", "nms": "vectorized"},
    "static": {"options": RuntimeOptions(graph_level="static")},
    "openvino": {"runtime": "openvino"},
    "openvino, graph": {"runtime": "openvino", "preprocessor": "graph"},
    "pyav": {"reader": "pyav"},
}
CLOSE = {
    "planes": {"preprocessor": "fused", **FAST},
    "swscale": {"preprocessor": "fused", **FAST, "resize": "swscale"},
    "rect": {"shape": "rect"},
    "rect, margin": {"shape": "rect", "margin": 32, "preprocessor": "fused"},
    "openvino, rect, planes, graph": {
        "runtime": "openvino",
        "shape": "rect",
        "preprocessor": "graph",
        **FAST,
    },
}


@pytest.mark.parametrize("name", EXACT)
def test_exact_variants_find_the_same_boxes(
    name: str, naive: PipelineConfig, expected: list[DetectionResult], video: str
) -> None:
    found = watched(replace(naive, **EXACT[name]), video)  # type: ignore[arg-type]
    for truth, result in zip(expected, found, strict=True):
        assert_array_equal(result.class_ids, truth.class_ids)
        assert_allclose(result.scores, truth.scores, atol=0.01)
        assert_allclose(result.boxes, truth.boxes, atol=1.5)


@pytest.mark.parametrize("name", CLOSE)
def test_close_variants_see_the_same_objects(
    name: str, naive: PipelineConfig, expected: list[DetectionResult], video: str
) -> None:
    found = watched(replace(naive, **CLOSE[name]), video)  # type: ignore[arg-type]
    assert seen_share(expected, found) >= 0.95


@pytest.mark.parametrize("precision", ["bf16"])
def test_lower_precision_sees_the_same_objects(
    precision: str, naive: PipelineConfig, expected: list[DetectionResult], video: str
) -> None:
    offered = plugins.load("runtimes", "openvino").availability()
    if precision not in offered.precisions:
        pytest.skip(f"this CPU has no {precision}")
    options = RuntimeOptions(precision=precision)  # type: ignore[arg-type]
    found = watched(replace(naive, runtime="openvino", options=options), video)
    assert seen_share(expected, found) >= 0.9


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_overlapped_emits_what_sequential_emits(
    runtime: str, naive: PipelineConfig, video: str
) -> None:
    plain = replace(
        naive, runtime=runtime, preprocessor="graph", shape="rect", input_size=SMALL, **FAST
    )  # type: ignore[arg-type]
    found = {}
    for execution in ("sequential", "overlapped"):
        options = OVERLAPPED if execution == "overlapped" else plain.options
        config = replace(plain, execution=execution, options=options)  # type: ignore[arg-type]
        with Pipeline(config) as pipeline:
            stream = pipeline.emissions(video)
            found[execution] = list(itertools.islice(stream, 60))
            stream.close()  # type: ignore[attr-defined]
    assert [e.index for e in found["overlapped"]] == list(range(60))
    for a, b in zip(found["sequential"], found["overlapped"], strict=True):
        assert_array_equal(a.result.class_ids, b.result.class_ids)
        # Threads share the sums differently, so the last bits may differ.
        assert_allclose(a.result.boxes, b.result.boxes, atol=0.5)


def test_a_video_ends_after_its_last_frame_and_may_begin_again(
    naive: PipelineConfig, data_root: Path
) -> None:
    clip = next(iter(sorted((data_root / "video" / "TUD-Campus").rglob("*.mp4"))))
    config = replace(
        naive,
        runtime="openvino",
        input_size=SMALL,
        preprocessor="graph",
        execution="overlapped",
        options=OVERLAPPED,
        **FAST,
    )
    with Pipeline(config) as pipeline:
        once = list(pipeline.emissions(str(clip)))
        again = itertools.islice(pipeline.emissions(str(clip), loop=True), len(once) + 5)
        twice = list(again)
    assert len(once) == 71
    assert [e.index for e in twice] == list(range(len(once) + 5))
    for first, second in zip(once[:5], twice[len(once) :], strict=True):
        assert_allclose(first.result.boxes, second.result.boxes, atol=0.5)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_memory_does_not_grow_with_the_stream(
    runtime: str, naive: PipelineConfig, video: str
) -> None:
    config = replace(
        naive,
        runtime=runtime,
        shape="rect",
        input_size=192,
        preprocessor="graph",
        execution="overlapped",
        options=OVERLAPPED,
        **FAST,
    )  # type: ignore[arg-type]
    process = psutil.Process()
    with Pipeline(config) as pipeline:
        stream: Iterator[object] = pipeline.emissions(video, loop=True)
        sizes_mb = []
        for _ in range(4):
            for _ in itertools.islice(stream, 100):
                pass
            sizes_mb.append(process.memory_info().rss / 1e6)
        stream.close()  # type: ignore[attr-defined]
    # One leaked 1080p frame each is 300 MB in every hundred; an allocator's
    # pools, and what else this process does, grow now and then but not in each.
    assert min(late - early for early, late in itertools.pairwise(sizes_mb)) < 30


@pytest.fixture(scope="module")
def calibration(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Three images only: the file must run; its accuracy is another test's business."""
    folder = tmp_path_factory.mktemp("calibration")
    for path in sorted((data_root / "coco" / "images" / "calibration").glob("*.jpg"))[:3]:
        (folder / path.name).symlink_to(path)
    images = ImageFolderFormat.read(folder).val
    assert images is not None
    return images


def context_of(
    config: PipelineConfig, calibration: Dataset, folder: Path, video: str | None = None
) -> PlanContext:
    base = next(example_contexts(folder, calibration))
    return replace(base, config=config, video=video is not None, source=video or "")


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(float_depth=1),
        pytest.param(
            Recipe(float_depth=1, bias_correction=True, equalized=True), marks=pytest.mark.slow
        ),
        pytest.param(
            Recipe(float_depth=3, estimator="percentile", sensitive="skip"), marks=pytest.mark.slow
        ),
    ],
    ids=lambda recipe: recipe.label,
)
def test_int8_files_run(
    runtime: str, recipe: Recipe, naive: PipelineConfig, calibration: Dataset, tmp_path: Path
) -> None:
    pytest.importorskip("nncf")
    base = replace(naive, runtime=runtime, input_size=SMALL, preprocessor="graph")
    context = context_of(base, calibration, tmp_path)
    small = replace(base, model=quantized_file(context, runtime, recipe))
    assert small.model.quantized
    assert small.model.size_mb < 0.6 * naive.model.size_mb
    assert small.hash != base.hash
    # Asked again, the file that is there is used again.
    written = Path(small.model.path).stat().st_mtime_ns
    assert quantized_file(context, runtime, recipe) == small.model
    assert Path(small.model.path).stat().st_mtime_ns == written
    assert not list(tmp_path.rglob("partial-*"))
    image = read_image(calibration.images[0].path)
    with Pipeline(base) as exact, Pipeline(small) as rough:
        assert seen_share([exact(image)], [rough(image)]) >= 0.5


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["square", "rect"])
def test_int8_of_a_model_of_fixed_shape_runs_at_another(
    shape: Shape,
    data_root: Path,
    calibration: Dataset,
    tmp_path: Path,
) -> None:
    """Whatever the shape that it was calibrated at; rectangular ones differ from image to image."""
    pytest.importorskip("nncf")
    path = data_root.parent / "models" / "yolox_nano_coco.onnx"
    described = describe(path)
    config = PipelineConfig(
        task="detection",
        model=model_file(path),
        description=described,
        input_size=described.input_size,
        iou_threshold=described.iou_threshold,
        runtime="openvino",
        shape=shape,
    )
    context = context_of(config, calibration, tmp_path)
    quantized = replace(config, model=quantized_file(context, "openvino", Recipe()))
    if shape == "square":
        change = RectLetterbox(1)
        context = replace(context, config=quantized, frame_hw=(1080, 1920))
        assert change.applies(context) is None
        quantized = change.apply(context)
    with Pipeline(quantized) as pipeline:
        for image in calibration.images:
            result = pipeline(image.path)
            assert np.isfinite(result.boxes).all()
