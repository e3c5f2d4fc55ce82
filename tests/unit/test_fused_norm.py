"""Batch normalization in kernels of our own does what PyTorch's does."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from saccade.errors import RuntimeFailure
from saccade.train.norms import building
from saccade.train.norms.building import why_not_built

torch = pytest.importorskip("torch")
nn = torch.nn

if reason := why_not_built():
    pytest.skip(reason, allow_module_level=True)

from saccade.train.norms.operators import batch_norm  # noqa: E402
from saccade.train.norms.swapping import fuse_norms  # noqa: E402

LAYOUTS = (torch.channels_last, torch.contiguous_format)
# Of bf16, half a step in the last place of values up to 16.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.07}


def pair(channels: int, relu: bool, **settings: Any) -> tuple[Any, Any]:
    """The same layers twice, the second by the kernels."""
    torch.manual_seed(channels)
    layers = [nn.BatchNorm2d(channels, **settings), *([nn.ReLU(inplace=True)] if relu else [])]
    plain = nn.Sequential(*layers)
    nn.init.normal_(plain[0].weight)
    nn.init.normal_(plain[0].bias)
    ours = copy.deepcopy(plain)
    assert fuse_norms(ours) == 1
    return plain, ours


def passed(module: Any, x: Any, gradient: Any) -> tuple[Any, Any]:
    """Output and gradient of the input."""
    leaf = x.clone().requires_grad_()
    output = module(leaf * 1)
    output.backward(gradient)
    return output.detach(), leaf.grad


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize(
    ("shape", "relu"),
    [((4, 24, 13, 17), True), ((2, 3, 5, 5), False), ((3, 64, 40, 8), True), ((5, 1, 9, 9), True)],
)
def test_both_passes_and_the_statistics_are_those_of_pytorch(
    kind: Any, layout: Any, shape: tuple[int, ...], relu: bool
) -> None:
    plain, ours = pair(shape[1], relu)
    x = (3 * torch.randn(shape) + 5).to(kind).contiguous(memory_format=layout)
    gradient = torch.randn(shape).to(kind)
    for _ in range(2):
        expected, found = passed(plain, x, gradient), passed(ours, x, gradient)
    for theirs, mine in zip(expected, found, strict=True):
        assert mine.dtype is kind
        assert mine.stride() == theirs.stride()
        torch.testing.assert_close(
            mine.float(), theirs.float(), atol=TOLERANCE[kind], rtol=TOLERANCE[kind]
        )
    for name, value in plain[0].state_dict().items():
        torch.testing.assert_close(ours[0].state_dict()[name], value, atol=1e-4, rtol=1e-4)
    for theirs, mine in zip(plain[0].parameters(), ours[0].parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, atol=0.05, rtol=1e-2)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_the_operator_keeps_the_rules_that_compiling_relies_on() -> None:
    x = torch.randn(2, 8, 6, 6).contiguous(memory_format=torch.channels_last)
    weight, bias = torch.rand(8), torch.randn(8)
    for tensor in (x, weight, bias):
        tensor.requires_grad_()
    torch.library.opcheck(batch_norm, (x, weight, bias, 1e-5, True))


def test_a_large_mean_does_not_swallow_the_variance() -> None:
    _, ours = pair(4, relu=False)
    x = (torch.randn(8, 4, 16, 16) + 3000.0).contiguous(memory_format=torch.channels_last)
    _, _, var = batch_norm(x, ours[0].weight, ours[0].bias, 1e-5, False)
    exact = x.double().var(dim=(0, 2, 3), unbiased=False)
    torch.testing.assert_close(var.double(), exact, rtol=1e-4, atol=0)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_the_same_input_gives_the_same_bits(layout: Any) -> None:
    x = torch.randn(8, 24, 31, 31).contiguous(memory_format=layout)
    weight, bias = torch.rand(24), torch.randn(24)
    first, second = (batch_norm(x, weight, bias, 1e-5, True) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_not_a_number_stays_one() -> None:
    x = torch.randn(2, 3, 4, 4)
    x[0, 1, 2, 2] = float("nan")
    y, _, _ = batch_norm(x, torch.ones(3), torch.zeros(3), 1e-5, True)
    assert y[:, 1].isnan().all()
    assert not y[:, (0, 2)].isnan().any()


@pytest.mark.parametrize("momentum", [0.1, None])
def test_evaluation_uses_the_statistics_collected(momentum: float | None) -> None:
    plain, ours = pair(6, True, momentum=momentum)
    for _ in range(3):
        x = torch.randn(4, 6, 8, 8) + 1
        plain(x), ours(x)
    torch.testing.assert_close(ours.eval()(x), plain.eval()(x))
    assert ours[0].num_batches_tracked == 3


def test_only_a_relu_right_behind_in_a_plain_sequence_is_taken_along() -> None:
    class Backwards(nn.Sequential):
        def forward(self, x: Any) -> Any:
            for layer in reversed(self):
                x = layer(x)
            return x

    model = nn.Sequential(
        nn.Sequential(nn.BatchNorm2d(2), nn.ReLU()),
        Backwards(nn.BatchNorm2d(2), nn.ReLU()),
        nn.Sequential(nn.BatchNorm2d(2), nn.Sigmoid(), nn.ReLU()),
    )
    names = set(model.state_dict())
    assert fuse_norms(model) == 3
    assert [type(m).__name__ for m in model.modules()].count("ReLU") == 2
    assert set(model.state_dict()) == names


def test_a_norm_that_stands_elsewhere_too_or_is_watched_keeps_its_relu() -> None:
    norm, watched = nn.BatchNorm2d(2), nn.BatchNorm2d(2)
    watched.register_forward_hook(lambda *_: None)
    model = nn.Sequential(
        nn.Sequential(norm, nn.ReLU()),
        nn.Sequential(norm, nn.Sigmoid()),
        nn.Sequential(watched, nn.ReLU()),
    )
    assert fuse_norms(model) == 2
    assert [type(m).__name__ for m in model.modules()].count("ReLU") == 2


def test_a_relu_that_others_use_as_well_stays_theirs() -> None:
    relu = nn.ReLU()
    model = nn.Sequential(nn.BatchNorm2d(2), relu, nn.Conv2d(2, 2, 1), relu)
    fuse_norms(model)
    assert isinstance(model[1], nn.Identity)
    assert model[3] is relu


def test_without_a_gradient_and_in_other_kinds_of_numbers_it_does_what_it_did() -> None:
    plain, ours = pair(4, True)
    x = torch.randn(2, 4, 5, 5)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), plain(x))
    double, also = plain.double(), ours.double()
    torch.testing.assert_close(also(x.double()), double(x.double()))


def test_kernels_are_kept_or_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SACCADE_KERNELS", str(tmp_path))
    assert not building.is_built()
    assert hasattr(building.kernels.__wrapped__(), "saccade_norm_forward")
    assert building.is_built()
    (made,) = tmp_path.iterdir()
    stamp = made.stat().st_mtime_ns
    building.kernels.__wrapped__()
    assert [path.stat().st_mtime_ns for path in tmp_path.iterdir()] == [stamp]
    monkeypatch.setenv("SACCADE_KERNELS", str(made / "no-folder"))  # nobody can write there
    assert hasattr(building.kernels.__wrapped__(), "saccade_norm_forward")
    monkeypatch.setenv("SACCADE_KERNELS", "off")
    assert hasattr(building.kernels.__wrapped__(), "saccade_norm_backward")


def test_a_compiler_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho 'no such flag' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(RuntimeFailure, match="cannot compile the fused norms: no such flag"):
        building.kernels.__wrapped__()
    monkeypatch.setenv("SACCADE_KERNELS", "off")
    with pytest.raises(RuntimeFailure, match="no such flag"):
        building.kernels.__wrapped__()
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "not found" in (why_not_built() or "")
