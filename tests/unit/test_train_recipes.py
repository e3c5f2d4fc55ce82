"""Distillation, pruning and quantization-aware training through the training loop."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_steps import CONFIG, job, net, taken
from torch import nn

from saccade.errors import SpecError
from saccade.optimize.qat import ENVIRONMENT
from saccade.optimize.recipes.pruned import pruned
from saccade.optimize.recipes.taught import distillation
from saccade.train.evaluating import evaluate
from saccade.train.job import TrainingJob


def narrow_net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, 4),
    )  # fmt: skip


def teacher() -> nn.Module:
    torch.manual_seed(5)
    return net()


def test_a_student_learns_what_its_teacher_says() -> None:
    recipe = distillation(job(narrow_net), teacher, weight=1.0)
    loop, losses = taken(CONFIG, 20, recipe)
    assert float(losses[-1]) < 0.5 * float(losses[0])
    assert loop.state()["model"].keys() == narrow_net().state_dict().keys()
    before = teacher().state_dict()
    assert all(
        torch.equal(value, before[k]) for k, value in loop.model.teacher.state_dict().items()
    )


def test_a_taught_model_is_judged_and_restored_as_the_students_own() -> None:
    recipe = distillation(job(narrow_net), teacher)
    loop, _ = taken(CONFIG, 2, recipe)
    plain = job(narrow_net)
    own, _ = taken(CONFIG, 0, plain)
    own.model.load_state_dict(loop.state()["model"])
    assert evaluate(loop).loss == pytest.approx(evaluate(own).loss)
    loop.restore(loop.state())
    loop.restart(1)
    assert torch.isfinite(loop.step())
    loop.close()


def test_without_weight_a_teacher_changes_nothing() -> None:
    alone, taught = taken(CONFIG)[1], taken(CONFIG, 4, distillation(job(), teacher, 0.0))[1]
    assert [float(x) for x in taught] == pytest.approx([float(x) for x in alone], rel=1e-5)


def test_a_teacher_of_other_shapes_is_refused() -> None:
    other = distillation(job(), lambda: nn.Sequential(nn.Flatten(), nn.Linear(768, 7)))
    with pytest.raises(SpecError, match="same shapes"):
        taken(CONFIG, 1, other)


def test_a_pruned_model_begins_with_what_it_knew() -> None:
    pytest.importorskip("torch_pruning")
    trained, _ = taken(CONFIG, 30)
    recipe = pruned(beginning_with(trained.model.state_dict()), 0.5)
    loop, losses = taken(CONFIG, 16, recipe)
    assert loop.model[1][0].out_channels == 8
    _, fresh = taken(CONFIG, 1)
    assert float(losses[0]) < float(fresh[0])
    # Two batches make an epoch.
    assert sum(map(float, losses[-2:])) < sum(map(float, losses[:2]))


def beginning_with(weights: dict[str, Any]) -> TrainingJob:
    def model() -> nn.Module:
        made = net()
        made.load_state_dict(weights)
        return made

    return job(model)


def test_a_quantized_model_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nncf")
    from saccade.optimize.recipes.quantized import quantization_aware

    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    trained, _ = taken(CONFIG, 10)
    recipe: Any = quantization_aware(beginning_with(trained.model.state_dict()))
    loop, losses = taken(replace(CONFIG), 5, recipe)
    quantizers = [m for m in loop.model.modules() if "Quantizer" in type(m).__name__]
    assert quantizers
    assert float(losses[-1]) < float(losses[0])
