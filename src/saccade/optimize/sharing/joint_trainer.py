"""Makes one network of two and trains it. Used inside worker processes: PyTorch is heavy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.models.joint_module import joined, overlap
from saccade.models.torch_layers import with_layers
from saccade.models.torch_program import read_program
from saccade.optimize.distill import Distillation, Lesson, TrainingFrames, distill
from saccade.optimize.pruner import write_program
from saccade.optimize.training_frames import FrameSource


@dataclass(frozen=True)
class Common:
    """What two programs have in common, small enough to be sent.

    Attributes:
        layers: how many.
        work: share of the second's multiplications in them, 0-1.
        equal: whether their weights are equal.
        first_outputs: how many outputs the first program has.
    """

    layers: int
    work: float
    equal: bool
    first_outputs: int


class JointTrainer:
    """Two programs, ready to be made one.

    Args:
        programs: paths of the exported programs.
        hw: height and width of their input, pixels.
    """

    def __init__(self, programs: tuple[str, str], hw: tuple[int, int]) -> None:
        import torch

        first, second = (read_program(path) for path in programs)
        self._like = first
        self._first, self._second = with_layers(first), with_layers(second)
        self._example = torch.zeros(1, 3, *hw)
        self._overlap = overlap(self._first, self._second)
        self._first_outputs = len(_leaves(self._first(self._example)))

    def common(self) -> Common:
        """What they have in common."""
        found = self._overlap
        return Common(len(found.layers), found.work, found.equal, self._first_outputs)

    def write_untrained(self, target: str) -> None:
        """Write the network with the first's backbone, as it is."""
        student = joined(self._first, self._second, self._overlap)
        write_program(student, self._like, self._example, target)

    def train(
        self,
        sources: tuple[FrameSource, FrameSource],
        count: int,
        adapt: tuple[list[float], list[float], bool],
        settings: Distillation,
        target: str,
    ) -> Lesson:
        """Teach the network with one backbone what both programs say, and write it.

        Args:
            sources: calibration frames of each task, all as the first program is fed.
            count: frames at most.
            adapt: factor and offset per channel from the first's input to the second's, and
                whether the channels turn round.
            settings: how it is taught.
            target: the ``.pt2`` file.

        Raises:
            DataError: there are no frames to learn from.
        """
        student = joined(self._first, self._second, self._overlap)
        teacher = both(self._first, self._second, adapt)
        frames = _frames(sources, count)
        # Heads have nothing to look like each other, so only the answers teach.
        lesson = distill(student, teacher, frames, replace(settings, attention_weight=0.0))
        write_program(student, self._like, self._example, target)
        return lesson


def both(first: Any, second: Any, adapt: tuple[list[float], list[float], bool]) -> Any:
    """A module that asks each network, the second with its own normalization."""
    import torch

    factor, offset, turned = adapt

    class Both(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = first, second
            self.register_buffer("factor", torch.tensor(factor).reshape(1, 3, 1, 1))
            self.register_buffer("offset", torch.tensor(offset).reshape(1, 3, 1, 1))

        def forward(self, image: Any) -> Any:
            other = image.flip(1) if turned else image
            theirs = self.second(other * self.factor + self.offset)
            return (*_leaves(self.first(image)), *_leaves(theirs))

    return Both().eval()


def _leaves(outputs: Any) -> list[Any]:
    from torch.utils import _pytree

    return list(_pytree.tree_leaves(outputs))


def _frames(sources: tuple[FrameSource, FrameSource], count: int) -> TrainingFrames:
    """Frames of both tasks, those of the video once; the tasks' labels are not of one kind."""
    first, second = sources
    shares = [
        replace(first, video=None),
        replace(second, video=None),
        replace(first, images=(), labels=()),
    ]
    found: list[NDArray[np.float32]] = [
        source.load(count // len(shares) or 1).tensors
        for source in shares
        if source.images or source.video is not None
    ]
    return TrainingFrames(np.concatenate(found))
