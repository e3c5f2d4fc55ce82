"""Quantization-aware training: int8 that is closer to float than after calibration alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from saccade.models.conversions.contract import program_of
from saccade.optimize import qat
from saccade.optimize.change import PlanContext
from saccade.optimize.distill import Distillation
from saccade.optimize.distill_loss import output_loss
from saccade.optimize.qat import NncfTrainer
from saccade.optimize.qat_onnx import _rounding, write_qdq
from saccade.optimize.quantization.recipe import Recipe
from saccade.optimize.quantization.training import why_not_trained
from saccade.optimize.training_frames import FrameSource
from saccade.runtimes.openvino_core import openvino_core
from saccade.testing.tiny_torch import HW, classifier_context, exported, residual_net

torch = pytest.importorskip("torch")
ov = pytest.importorskip("openvino")
pytest.importorskip("nncf")

SETTINGS = Distillation(
    max_steps=100, budget_s=600.0, patience=100, learning_rate=1e-4, attention_weight=0.0
)
UNEVEN = 20.0
INPUTS = np.random.default_rng(0).normal(0, 1, (12, 3, *HW)).astype(np.float32)


def uneven_net() -> Any:
    """A net with one channel of large values, which leaves the others few of int8's steps."""
    net = residual_net(8)
    with torch.no_grad():
        for parameter in (net.stem[1].weight, net.stem[1].bias):
            parameter[0] *= UNEVEN
        for layer in (net.wide[0], net.head):
            layer.weight[:, 0] /= UNEVEN
        net.head.weight *= 30  # sure of its answers
    return net


@pytest.fixture
def context(tmp_path: Path) -> PlanContext:
    return classifier_context(tmp_path, exported(uneven_net(), tmp_path / "net.pt2"), "onnxruntime")


def answers(xml: str, tensors: Any) -> Any:
    compiled = openvino_core().compile_model(xml, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.concatenate([np.array(compiled(tensor[None])[0]) for tensor in tensors])


def test_training_brings_int8_closer_to_the_float_model(
    context: PlanContext, tmp_path: Path
) -> None:
    program = program_of(context.config.model)
    assert program is not None
    frames = FrameSource.of(context).load(64)
    tensors = frames.tensors
    found = []
    for name, steps in (("untrained", 0), ("trained", SETTINGS.max_steps)):
        found.append(tmp_path / f"{name}.xml")
        settings = replace(SETTINGS, max_steps=steps)
        qat.train_int8(program, frames, Recipe(), settings, qat.Written(), found[-1])
    kinds = [node.get_type_name() for node in openvino_core().read_model(found[1]).get_ops()]
    assert kinds.count("FakeQuantize") >= 4
    with torch.inference_mode():
        exact = uneven_net()(torch.from_numpy(tensors))
    before, after = (
        float(output_loss([torch.from_numpy(answers(str(path), tensors))], [exact]))
        for path in found
    )
    assert after < 0.5 * before


def test_what_lies_before_an_output_can_stay_float() -> None:
    module, example = qat.plain_module(residual_net(8)), torch.zeros(1, 3, *HW)
    assert qat.float_layers(module, example, 0) == []
    shallow, deep = (qat.float_layers(module, example, depth) for depth in (1, 2))
    assert any("linear" in name for name in shallow)
    assert not any("conv2d" in name for name in shallow)
    assert any("narrow/conv2d" in name for name in deep)
    assert not any("depth/conv2d" in name for name in deep)


def test_models_that_are_not_from_pytorch_are_refused(context: PlanContext) -> None:
    assert NncfTrainer.why_not(context.config, "openvino") is None
    assert NncfTrainer.why_not(context.config, "onnxruntime") is None
    assert "not for litert" in str(NncfTrainer.why_not(context.config, "litert"))
    foreign = replace(context.config.model, program=None)
    other = replace(context, config=replace(context.config, model=foreign))
    assert "PyTorch program" in (NncfTrainer.why_not(other.config, "openvino") or "")


def test_the_rung_of_the_ladder_writes_the_file(
    context: PlanContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qat, "TEACHING", replace(SETTINGS, max_steps=1))
    samples = [tensor[None] for tensor in FrameSource.of(context).load(8).tensors]
    target, recipe = tmp_path / "trained.xml", Recipe(float_depth=1)
    NncfTrainer.quantize(context.config, samples, recipe, "openvino", target)
    assert answers(str(target), np.concatenate(samples)).shape == (8, 5)


def test_the_rung_is_open_where_a_trainer_writes_for_the_runtime(context: PlanContext) -> None:
    assert why_not_trained(context.config, "onnxruntime") is None
    assert "not for litert" in str(why_not_trained(context.config, "litert"))


@pytest.fixture(scope="module")
def student() -> Any:
    """The uneven net with NNCF's quantizers, one range per tensor."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in qat.ENVIRONMENT.items():
            patch.setenv(name, value)
        module = qat.plain_module(uneven_net())
        return qat.quantized_module(module, INPUTS[:8], Recipe(), per_tensor=True)


def onnx_answers(path: Path, level: Any = None) -> Any:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level or onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.optimized_model_filepath = str(path.with_suffix(".optimized.onnx"))
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        str(path), options, disabled_optimizers=["WeightBiasQuantization"]
    )
    return np.concatenate([session.run(None, {"images": one[None]})[0] for one in INPUTS])


def test_trained_rounding_is_the_same_in_onnxruntime(student: Any, tmp_path: Path) -> None:
    target = tmp_path / "trained.onnx"
    write_qdq(student, INPUTS[:1], "images", False, target)
    with torch.inference_mode():
        wanted = np.concatenate([student(torch.from_numpy(one[None])).numpy() for one in INPUTS])
        plain = uneven_net()(torch.from_numpy(INPUTS)).numpy()
    found = onnx_answers(target, onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL)
    rounding = np.square(wanted - plain).mean()
    # Of a value half way between two steps, either is right; the typical image has none.
    assert np.median(np.square(found - wanted).mean(axis=1)) < 0.001 * rounding
    assert not list(tmp_path.glob("partial-*"))


def test_one_range_narrower_than_8_bits_is_clipped() -> None:
    nncf = pytest.importorskip("nncf.torch.quantization.layers")
    mode = nncf.QuantizationMode.SYMMETRIC
    spec = nncf.PTQuantizerSpec(8, mode, True, False, True, (1,), False)  # half the range
    quantizer = nncf.SymmetricQuantizer(spec).eval()
    values = torch.tensor([-2.0, -0.3, 0.4, 2.0])
    assert torch.allclose(_rounding(quantizer)(values), quantizer(values))


def test_onnxruntime_runs_what_was_trained_on_int8_kernels(student: Any, tmp_path: Path) -> None:
    target = tmp_path / "trained.onnx"
    write_qdq(student, INPUTS[:1], "images", False, target)
    onnx_answers(target)
    kinds = [n.op_type for n in onnx.load(str(target.with_suffix(".optimized.onnx"))).graph.node]
    assert kinds.count("QLinearConv") == 4
    assert not {"Conv", "FusedConv", "BatchNormalization"} & set(kinds)


@pytest.mark.slow
def test_the_rung_writes_for_onnxruntime(
    context: PlanContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qat, "TEACHING", replace(SETTINGS, max_steps=1))
    samples = [tensor[None] for tensor in FrameSource.of(context).load(8).tensors]
    target, recipe = tmp_path / "trained.onnx", Recipe(float_depth=1)
    NncfTrainer.quantize(context.config, samples, recipe, "onnxruntime", target)
    assert onnx_answers(target).shape == (len(INPUTS), 5)
