"""Prunes and trains one program. Used inside worker processes: PyTorch is heavy and may fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from saccade.models.torch_layers import with_layers
from saccade.models.torch_program import read_program
from saccade.optimize.channels import parameter_count, without_channels
from saccade.optimize.distill import Distillation, Lesson, distill
from saccade.optimize.training_frames import FrameSource


class Pruner:
    """A program, ready to be pruned again and again.

    Args:
        program: path of the exported program.
        hw: height and width of its input, pixels.
    """

    def __init__(self, program: str, hw: tuple[int, int]) -> None:
        import torch

        self._program = read_program(program)
        self._module = with_layers(self._program)
        self._example = torch.zeros(1, 3, *hw)

    def prune(self, share: float, multiple: int, target: str) -> float:
        """Write a pruned program, not trained; the parameters left, as a share.

        Raises:
            ModelError: the model cannot be pruned.
            MissingExtraError: torch-pruning is not installed.
        """
        pruned = without_channels(self._module, self._example, share, multiple)
        self._write(pruned, target)
        return parameter_count(pruned) / parameter_count(self._module)

    def train(
        self,
        student: str,
        source: FrameSource,
        count: int,
        settings: Distillation,
        target: str,
    ) -> Lesson:
        """Teach a pruned program what this one says, on ``count`` frames at most, and write it.

        Raises:
            DataError: there are no frames to learn from.
        """
        module = with_layers(read_program(student))
        lesson = distill(module, self._module, source.load(count), settings)
        self._write(module, target)
        return lesson

    def _write(self, module: Any, target: str) -> None:
        write_program(module, self._program, self._example, target)


def write_program(module: Any, like: Any, example: Any, target: str) -> None:
    """Export a module and save it, with the free axes that the program ``like`` has.

    Args:
        module: an ``nn.Module`` with one image input.
        like: an exported program with the same input.
        example: an input ``(1, 3, H, W)``.
        target: the ``.pt2`` file.
    """
    import torch

    names = like.graph_signature.user_inputs
    (shape,) = (node.meta["val"].shape for node in like.graph.nodes if node.name in names)
    free = {
        axis: torch.export.Dim.AUTO for axis, side in enumerate(shape) if not isinstance(side, int)
    }
    with torch.no_grad():
        exported = torch.export.export(
            module.eval(), (example,), dynamic_shapes=(free,) if free else None
        )
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    torch.export.save(exported, target)
