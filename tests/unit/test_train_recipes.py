"""Distillation, pruning and quantization-aware training through the training loop."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_steps import CONFIG, job, net, taken
from torch import nn

from saccade.errors import SpecError
from saccade.optimize.distill_loss import AttentionPairs, attention_loss, output_loss
from saccade.optimize.qat import ENVIRONMENT
from saccade.optimize.recipes.pruned import pruned
from saccade.optimize.recipes.taught import distillation
from saccade.train.evaluating import evaluate
from saccade.train.job import TrainingJob
from saccade.train.loop import TrainingLoop


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


def with_mute_head() -> nn.Module:
    """A student whose answers do not depend on its features, so that no answer moves them."""
    student = narrow_net()
    nn.init.zeros_(student[-1].weight)
    return student


def test_the_features_are_a_part_of_the_gradient() -> None:
    recipe = distillation(job(with_mute_head), teacher)
    torch.manual_seed(0)
    model = recipe.model().train()
    images, target = torch.rand(4, 3, 16, 16), torch.tensor([0, 1, 2, 3])
    recipe.loss(model(images), target).backward()
    found = model.student[0].weight.grad
    # The same by hand: half of the distance between the two last layers at 16 x 16.
    twin = copy.deepcopy(model.student).requires_grad_(True)
    twin.zero_grad()
    with torch.no_grad():
        wanted = model.teacher[0](images)
    looked = twin[1](twin[0](images))
    pairs = AttentionPairs(("x",), ("x",))
    (0.5 * attention_loss(pairs, {"x": looked}, {"x": wanted})).backward()
    assert float(found.abs().max()) > 1e-4
    assert torch.allclose(found, twin[0].weight.grad, atol=1e-7)
    assert model.remark.endswith("features (layers: 1 as 0.2)")
    assert all(parameter.grad is None for parameter in model.teacher.parameters())


def test_features_come_closer_to_the_teachers() -> None:
    loop, _ = taken(CONFIG, 0, distillation(job(with_mute_head), teacher, weight=1.0))
    images = torch.rand(8, 3, 16, 16)
    before = float(loop.model(images).attention.detach())
    for _ in range(30):
        loop.step()
    assert float(loop.model(images).attention.detach()) < 0.8 * before
    loop.close()


def flat_net() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 4))


def test_without_layers_that_pair_up_the_answers_alone_are_taught_and_it_says_so() -> None:
    recipe = distillation(job(narrow_net), flat_net, weight=1.0)
    loop, _ = taken(CONFIG, 2, recipe)
    assert "answers alone, because no layers" in loop.remark
    answers = loop.model(torch.rand(2, 3, 16, 16))
    assert answers.attention == 0.0
    only = output_loss([answers.student.float()], [answers.teacher.float()])
    found = recipe.loss(answers, torch.tensor([0, 1]))
    assert float(found.detach()) == pytest.approx(float(only.detach()))


def test_pairing_layers_leaves_statistics_and_random_numbers_alone() -> None:
    made = distillation(job(), teacher).model
    torch.manual_seed(3)
    student = made().student
    after = torch.rand(1)
    torch.manual_seed(3)
    alone, _ = net(), teacher()
    assert torch.equal(torch.rand(1), after)
    assert all(torch.equal(v, student.state_dict()[k]) for k, v in alone.state_dict().items())


def test_a_taught_training_goes_on_from_its_state_as_if_nothing_had_happened() -> None:
    recipe = distillation(job(narrow_net), teacher)
    whole, losses = taken(CONFIG, 6, recipe)
    first, _ = taken(CONFIG, 3, recipe)
    again = TrainingLoop(recipe, CONFIG, steps=6)
    again.restore(first.state())
    assert [float(again.step()) for _ in range(3)] == [float(x) for x in losses[3:]]
    again.close()
    ends = (whole.state()["model"], again.state()["model"])
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


def test_features_in_half_precision_do_not_overflow() -> None:
    pairs = AttentionPairs(("x",), ("x",))
    maps = {"x": torch.full((1, 2, 4, 4), 300.0, dtype=torch.float16)}
    maps["x"][0, 0, 0, 0] = 0.0
    found = attention_loss(pairs, maps, {"x": torch.ones(1, 3, 4, 4)})
    assert bool(torch.isfinite(found)) and float(found) > 0


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
