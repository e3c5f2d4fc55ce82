"""Pruning: layers made again, channels taken out, the ratio chosen by what a race says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from saccade.errors import ChangeRefused, ModelError
from saccade.models.conversions.contract import program_of
from saccade.models.conversions.torch_to_onnx import TorchToOnnx
from saccade.models.equivalence import difference
from saccade.models.onnx_file import read_onnx
from saccade.models.onnx_run import run_once
from saccade.models.torch_program import read_program, run_program
from saccade.optimize import pruning
from saccade.optimize.change import PlanContext
from saccade.optimize.changes.prune import Prune
from saccade.optimize.distill import Distillation
from saccade.optimize.pruning import Candidate, Measured, choose, is_pruned, pruned
from saccade.optimize.search import Search
from saccade.pipeline.config import PipelineConfig
from saccade.statistics import Comparison, Interval, RatioEstimate
from saccade.study import Trial
from saccade.testing.tiny_torch import HW, classifier_context, exported, residual_net

torch = pytest.importorskip("torch")
pytest.importorskip("torch_pruning")
pytest.importorskip("onnxscript")

from saccade.models.torch_layers import with_layers  # noqa: E402
from saccade.optimize.channels import (  # noqa: E402
    kept_channels,
    parameter_count,
    protected_layers,
    without_channels,
)

QUICK = Distillation(max_steps=4, budget_s=60.0, batch=4)
EXAMPLE = torch.zeros(1, 3, *HW)


def lifted(module: Any) -> Any:
    return with_layers(torch.export.export(module, (EXAMPLE,)))


def comparison(ratio: float) -> Comparison:
    verdict = "faster" if ratio > 1.05 else "slower" if ratio < 0.95 else "not distinguishable"
    interval = Interval(ratio * 0.98, ratio * 1.02, 0.95)
    return Comparison(cast(Any, verdict), RatioEstimate(ratio, interval, 5), 0.03, "planted")


# Layers


def test_layers_are_made_again_and_answer_the_same() -> None:
    net = residual_net()
    module = lifted(net)
    tensor = np.random.default_rng(1).normal(size=(1, 3, *HW)).astype(np.float32)
    (expected,), (found,) = run_program(net, tensor), run_program(module, tensor)
    assert difference(expected, found) < 1e-6
    kinds = {type(layer).__name__ for layer in module.children()}
    assert kinds == {"Conv2d", "BatchNorm2d", "PReLU", "Linear"}
    assert parameter_count(module) == parameter_count(net)


def test_layers_are_copies_that_can_be_trained() -> None:
    program = torch.export.export(residual_net(), (EXAMPLE,))
    module = with_layers(program)
    before = program.state_dict["head.bias"].clone()
    module(EXAMPLE + 1).sum().backward()
    with torch.no_grad():
        for parameter in module.parameters():
            assert parameter.grad is not None
            parameter.add_(1)
    assert torch.equal(program.state_dict["head.bias"], before)


def test_a_layer_used_twice_stays_one_layer() -> None:
    class Twice(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 3, 3, 1, 1)

        def forward(self, image: Any) -> Any:
            return self.conv(torch.relu(self.conv(image)))

    assert len(list(lifted(Twice()).children())) == 1


def test_normalization_of_vectors_is_a_layer_of_its_own_kind() -> None:
    class Net(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.stem = torch.nn.Conv2d(3, 16, 3)
            self.head = torch.nn.Linear(16, 8)
            self.norm = torch.nn.BatchNorm1d(8)

        def forward(self, image: Any) -> Any:
            return self.norm(self.head(self.stem(image).mean((2, 3))))

    net = Net().eval()
    assert torch.equal(lifted(net)(EXAMPLE), net(EXAMPLE))


def test_a_program_without_layers_is_refused() -> None:
    class Nothing(torch.nn.Module):  # type: ignore[misc]
        def forward(self, image: Any) -> Any:
            return image.mean((2, 3))

    with pytest.raises(ModelError, match="no convolution, linear layer"):
        lifted(Nothing())


# Channels


@pytest.mark.parametrize(
    ("channels", "share", "multiple", "kept"),
    [(64, 0.3, 8, 48), (64, 0.3, 16, 48), (24, 0.5, 16, 16), (16, 0.5, 16, 16), (6, 0.5, 8, 6)],
)
def test_channels_stay_multiples(channels: int, share: float, multiple: int, kept: int) -> None:
    assert kept_channels(channels, share, multiple) == kept


def test_channels_go_everywhere_they_pass_through() -> None:
    module = lifted(residual_net())
    small = without_channels(module, EXAMPLE, 0.5, 8)
    widths = dict(small.named_children())
    assert widths["wide_0"].out_channels == widths["wide_1"].num_features == 32
    assert widths["depth"].groups == widths["depth"].out_channels == 32
    assert widths["narrow"].in_channels == 32
    assert small(EXAMPLE).shape == (1, 5)
    assert parameter_count(module) == parameter_count(lifted(residual_net()))  # left alone


def test_the_least_important_channels_go() -> None:
    class Two(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.first = torch.nn.Conv2d(3, 16, 1)
            self.last = torch.nn.Conv2d(16, 4, 1)

        def forward(self, image: Any) -> Any:
            return self.last(torch.relu(self.first(image)))

    net = Two()
    with torch.no_grad():
        net.first.weight[::2] *= 1e-3
        net.first.bias[::2] = 0
        net.last.weight[:, ::2] *= 1e-3
    small = without_channels(lifted(net), EXAMPLE, 0.5, 8)
    image = torch.randn(1, 3, *HW)
    assert torch.allclose(small(image), net(image), atol=1e-4)


def test_layers_read_by_position_keep_their_channels() -> None:
    class Split(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.free = torch.nn.Conv2d(3, 32, 3, 1, 1)
            self.read = torch.nn.Conv2d(32, 32, 1)
            self.last = torch.nn.Conv2d(16, 4, 1)

        def forward(self, image: Any) -> Any:
            first, second = torch.relu(self.read(torch.relu(self.free(image)))).split(16, 1)
            return self.last(first * second)

    module = lifted(Split())
    names = {name for name, layer in module.named_children() if layer in protected_layers(module)}
    assert names == {"read", "last"}
    small = dict(without_channels(module, EXAMPLE, 0.5, 8).named_children())
    assert (small["free"].out_channels, small["read"].out_channels) == (16, 32)


def test_a_residual_stream_keeps_its_channels() -> None:
    """A channel taken out of it would be missing in every block."""
    small = dict(without_channels(lifted(residual_net()), EXAMPLE, 0.5, 8).named_children())
    assert small["stem_0"].out_channels == small["narrow"].out_channels == 32
    assert small["head"].in_features == 32


def test_a_model_that_cannot_lose_channels_says_so() -> None:
    with pytest.raises(ModelError, match="No layer can lose 30% of its channels"):
        without_channels(lifted(residual_net(8)), EXAMPLE, 0.3, 16)


# Choice


def measured(*gains: float) -> list[Measured]:
    left = np.linspace(0.9, 0.5, len(gains))
    return [
        Measured(Candidate(1 - part, 8, float(part), f"{part}.pt2"), comparison(gain))
        for part, gain in zip(left, gains, strict=True)
    ]


def test_the_gentlest_of_those_that_gain_nearly_as_much_is_chosen() -> None:
    found = measured(1.2, 1.48, 1.5, 1.49)
    assert choose(found) is found[1]


def test_nothing_is_chosen_where_nothing_is_faster() -> None:
    with pytest.raises(ChangeRefused, match=r"smaller but not faster .* 90% of the weights left"):
        choose(measured(1.0, 0.9))


# The change. What a race would say is planted: it follows from the model's structure.


@pytest.fixture
def context(tmp_path: Path) -> PlanContext:
    program = exported(residual_net(), tmp_path / "net.pt2")
    return classifier_context(tmp_path, program)


def weights_of(config: PipelineConfig) -> int:
    program = program_of(config.model)
    assert program is not None
    return sum(value.numel() for value in read_program(program).parameters())


def operators_of(config: PipelineConfig) -> int:
    program = program_of(config.model)
    assert program is not None
    return sum(node.op == "call_function" for node in read_program(program).graph.nodes)


def compute_bound(context: PlanContext, changed: PipelineConfig) -> Comparison:
    """A machine whose time is the number of weights."""
    return comparison(weights_of(context.config) / weights_of(changed))


def overhead_bound(context: PlanContext, changed: PipelineConfig) -> Comparison:
    """A machine whose time is the number of operators, which pruning leaves as it is."""
    before, after = operators_of(context.config), operators_of(changed)
    return comparison(before / after)


@pytest.mark.parametrize("runtime", [pytest.param("torch", marks=pytest.mark.slow), "onnxruntime"])
def test_pruning_that_pays_is_trained_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: str
) -> None:
    program = exported(residual_net(), tmp_path / "net.pt2")
    context = classifier_context(tmp_path, program, runtime)
    # Converters crash on some graphs, so none of them runs in this process.
    monkeypatch.setattr(TorchToOnnx, "convert", lambda *_: pytest.fail("converted here"))
    after = pruned(context, 0.5, compute_bound, QUICK)
    assert after.model.format == context.config.model.format
    assert weights_of(after) < weights_of(context.config)
    assert is_pruned(program_of(after.model) or "")
    tensor = np.zeros((1, 3, *HW), np.float32)
    (said,) = run_program(read_program(program_of(after.model) or "").module(), tensor)
    assert said.shape == (1, 5)
    if runtime == "onnxruntime":
        (same,) = run_once(read_onnx(after.model.path), {"images": tensor})
        assert difference(said, same) < 1e-3


def test_the_same_request_is_carried_out_once(
    context: PlanContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = pruned(context, 0.5, compute_bound, QUICK)
    monkeypatch.setattr(pruning, "_make", lambda *_: pytest.fail("made again"))
    assert pruned(context, 0.5, compute_bound, QUICK) == first


def test_smaller_but_not_faster_is_refused(context: PlanContext) -> None:
    with pytest.raises(ChangeRefused, match="smaller but not faster on this target"):
        pruned(context, 0.5, overhead_bound, QUICK)
    assert not list(context.folder.glob("*.pruning.json"))


def test_a_refusal_is_on_record_with_its_reason(
    context: PlanContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "measured_contest", overhead_bound)
    draft = Trial(1, 0, "prune", "prune", {}, "", "", "failed", "")
    search = Search.__new__(Search)  # only the step that applies a change is looked at
    trial = search._measured(context, Prune(0.5), draft)
    assert trial.verdict == "worse"
    assert not trial.kept
    assert trial.reason.startswith("smaller but not faster on this target")


# When it applies


def test_it_applies_to_what_comes_from_pytorch(context: PlanContext) -> None:
    assert Prune(0.3).applies(context) is None
    foreign = replace(context.config.model, format="onnx", program=None)
    other = replace(context, config=replace(context.config, model=foreign))
    assert "does not come straight from a PyTorch model" in (Prune(0.3).applies(other) or "")


def test_it_needs_frames_to_train_on(context: PlanContext) -> None:
    nothing = replace(context, calibration=None)
    assert "fewer than 8 images" in (Prune(0.3).applies(nothing) or "")


def test_it_says_what_is_not_installed(
    context: PlanContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    real: Callable[..., Any] = importlib.util.find_spec
    absent = lambda name, *rest: None if name == "torch_pruning" else real(name, *rest)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", absent)
    assert Prune(0.3).applies(context) == (
        "torch-pruning not installed (pip install 'saccade[prune]')"
    )


def test_the_repair_is_gentler_and_ends(context: PlanContext) -> None:
    rung = Prune(0.5).next_rung((), context)
    assert rung is not None
    assert rung.share < 0.3
    assert rung.next_rung((), context) is None
