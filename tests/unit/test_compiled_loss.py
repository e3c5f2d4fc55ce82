"""A job's loss is compiled where it is one graph, and left alone where it is not."""

from __future__ import annotations

from typing import Any

import pytest

from saccade.train.compiling import CompiledLoss, loss_of, why_not_compiled
from saccade.train.config import ComputeSettings

torch = pytest.importorskip("torch")

if reason := why_not_compiled("cpu"):
    pytest.skip(reason, allow_module_level=True)

COMPILED = ComputeSettings(compile="default")


def batch() -> tuple[Any, Any]:
    torch.manual_seed(0)
    return torch.randn(6, 4, requires_grad=True), torch.randint(0, 4, (6,))


def cross_entropy(output: Any, target: Any) -> Any:
    return torch.nn.functional.cross_entropy(output.float(), target)


def test_without_compiling_it_is_the_jobs_own() -> None:
    assert loss_of(cross_entropy, ComputeSettings()) is cross_entropy


def test_a_compiled_loss_and_its_gradient_are_the_same() -> None:
    output, target = batch()
    found = loss_of(cross_entropy, COMPILED)(output, target)
    expected = cross_entropy(output, target)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(loss, output)[0] for loss in (found, expected)]
    torch.testing.assert_close(*gradients)


def test_a_loss_that_reads_a_value_is_called_as_it_is_and_once_per_step() -> None:
    seen: list[float] = []

    def reading(output: Any, target: Any) -> Any:
        loss = cross_entropy(output, target)
        seen.append(loss.item())
        return loss

    found = CompiledLoss(reading, COMPILED)
    for count in (1, 2, 3):
        found(*batch())
        assert len(seen) == count


def test_an_error_of_the_loss_is_its_own() -> None:
    def refusing(output: Any, target: Any) -> Any:
        raise ValueError(f"expected 5 classes, got {output.shape[1]}")

    with pytest.raises(ValueError, match="expected 5 classes, got 4"):
        CompiledLoss(refusing, COMPILED)(*batch())
