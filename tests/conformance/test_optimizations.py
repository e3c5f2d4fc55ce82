"""Every optimization of the table keeps the contract in every common situation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import pytest

from saccade import plugins
from saccade.data.contract import Dataset
from saccade.data.image_folder import ImageFolderFormat
from saccade.models.files import model_file
from saccade.optimize.change import Optimization, PlanContext, Prediction, Student
from saccade.pipeline.config import PipelineConfig
from saccade.statistics import Comparison, Interval, RatioEstimate
from saccade.testing.optimization_conformance import CHECKS, Check, example_contexts
from saccade.testing.tiny_torch import classifier_context, exported, residual_net

# These need a model from PyTorch, which the common situations do without.
NEW_WEIGHTS = ("prune", "distill")
NAMES = [name for name in plugins.names("optimizations") if name not in NEW_WEIGHTS]
QUANTIZERS = {
    "int8": "nncf",
    "litert_int8": "ai_edge_quantizer",
    "executorch_int8": "executorch",
    "torch_int8": "torchao",
    "tensorrt_int8": "tensorrt",
    "openvino_int8": "nncf",
}


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("calibration")
    random = np.random.default_rng(0)
    for index in range(16):  # as many as a dynamic resolution learns from
        pixels = random.integers(0, 255, (36, 64, 3), np.uint8)
        cv2.imwrite(str(folder / f"{index}.png"), pixels)
    images = ImageFolderFormat.read(folder).val
    assert images is not None
    return images


@pytest.fixture(scope="module")
def contexts(
    calibration: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[PlanContext]]:
    """One folder for all, so that files already quantized are used again."""
    yield list(example_contexts(tmp_path_factory.mktemp("plan"), calibration))


@pytest.fixture(scope="module")
def torch_context(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlanContext]:
    """A model from PyTorch and a student, on a machine where fewer weights are faster."""
    pytest.importorskip("torch_pruning")
    from saccade.optimize import pruning, students

    def fewer_weights(context: PlanContext, changed: PipelineConfig) -> Comparison:
        ratio = context.config.model.size_mb / changed.model.size_mb
        return Comparison("faster", RatioEstimate(ratio, Interval(1, ratio, 0.95), 5), 0.0, "less")

    folder = tmp_path_factory.mktemp("torch")
    context = classifier_context(folder, exported(residual_net(), folder / "net.pt2"))
    small = exported(residual_net(8), folder / "small.pt2")
    graph = classifier_context(folder / "small", small, "onnxruntime").config.model
    student = Student("small", model_file(small), graph, context.config.description, True, 5.0)
    with pytest.MonkeyPatch.context() as patch:
        for module in (pruning, students):
            patch.setattr(module, "measured_contest", fewer_weights)
        # What is checked is the contract, not what training for a minute comes to.
        short = partial(pruning.Distillation, max_steps=10)
        patch.setattr(pruning, "Distillation", short)
        yield replace(context, students=(student,), teacher=context.config)


def one_per_model(contexts: list[PlanContext]) -> list[PlanContext]:
    """Quantizing takes seconds; what else differs has no part in it."""
    seen = {(c.config.runtime, c.config.model.sha256): c for c in reversed(contexts)}
    return list(seen.values())


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_the_contract_is_kept(name: str, check: Check, contexts: list[PlanContext]) -> None:
    kind = plugins.load("optimizations", name)
    if name in QUANTIZERS:
        pytest.importorskip(QUANTIZERS[name])
        contexts = one_per_model(contexts)
    for context in contexts:
        # A live source gives no frames to calibrate on, and the tests have no network.
        check(kind, replace(context, video=False) if name == "int8" else context)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", NEW_WEIGHTS)
def test_changes_of_weights_keep_the_contract(
    name: str, check: Check, torch_context: PlanContext
) -> None:
    kind = plugins.load("optimizations", name)
    changes = list(kind.variants(torch_context))
    assert changes and all(change.applies(torch_context) is None for change in changes)
    check(kind, torch_context)


@pytest.mark.parametrize("name", NAMES)
def test_every_optimization_applies_somewhere(name: str, contexts: list[PlanContext]) -> None:
    """Else the suite would pass without having tried it."""
    if name in QUANTIZERS:
        pytest.importorskip(QUANTIZERS[name])
    kind = plugins.load("optimizations", name)
    situations = [*contexts, *(replace(context, video=True) for context in contexts)]
    applying = [
        change
        for context in situations
        for change in kind.variants(context)
        if change.applies(context) is None
    ]
    assert applying


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_suite_notices_a_broken_optimization(check: Check, tmp_path: Path) -> None:
    context = next(example_contexts(tmp_path))  # one of its own, because it gets spoiled
    Broken.asked.clear()
    with pytest.raises(AssertionError):
        check(Broken, context)


@dataclass(frozen=False, eq=False)
class Broken:
    """Breaks every rule at once."""

    name: ClassVar[str] = "broken"
    effect = "harmless"
    label = "same label"

    @classmethod
    def variants(cls, context: PlanContext) -> list[Optimization]:
        return [cls(), cls()]  # type: ignore[list-item]

    asked: ClassVar[list[int]] = []

    def applies(self, context: PlanContext) -> str | None:
        self.asked.append(1)
        if len(context.runtimes) == 2:
            context.runtimes["mine"] = context.runtimes["openvino"]  # type: ignore[index]
        return None if len(self.asked) % 2 else ""

    def predict(self, context: PlanContext) -> Prediction:
        return Prediction(3.0, 2.0, "")

    def apply(self, context: PlanContext):  # type: ignore[no-untyped-def]
        return context.config

    rung = "the same rung"

    def next_rung(self, tried: object, context: PlanContext) -> Broken:
        return self
