"""int8 for PyTorch: near the float program, repaired where ranges are wide, or refused."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from saccade.deploy.bundle import bundle_config, write_bundle
from saccade.errors import RuntimeFailure
from saccade.models.files import model_file
from saccade.models.torch_program import read_program, run_program
from saccade.optimize import torch_quantization
from saccade.optimize.change import PlanContext, Tried
from saccade.optimize.changes import torch_int8
from saccade.optimize.changes.torch_execution import ExecuteTorch
from saccade.optimize.changes.torch_int8 import LACKING, QuantizeTorch
from saccade.optimize.quantization.kept_float import kept_float
from saccade.optimize.quantization.ladder import RUNGS
from saccade.optimize.quantization.recipe import Recipe
from saccade.optimize.torch_quantization import FULL, REDUCED, TorchJob, TorchQuantizer, quantized
from saccade.optimize.torch_sensitivity import measure, output_layers
from saccade.pipeline.config import RuntimeOptions
from saccade.pipeline.pipeline import Pipeline
from saccade.runtimes.contract import Session, SessionRequest
from saccade.runtimes.torch import Torch
from saccade.runtimes.torch_int8 import register_operators
from saccade.testing.tiny_depthwise import SIZE, textures
from saccade.testing.tiny_models import tiny_config, write_tiny
from saccade.testing.tiny_torch import HW, classifier_context, exported, residual_net

torch = pytest.importorskip("torch")
pytest.importorskip("torchao")

SAMPLES, UNSEEN = textures(12), textures(40, seed=9)
# Share of what one setting breaks that leaving the most sensitive layers float wins back.
BROKEN, RECOVERED = 0.3, 0.8
FACTOR = 2000.0

Array = NDArray[np.float32]


class Here:
    """Stands in for the worker: a process of its own would load PyTorch once more."""

    def __init__(self, kind: str, tools: str) -> None:
        assert kind == torch_quantization.WORKER

    def call(self, method: str, *arguments: Any, timeout_s: float) -> None:
        getattr(TorchQuantizer(), method)(*arguments)

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *error: object) -> None:
        pass


@pytest.fixture(scope="module", autouse=True)
def in_this_process() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_quantization, "workshop", Here)
        yield


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> PlanContext:
    folder = tmp_path_factory.mktemp("torch")
    return classifier_context(folder, exported(residual_net(), folder / "net.pt2"))


@pytest.fixture(scope="module")
def change(context: PlanContext) -> QuantizeTorch:
    (first,) = QuantizeTorch.variants(context)
    return first


def opened(config: Any, level: str) -> Session:
    options = RuntimeOptions(threads=1, graph_level=level)
    return Torch.open(SessionRequest(config.model, HW, options, "images"))


def test_the_file_is_int8_and_answers_like_the_float_program(
    context: PlanContext, change: QuantizeTorch
) -> None:
    assert change.applies(context) is None
    after = change.apply(context)
    assert after.model.quantized and after.model.format == "torch_export"
    assert (after.options.graph_level, after.options.precision) == ("compile", "fp32")
    sample = np.random.default_rng(0).normal(size=(1, 3, *HW)).astype(np.float32)
    exact, rough = (
        opened(config, "default").infer(sample)[0].copy() for config in (context.config, after)
    )
    assert 0 < np.square(rough - exact).sum() < 0.01 * np.square(exact).sum()
    # No float weight is left in it.
    stored = read_program(after.model.path).state_dict
    assert {str(t.dtype) for t in stored.values() if t.dim() > 1} == {"torch.int8"}
    assert len(change.details(context)["sensitivity"]) == 5


def test_a_bundle_of_it_is_compiled_to_int8_kernels(
    context: PlanContext, change: QuantizeTorch, tmp_path: Path
) -> None:
    after = change.apply(context)
    plain = replace(after, options=replace(after.options, graph_level="default"))
    folder = write_bundle(after, {}, tmp_path / "bundle")
    loaded = bundle_config(folder)
    assert loaded.model.quantized and str(folder) in loaded.model.path
    frame = np.random.default_rng(0).integers(0, 255, (*HW, 3), np.uint8)
    found = []
    for config in (plain, loaded):
        with Pipeline(config) as pipeline:
            found.append(pipeline(frame).scores)
    np.testing.assert_allclose(found[0], found[1], atol=1e-4)


def test_its_layers_are_in_the_profile_as_int8(context: PlanContext, change: QuantizeTorch) -> None:
    after = change.apply(context)
    request = SessionRequest(after.model, HW, after.options, "images", profile=True)
    session = Torch.open(request)
    sample = np.zeros((1, 3, *HW), np.float32)
    for _ in range(3):
        session.infer(sample)
    found = {
        (op.kind, op.precision) for op in session.operators() if op.kernel.startswith("onednn::")
    }
    session.close()
    assert found == {("Conv", "int8"), ("MatMul", "int8")}


def wide_program() -> Any:
    """The module of a classifier in which two channels are wider than the others by `FACTOR`."""
    nn = torch.nn
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 1),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, 2, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 10),
    )
    with torch.no_grad():
        net[2].weight[:2] *= FACTOR
        net[2].bias[:2] *= FACTOR
        net[4].weight[:, :2] /= FACTOR
    program = torch.export.export(net.eval(), (torch.zeros(1, 3, SIZE, SIZE),))
    return program.module(check_guards=False)


def answers(module: Any) -> Array:
    return np.concatenate([run_program(module, sample)[0] for sample in UNSEEN])


def rounded(recipe: Recipe, kept: Sequence[str] = ()) -> Array:
    program = quantized(wide_program(), SAMPLES, recipe, kept)
    return answers(program.module(check_guards=False))


def test_what_wide_ranges_break_is_repaired_by_layers_that_stay_float() -> None:
    exact = answers(wide_program())
    ranked = measure(wide_program(), SAMPLES, FULL, 60.0, True)
    assert ranked[0].node == "conv2d_2"  # it takes the wide channels
    kept = kept_float("skip", ranked)

    def noise(found: Array) -> float:
        """Over what tells one image from another."""
        return float(np.square(found - exact).sum() / np.square(exact - exact.mean(0)).sum())

    broken, repaired = noise(rounded(Recipe())), noise(rounded(Recipe(), kept))
    assert broken >= BROKEN
    assert broken - repaired >= RECOVERED * broken


def test_what_stays_float_is_float() -> None:
    module = wide_program()
    every = output_layers(module, 9)
    assert {"conv2d", "conv2d_1", "conv2d_2", "linear"} <= set(every)
    assert output_layers(module, 0) == []
    assert "conv2d_2" not in output_layers(module, 1)
    np.testing.assert_allclose(rounded(Recipe(), every), answers(module), rtol=1e-5, atol=1e-6)


def test_without_vnni_activations_have_seven_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    def levels(*flags: str) -> int:
        monkeypatch.setattr("saccade.environment.detect", lambda: SimpleNamespace(isa_flags=flags))
        return torch_quantization.activation_levels()

    assert (levels("avx2"), levels("avx2", "avx512_vnni")) == (REDUCED, FULL)
    program = quantized(wide_program(), SAMPLES, Recipe(), (), REDUCED)
    ends = {
        node.args[4] for node in program.graph.nodes if "quantize_per_tensor" in str(node.target)
    }
    assert ends == {REDUCED}


def test_nms_behind_the_program_stays_behind_it(tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    from saccade.models.torch_nms import read_suppressing, with_nms
    from saccade.optimize.quantization.calibration import CalibrationData
    from saccade.testing.tiny_torch import pictures

    config = tiny_config(tmp_path, (64, 64))
    limits = {"score_threshold": 0.1, "iou_threshold": 0.5, "max_detections": 9}
    before = write_tiny("torch_export", tmp_path, (64, 64))
    program, target = tmp_path / "nms.pt2", tmp_path / "int8.pt2"
    with_nms(before, program, config.description, **limits)  # type: ignore[arg-type]
    images = tuple(pictures(tmp_path / "images", 4).images)
    job = TorchJob(
        replace(config, model=model_file(program), runtime="torch"),
        Recipe(),
        CalibrationData(images),
        FULL,
        tmp_path / "sensitivity.json",
    )
    TorchQuantizer().run(job, str(target))
    register_operators()
    assert read_suppressing(target)[1] == read_suppressing(program)[1] is not None


def test_it_is_refused_with_a_reason(
    context: PlanContext, change: QuantizeTorch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reason(**changes: Any) -> str:
        return str(change.applies(replace(context, config=replace(context.config, **changes))))

    model = context.config.model
    assert "TensorRT" in reason(runtime="torch-cuda")
    assert "runs in openvino" in reason(runtime="openvino")
    assert "quantized already" in reason(model=replace(model, stored="int8"))
    assert "torchscript format" in reason(model=replace(model, format="torchscript"))
    assert "one input size" in reason(model=replace(model, dynamic=True))
    assert "one input shape" in reason(shape="rect")
    assert "no frames" in str(change.applies(replace(context, calibration=None)))
    with monkeypatch.context() as patch:
        patch.setattr(torch_int8.platform, "machine", lambda: "aarch64")
        assert "aarch64" in reason()
    with monkeypatch.context() as patch:
        patch.setattr(torch_int8, "find_spec", lambda name: None)
        assert "saccade[torch-int8]" in reason()
    with monkeypatch.context() as patch:
        patch.setattr(torch_int8.shutil, "which", lambda name: None)
        assert "no C++ compiler" in reason()


def test_an_int8_program_is_run_in_no_other_way(
    context: PlanContext, change: QuantizeTorch
) -> None:
    after = replace(context, config=change.apply(context))
    assert all(way.applies(after) for way in ExecuteTorch.variants(after))
    request = SessionRequest(after.config.model, None, after.config.options, "images")
    with pytest.raises(RuntimeFailure, match="one input size"):
        Torch.open(request)
    from saccade.runtimes.torch_loading import load

    with pytest.raises(RuntimeFailure, match="run on CPUs"):
        load(request, "cuda")


def test_the_ladder_has_the_rungs_that_torchao_has(
    context: PlanContext, change: QuantizeTorch
) -> None:
    tried = [Tried(change, 0.5)]
    while (step := tried[-1].change.next_rung(tried, context)) is not None:
        tried.append(Tried(step, math.inf))
        assert len(tried) < 20
    reached = {one.change.rung for one in tried[1:]}
    closed = dict(change.closed_rungs(context))
    assert closed == LACKING
    assert reached | set(closed) == {rung.name for rung in RUNGS}
    assert not any(one.change.recipe.bias_correction for one in tried)
