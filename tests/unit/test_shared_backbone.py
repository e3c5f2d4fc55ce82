"""One backbone for two PyTorch networks: found by structure, taught by both, refused where not."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saccade import plugins
from saccade.data.assemble import unlabelled_image
from saccade.data.image_folder import ImageFolderFormat
from saccade.data.open import open_labelled
from saccade.models.equivalence import check_same
from saccade.models.torch_program import read_program, run_program
from saccade.optimize.distill import Distillation
from saccade.optimize.sharing import backbone as backbone_change
from saccade.optimize.sharing.backbone import SharedBackbone
from saccade.optimize.sharing.decode import ShareDecode
from saccade.optimize.sharing.one_pass import OnePass, work_left
from saccade.optimize.sharing.subject import SystemSubject
from saccade.optimize.training_frames import FrameSource
from saccade.pipeline.config import PipelineConfig
from saccade.pipeline.system import SystemConfig
from saccade.pipeline.system_pipeline import SystemPipeline
from saccade.testing.tiny_pair import (
    COLOURS,
    HW,
    NARROW,
    backbone,
    classifier,
    main_colours,
    pair_context,
    scenes,
    segmenter,
    tiny_pair,
    trained,
    write_scenes,
)
from saccade.validate.referee import LabelReferee

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from saccade.models.joint_module import Overlap, joined, overlap  # noqa: E402
from saccade.models.torch_layers import with_layers  # noqa: E402
from saccade.optimize.pruner import write_program  # noqa: E402
from saccade.optimize.sharing.joint_trainer import JointTrainer, both  # noqa: E402

# What each task may lose, at the bound's upper end on 60 images.
ALLOWED = {"classification": 0.2, "segmentation": 0.1}
NOTHING = Overlap({}, {}, False, 0.0)
NO_CHANGE = ([1.0, 1.0, 1.0], [0.0, 0.0, 0.0], False)


def lifted(module: Any) -> Any:
    return with_layers(torch.export.export(module, (torch.zeros(1, 3, *HW),)))


def noise(count: int = 1) -> np.ndarray:
    return np.random.default_rng(0).random((count, 3, *HW), np.float32)


# What two networks have in common


def test_a_common_backbone_is_found_by_structure() -> None:
    first, second = tiny_pair(shared=False)
    found = overlap(lifted(first), lifted(second))
    assert len(found.layers) == 8 and not found.equal
    assert 0.9 < found.work < 1.0


def test_equal_backbones_are_said_to_be_equal() -> None:
    first, second = tiny_pair(shared=True)
    assert overlap(lifted(first), lifted(second)).equal


def test_other_networks_have_nothing_in_common() -> None:
    first, _ = tiny_pair(shared=False)
    other = segmenter(backbone(2 * NARROW), 2 * NARROW).eval()
    found = overlap(lifted(first), lifted(other))
    assert not found.layers and found.work == 0.0


def test_networks_of_one_architecture_keep_their_last_layers() -> None:
    """Else one head would have to give two answers."""
    first, _ = tiny_pair(shared=False)
    other, _ = tiny_pair(shared=False, seed=1)
    found = overlap(lifted(first), lifted(other))
    assert "head" not in found.layers and len(found.layers) == 8
    assert len(overlap(lifted(first), lifted(first)).layers) == 9


def test_equal_backbones_are_joined_without_a_change() -> None:
    first, second = tiny_pair(shared=True)
    mine, theirs = lifted(first), lifted(second)
    student = joined(mine, theirs, overlap(mine, theirs))
    tensor = noise()
    expected = [*run_program(first, tensor), *run_program(second, tensor)]
    check_same(expected, run_program(student, tensor), "The joint network")
    before = sum(p.numel() for m in (first, second) for p in m.parameters())
    shared = sum(p.numel() for p in first.features.parameters())
    assert sum(p.numel() for p in student.parameters()) == before - shared


def test_each_network_is_asked_with_its_own_normalization() -> None:
    first, second = tiny_pair(shared=False)
    teacher = both(lifted(first), lifted(second), ([2.0, 3.0, 4.0], [0.1, 0.2, 0.3], True))
    tensor = noise()
    factor, offset = np.reshape([2, 3, 4], (1, 3, 1, 1)), np.reshape([0.1, 0.2, 0.3], (1, 3, 1, 1))
    other = (tensor[:, ::-1] * factor + offset).astype(np.float32)
    expected = [*run_program(first, tensor), *run_program(second, other)]
    check_same(expected, run_program(teacher, tensor), "The teacher")


# The change


def answers(config: SystemConfig, source: str) -> list[dict[str, Any]]:
    with SystemPipeline(config) as pipeline:
        return list(pipeline.stream(source))


@pytest.mark.parametrize("runtime", ["onnxruntime", pytest.param("torch", marks=pytest.mark.slow)])
def test_equal_backbones_are_shared_without_teaching(tmp_path: Path, runtime: str) -> None:
    context = pair_context(tmp_path, tiny_pair(shared=True), runtime)
    (change,) = SharedBackbone.variants(context)
    assert change.equal and change.effect == "near_lossless" and change.applies(context) is None
    prediction = change.predict(context)
    assert prediction.gain > 1.3 and prediction.cost_s == 0.0
    changed = change.apply(context)
    assert changed.sharing.one_pass and changed.parts[0].model.program is None
    expected = answers(context.config, context.plans[0].source)
    found = answers(changed, context.plans[0].source)
    for before, now in zip(expected, found, strict=True):
        assert np.allclose(before["classification"].scores, now["classification"].scores, atol=1e-4)
        assert np.mean(before["segmentation"].mask != now["segmentation"].mask) < 1e-3


def test_one_pass_computes_equal_backbones_once(tmp_path: Path) -> None:
    """The exact way: no teaching, and no PyTorch when it runs."""
    context = pair_context(tmp_path, tiny_pair(shared=True), "onnxruntime")
    first, second = context.config.parts
    assert work_left((first, second), HW) < 0.2
    context = replace(context, config=ShareDecode(0, "", True).apply(context))
    changed = OnePass().apply(context)
    assert SharedBackbone(equal=True).applies(replace(context, config=changed)) is not None


def test_other_architectures_are_refused(tmp_path: Path) -> None:
    first, _ = tiny_pair(shared=False)
    other = segmenter(backbone(2 * NARROW), 2 * NARROW).eval()
    context = pair_context(tmp_path, (first, other), "onnxruntime")
    assert "other backbones" in str(SharedBackbone().applies(context))


def test_models_that_do_not_come_from_pytorch_are_refused(tmp_path: Path) -> None:
    context = pair_context(tmp_path, tiny_pair(shared=True), "onnxruntime")
    config = context.config.parts[1]
    bare = replace(config, model=replace(config.model, program=None))
    plans = (context.plans[0], replace(context.plans[1], config=bare))
    reason = SharedBackbone().applies(replace(context, plans=plans))
    assert reason == "the model of segmentation does not come from PyTorch"


# Teaching, with networks that can do something


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Threads that wait for one another take most of the time of networks this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def relatives(one_thread: None) -> tuple[Any, Any]:
    """Both networks trained for their tasks from one backbone, which each has made its own."""
    torch.manual_seed(3)
    images, masks = scenes(48)
    segments = trained(segmenter(backbone(NARROW), NARROW), images, masks)
    features = copy.deepcopy(segments.features)
    classifies = classifier(features, NARROW)
    return trained(classifies, images, main_colours(masks), learning_rate=1e-3), segments


def accuracy(program: str | Path) -> tuple[float, float]:
    """Share of images and of pixels that a joint program gets right, on scenes it never saw."""
    images, masks = scenes(60, seed=9)
    module = read_program(program).module()
    right, pixels = [], []
    for image, mask, label in zip(images, masks, main_colours(masks), strict=True):
        tensor = image.transpose(2, 0, 1)[None].astype(np.float32) / 255
        scores, planes = run_program(module, tensor)
        right.append(scores[0].argmax() == label)
        pixels.append((planes[0].argmax(0) == mask).mean())
    return float(np.mean(right)), float(np.mean(pixels))


def frames_in(folder: Path, config: PipelineConfig) -> FrameSource:
    from PIL import Image

    folder.mkdir()
    for index, image in enumerate(scenes(40, seed=5)[0]):
        Image.fromarray(image).save(folder / f"{index:03}.png")
    images = tuple(unlabelled_image((path, 32, 32)) for path in sorted(folder.iterdir()))
    return FrameSource(replace(config, preprocessor="fused"), images, (-1,) * len(images), None)


@pytest.mark.slow
def test_teaching_makes_one_backbone_serve_both(relatives: tuple[Any, Any], tmp_path: Path) -> None:
    context = pair_context(tmp_path, relatives, "torch")
    (change,) = SharedBackbone.variants(context)
    assert not change.equal and change.effect == "lossy" and change.applies(context) is None
    source = frames_in(tmp_path / "frames", context.naive[0])
    empty = replace(source, images=(), labels=())
    programs = str(tmp_path / "classification.pt2"), str(tmp_path / "segmentation.pt2")
    trainer = JointTrainer(programs, HW)
    before, now = tmp_path / "before.pt2", tmp_path / "now.pt2"
    trainer.write_untrained(str(before))
    settings = Distillation(budget_s=120.0, max_steps=300, learning_rate=1e-3, patience=50)
    lesson = trainer.train((source, empty), 120, NO_CHANGE, settings, str(now))
    assert lesson.steps > 0 and lesson.loss_after < 0.5 * lesson.loss_before
    alone = joined(lifted(relatives[0]), lifted(relatives[1]), NOTHING)
    write_program(alone, trainer._like, torch.zeros(1, 3, *HW), str(tmp_path / "alone.pt2"))
    wanted, untaught, taught = map(accuracy, (tmp_path / "alone.pt2", before, now))
    assert taught[1] > untaught[1] and wanted[1] - taught[1] < 0.05
    assert wanted[0] - taught[0] < 0.15


class Judged:
    """A system in this process, one task of it, as a judge asks it."""

    def __init__(self, config: SystemConfig, source: str, part: int) -> None:
        self.config, self._part = config.parts[part], part
        self._subject = SystemSubject(config, source)
        self.worker = self

    def call(self, method: str, *arguments: Any, timeout_s: float = 0.0) -> Any:
        return getattr(self._subject, f"{method}_part")(self._part, *arguments)


def judgements(
    systems: tuple[SystemConfig, SystemConfig], folder: Path, source: str
) -> dict[str, bool]:
    """Whether the second system keeps what the first says, task by task, by the real judges."""
    found = {}
    for part, path in enumerate(write_scenes(folder, 60)):
        task = systems[0].tasks[part]
        dataset = open_labelled(path, COLOURS, task).val
        assert dataset is not None and dataset.labelled
        metric = plugins.load("tasks", task).metrics[0]
        before, after = (Judged(system, source, part) for system in systems)
        referee = LabelReferee(dataset, before, metric, ALLOWED[task], 0)
        found[task] = referee.judge(after, "lossy").keep
    return found


def test_a_taught_backbone_is_kept_and_an_untaught_one_refused(
    relatives: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # the worker's
    monkeypatch.setattr(backbone_change, "LEARNING_RATE", 2e-3)
    context = pair_context(tmp_path, relatives, "onnxruntime")
    frames = frames_in(tmp_path / "frames", context.naive[0]).images[0].path.parent
    calibration = ImageFolderFormat.read(frames).val
    plans = tuple(replace(plan, calibration=calibration) for plan in context.plans)
    context = replace(context, plans=(plans[0], plans[1]))
    source = context.plans[0].source
    taught = SharedBackbone(budget_s=30.0).apply(context)
    untaught = SharedBackbone(equal=True).apply(context)
    assert taught.sharing.one_pass and taught.hash != untaught.hash
    kept = judgements((context.config, taught), tmp_path / "taught", source)
    refused = judgements((context.config, untaught), tmp_path / "untaught", source)
    assert kept == {"classification": True, "segmentation": True}
    assert not refused["segmentation"]
