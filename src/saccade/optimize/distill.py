"""Teach a student what a teacher says, on labelled or unlabelled frames.

The student is pulled towards the teacher's answers (Hinton et al., "Distilling the Knowledge in a
Neural Network", 2015) and towards where the teacher looks (attention transfer, Zagoruyko and
Komodakis, ICLR 2017), which needs no layers of equal width. A part of the frames is held out: the
weights that answer best there are kept, and those the student came with are among them.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.errors import DataError, ModelError
from saccade.optimize.distill_loss import (
    AttentionPairs,
    attention_loss,
    attention_pairs,
    float_outputs,
    label_loss,
    output_loss,
    recorded,
)

# Passes over the frames that collect the statistics of batch normalization.
STATISTICS_PASSES = 2
# Of the budget, what may be spent on them: a slow model shall still be trained.
STATISTICS_SHARE = 0.25
# Smallest part of an image that an augmented one shows.
SMALLEST_CROP = 0.7


@dataclass(frozen=True, eq=False)
class TrainingFrames:
    """Frames to learn from, as the model is fed.

    Attributes:
        tensors: ``(N, 3, H, W)`` float32.
        labels: ``(N,)`` int64, the class of each image and -1 where it is not known; None where
            there are no labels of whole images.
    """

    tensors: NDArray[np.float32]
    labels: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Distillation:
    """How to teach.

    Attributes:
        budget_s: no step begins later; what was best until then is kept.
        max_steps: steps after which teaching ends, if time does not end it before. With the same
            number of steps, the same seed gives the same weights.
        learning_rate: of Adam, at the start; it falls to zero along a cosine.
        batch: frames per step, where the module takes more than one.
        held_out: share of the frames that judges and is not learnt from.
        patience: passes over the frames without improvement before it stops.
        attention_weight: of the feature loss, relative to that of the answers.
        label_weight: of the labels, relative to that of the teacher's answers.
        seed: of the order, the augmentation and which frames are held out.
        statistics: collect those of batch normalization anew before the first step.
    """

    budget_s: float = 60.0
    max_steps: int = 2000
    learning_rate: float = 5e-5
    batch: int = 8
    held_out: float = 0.2
    patience: int = 10
    attention_weight: float = 1.0
    label_weight: float = 0.2
    seed: int = 0
    statistics: bool = True


@dataclass(frozen=True)
class Lesson:
    """What became of it.

    Attributes:
        loss_before: on the frames held out, with the weights that the student came with.
        loss_after: with those that it has now; never above ``loss_before``.
        steps: training steps taken.
        ended_by: ``"steps"``, ``"time"`` or ``"no improvement"``.
        wall_s: seconds that it took.
        frames: how many there were, those held out included.
        labelled: whether labels were learnt from, too.
    """

    loss_before: float
    loss_after: float
    steps: int
    ended_by: str
    wall_s: float = 0.0
    frames: int = 0
    labelled: bool = False

    def __str__(self) -> str:
        source = "labels and the teacher" if self.labelled else "the teacher alone, without labels"
        return (
            f"trained for {self.wall_s:.0f} s ({self.steps} steps on {self.frames} frames, from "
            f"{source}; distance from the teacher on frames held out: {self.loss_before:.3g} to "
            f"{self.loss_after:.3g})"
        )


def distill(
    student: Any,
    teacher: Any,
    frames: TrainingFrames,
    settings: Distillation,
    clock: Callable[[], float] = time.monotonic,
) -> Lesson:
    """Train ``student`` in place.

    Args:
        student: an ``nn.Module`` that takes ``(N, 3, H, W)`` and answers in the same shapes as
            the teacher.
        teacher: an ``nn.Module``; it is not changed.
        frames: at least two.
        settings: how.
        clock: seconds; the budget is counted on it.

    Raises:
        DataError: there are fewer than two frames.
        ModelError: the answers differ in shape, or are class ids, which cannot be learnt from.
    """
    began = clock()
    classroom = _Classroom(student, teacher, frames, settings)
    if settings.statistics:
        classroom.refresh_statistics(lambda: clock() - began < STATISTICS_SHARE * settings.budget_s)
    ended_by, steps = "steps", 0
    for step in range(settings.max_steps):
        if clock() - began >= settings.budget_s:
            ended_by = "time"
            break
        # The cosine follows whichever runs out first, time or steps.
        spent = max(step / settings.max_steps, (clock() - began) / settings.budget_s)
        classroom.step(0.5 * (1 + math.cos(math.pi * min(1.0, spent))))
        steps = step + 1
        if steps % classroom.check_every == 0:
            classroom.check()
        if classroom.hopeless:
            ended_by = "no improvement"
            break
    classroom.check()
    classroom.keep_best()
    return Lesson(
        classroom.loss_before,
        classroom.best_loss,
        steps,
        ended_by,
        clock() - began,
        len(frames.tensors),
        frames.labels is not None,
    )


class _Classroom:
    """A student, a teacher, the frames, and the best weights so far."""

    def __init__(
        self, student: Any, teacher: Any, frames: TrainingFrames, settings: Distillation
    ) -> None:
        import torch

        if len(frames.tensors) < 2:
            raise DataError(
                f"There are {len(frames.tensors)} frames to learn from; two are needed at least, "
                "and some dozens to get anywhere. Give more data or a video."
            )
        self._torch, self._settings = torch, settings
        self._student, self._teacher = student.eval(), teacher.eval()
        self._norms = [m for m in student.modules() if _has_statistics(torch, m)]
        self._random = np.random.default_rng(settings.seed)
        torch.manual_seed(settings.seed)
        order = self._random.permutation(len(frames.tensors))
        held = max(1, round(settings.held_out * len(order)))
        self._held, self._learnt = np.sort(order[:held]), np.sort(order[held:])
        self._tensors = torch.from_numpy(frames.tensors)
        self._labels = None if frames.labels is None else torch.from_numpy(frames.labels)
        example = self._tensors[:1]
        self._batch = settings.batch if takes_batches(student, teacher, example) else 1
        self._answers = self._teachers_answers(example)
        self._pairs = AttentionPairs((), ())
        if settings.attention_weight:
            self._pairs = attention_pairs(student, teacher, example)
        self._optimizer = torch.optim.Adam(student.parameters(), lr=settings.learning_rate)
        self._queue: Iterator[NDArray[np.int64]] = iter(())
        self.check_every = max(1, math.ceil(len(self._learnt) / self._batch))
        self._without_gain = 0
        self.loss_before = self.best_loss = self._held_out_loss()
        self._best = copy.deepcopy(student.state_dict())

    def _teachers_answers(self, example: Any) -> list[Any]:
        """What the teacher says to the frames held out; checked against the student's shapes."""
        with self._torch.inference_mode():
            expected = [tuple(o.shape) for o in float_outputs(self._teacher(example))]
            found = [tuple(o.shape) for o in float_outputs(self._student(example))]
            if expected != found or not expected:
                raise ModelError(
                    f"The student answers {found}, the teacher {expected}. They have to answer in "
                    "the same shapes, with scores rather than class ids."
                )
            return [
                float_outputs(self._teacher(self._tensors[part])) for part in self._held_parts()
            ]

    def _held_parts(self) -> Sequence[NDArray[np.int64]]:
        count = math.ceil(len(self._held) / self._batch)
        return np.array_split(self._held, count)

    def _held_out_loss(self) -> float:
        losses = []
        with self._torch.inference_mode():
            for part, answers in zip(self._held_parts(), self._answers, strict=True):
                said = float_outputs(self._student(self._tensors[part]))
                losses += [float(self._answer_loss(said, answers, part))] * len(part)
        return float(np.mean(losses))

    def _answer_loss(self, said: Sequence[Any], answers: Sequence[Any], part: Any) -> Any:
        loss = output_loss(said, answers)
        if self._labels is None:
            return loss
        return loss + self._settings.label_weight * label_loss(said[0], self._labels[part])

    def refresh_statistics(self, in_time: Callable[[], bool]) -> None:
        """Collect batch normalization's statistics anew, and keep them where that is better.

        Where channels were taken out, those that were collected with them are out of date.
        """
        norms = self._norms
        if not norms or self._batch == 1:
            return
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain average over all batches
            norm.train()
        with self._torch.no_grad():
            for _ in range(STATISTICS_PASSES * math.ceil(len(self._learnt) / self._batch)):
                self._student(self._tensors[self._next_part()])
                if not in_time():
                    break
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()
        if not self.check():  # a few frames may say less than what training saw
            self.keep_best()

    def step(self, pace: float) -> None:
        """One step of the optimizer at ``pace`` times the learning rate."""
        part = self._next_part()
        images = self._augmented(self._tensors[part])
        with self._torch.no_grad(), recorded(self._teacher, self._pairs.teacher) as seen:
            answers = float_outputs(self._teacher(images))
        with recorded(self._student, self._pairs.student) as looked:
            said = float_outputs(self._student(images))
        loss = self._answer_loss(said, answers, part)
        loss = loss + self._settings.attention_weight * attention_loss(self._pairs, looked, seen)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._torch.nn.utils.clip_grad_norm_(self._student.parameters(), 1.0)
        for group in self._optimizer.param_groups:
            group["lr"] = pace * self._settings.learning_rate
        self._optimizer.step()

    def _next_part(self) -> NDArray[np.int64]:
        """The next few frames; all of them before any comes again."""
        part: NDArray[np.int64] | None = next(self._queue, None)
        if part is None:
            order = self._random.permutation(self._learnt)
            count = math.ceil(len(order) / self._batch)
            first, *rest = np.array_split(order, count)
            self._queue = iter(rest)
            return first
        return part

    def _augmented(self, images: Any) -> Any:
        """A part of the images, scaled to their size, mirrored half of the time."""
        height, width = images.shape[-2:]
        share = self._random.uniform(SMALLEST_CROP, 1.0)
        rows, columns = round(share * height), round(share * width)
        top = self._random.integers(0, height - rows + 1)
        left = self._random.integers(0, width - columns + 1)
        part = images[..., top : top + rows, left : left + columns]
        if self._random.random() < 0.5:
            part = part.flip(-1)
        scaled = self._torch.nn.functional.interpolate(
            part, (height, width), mode="bilinear", align_corners=False
        )
        return scaled.contiguous()

    def check(self) -> bool:
        """Judge the student now and remember it if it is the best; whether it is."""
        loss = self._held_out_loss()
        if not (math.isfinite(loss) and loss < self.best_loss):
            self._without_gain += 1
            return False
        self.best_loss, self._without_gain = loss, 0
        self._best = copy.deepcopy(self._student.state_dict())
        return True

    @property
    def hopeless(self) -> bool:
        """Whether too many checks have passed without a gain."""
        return self._without_gain >= self._settings.patience

    def keep_best(self) -> None:
        """Give the student the best weights that were found."""
        self._student.load_state_dict(self._best)
        self._student.eval()


def takes_batches(student: Any, teacher: Any, example: Any) -> bool:
    """Whether both answer two images with two answers; some graphs hold a batch of one."""
    import torch

    pair = torch.cat([example, example])
    with torch.inference_mode():
        try:
            outputs = [*float_outputs(student(pair)), *float_outputs(teacher(pair))]
        except RuntimeError:
            return False
    return all(output.shape[0] == 2 for output in outputs)


def _has_statistics(torch: Any, module: Any) -> bool:
    kind = torch.nn.modules.batchnorm._BatchNorm
    return isinstance(module, kind) and module.track_running_stats
