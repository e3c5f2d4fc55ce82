"""A student learns from its teacher, on frames with and without labels, and never gets worse."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from saccade.errors import DataError, ModelError
from saccade.optimize import distill as distillation
from saccade.optimize.distill import Distillation, TrainingFrames, distill
from saccade.optimize.distill_loss import (
    attention_loss,
    attention_pairs,
    label_loss,
    output_loss,
    recorded,
)
from saccade.testing.tiny_torch import HW, residual_net

torch = pytest.importorskip("torch")

STEPS = Distillation(max_steps=30, budget_s=600.0, batch=8, patience=100, learning_rate=3e-3)


def noise(count: int = 20) -> TrainingFrames:
    random = np.random.default_rng(0)
    return TrainingFrames(random.normal(size=(count, 3, *HW)).astype(np.float32))


def disturbed(net: Any, size: float = 0.3) -> Any:
    student = copy.deepcopy(net)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(size * parameter.std(unbiased=False) * torch.randn_like(parameter))
    return student


def loss_on(student: Any, teacher: Any, frames: TrainingFrames) -> float:
    images = torch.from_numpy(frames.tensors)
    with torch.inference_mode():
        return float(output_loss([student(images)], [teacher(images)]))


def test_a_student_comes_closer_to_its_teacher_on_frames_it_has_not_seen() -> None:
    teacher, frames = residual_net(16), noise()
    student = disturbed(teacher)
    fresh = TrainingFrames(np.random.default_rng(9).normal(size=(16, 3, *HW)).astype(np.float32))
    before = loss_on(student, teacher, fresh)
    kept = copy.deepcopy(teacher.state_dict())
    lesson = distill(student, teacher, frames, STEPS)
    assert loss_on(student, teacher, fresh) < 0.7 * before
    assert lesson.loss_after < lesson.loss_before
    assert lesson.steps == STEPS.max_steps
    assert not student.training
    assert all(torch.equal(kept[name], value) for name, value in teacher.state_dict().items())


def test_the_same_seed_gives_the_same_weights() -> None:
    teacher = residual_net(8)
    weights = []
    for _ in range(2):
        student = disturbed(teacher)
        # The learning rate falls with whichever is used up sooner, steps or time: without a clock
        # that stands still, the machine's speed would be part of the result.
        settings = Distillation(max_steps=3, budget_s=600.0)
        distill(student, teacher, noise(8), settings, clock=lambda: 0.0)
        weights.append(student.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_student_that_cannot_get_better_keeps_its_weights() -> None:
    teacher = residual_net(8)
    student = copy.deepcopy(teacher)
    before = copy.deepcopy(student.state_dict())
    settings = Distillation(max_steps=50, budget_s=600.0, patience=2, learning_rate=1.0)
    lesson = distill(student, teacher, noise(8), settings)
    assert lesson.ended_by == "no improvement"
    assert lesson.loss_after == lesson.loss_before
    assert all(torch.equal(before[name], value) for name, value in student.state_dict().items())


def test_statistics_that_fit_worse_are_not_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = residual_net(8)
    student, seen = copy.deepcopy(teacher), []
    real = distillation._Classroom.step
    monkeypatch.setattr(
        distillation._Classroom,
        "step",
        lambda room, pace: (seen.append(student.stem[1].running_mean.clone()), real(room, pace)),
    )
    shifted = TrainingFrames(noise(8).tensors + 2)
    distill(student, teacher, shifted, Distillation(max_steps=1, budget_s=600.0))
    assert torch.equal(seen[0], teacher.stem[1].running_mean)


def test_statistics_that_fit_better_are_kept() -> None:
    teacher = residual_net(8)
    student = copy.deepcopy(teacher)
    student.stem[1].running_mean += 10  # as if channels had been taken out before it
    lesson = distill(student, teacher, noise(), Distillation(max_steps=0))
    assert lesson.loss_after < lesson.loss_before


def test_time_ends_it() -> None:
    ticks = iter(range(1000))
    teacher = residual_net(8)
    settings = Distillation(max_steps=500, budget_s=6.0, patience=1000)
    lesson = distill(disturbed(teacher), teacher, noise(8), settings, lambda: float(next(ticks)))
    assert lesson.ended_by == "time"
    assert lesson.steps < 6


def test_labels_are_learnt_where_the_teacher_is_wrong() -> None:
    teacher, frames = residual_net(8), noise()
    # The class can be told from the image's mean; the teacher knows nothing of it.
    labels = np.arange(len(frames.tensors)) % 2
    frames.tensors[labels == 1] += 3
    labelled = TrainingFrames(frames.tensors, labels.astype(np.int64))
    images, truth = torch.from_numpy(frames.tensors), torch.from_numpy(labels)
    student = copy.deepcopy(teacher)
    with torch.inference_mode():
        before = float(label_loss(student(images), truth))
    settings = Distillation(max_steps=60, budget_s=600.0, learning_rate=5e-3, label_weight=10.0)
    distill(student, teacher, labelled, settings)
    with torch.inference_mode():
        assert float(label_loss(student(images), truth)) < 0.5 * before


def test_a_batch_of_one_that_the_graph_holds_is_respected() -> None:
    class Single(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.inner = residual_net(8)

        def forward(self, image: Any) -> Any:
            return self.inner(image).view(1, 5)

    teacher = Single()
    lesson = distill(disturbed(teacher), teacher, noise(6), Distillation(max_steps=8, budget_s=600))
    assert lesson.steps == 8
    assert lesson.loss_after <= lesson.loss_before


def test_what_cannot_be_taught_is_refused() -> None:
    teacher = residual_net(8)
    with pytest.raises(DataError, match="1 frames to learn from"):
        distill(copy.deepcopy(teacher), teacher, noise(1), STEPS)
    other = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.Flatten())
    with pytest.raises(ModelError, match=r"student answers .* same shapes"):
        distill(other, teacher, noise(4), STEPS)

    class Argmax(torch.nn.Module):  # type: ignore[misc]
        def forward(self, image: Any) -> Any:
            return image.argmax(1)

    with pytest.raises(ModelError, match="scores rather than class ids"):
        distill(Argmax(), Argmax(), noise(4), STEPS)


# Losses


def test_logits_and_their_probabilities_are_the_same_answer() -> None:
    logits = torch.randn(4, 10)
    assert float(output_loss([logits.softmax(1)], [logits])) == pytest.approx(0, abs=1e-5)
    assert float(output_loss([logits + 3], [logits])) == pytest.approx(0, abs=1e-5)
    assert float(output_loss([-logits], [logits])) > 0.1


def test_scores_count_beside_pixels() -> None:
    """A head that answers pixels and scores side by side: an error in either is seen."""
    torch.manual_seed(0)
    teacher = torch.cat([640 * torch.rand(1, 4, 200), torch.rand(1, 2, 200)], dim=1)
    wrong_scores, wrong_boxes = teacher.clone(), teacher.clone()
    wrong_scores[:, 4:] = torch.rand(1, 2, 200)
    wrong_boxes[:, :4] = 640 * torch.rand(1, 4, 200)
    assert float(output_loss([wrong_scores], [teacher])) > 0.1
    assert float(output_loss([wrong_boxes], [teacher])) > 0.1


def test_attention_is_compared_whatever_the_number_of_channels() -> None:
    image = torch.randn(2, 3, *HW)
    wide, narrow = residual_net(16), residual_net(8)
    pairs = attention_pairs(narrow, wide, image[:1])
    assert pairs.student
    with (
        torch.no_grad(),
        recorded(narrow, pairs.student) as mine,
        recorded(wide, pairs.teacher) as theirs,
    ):
        narrow(image), wide(image)
    assert float(attention_loss(pairs, mine, theirs)) > 0
    assert float(attention_loss(attention_pairs(wide, wide, image[:1]), theirs, theirs)) == 0
