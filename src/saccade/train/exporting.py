"""What a trained model leaves for `saccade optimize`: a program that needs none of its code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from saccade.errors import ModelError, first_line
from saccade.models.equivalence import check_same
from saccade.models.torch_program import flat, read_program

FILE = "model.pt2"


def export_program(model: Any, example: Any, folder: Path) -> Path:
    """The model as an exported program that answers the same.

    Args:
        model: trained, on the CPU.
        example: one tensor, an input of one sample.
        folder: where `FILE` goes.

    Raises:
        ModelError: it cannot be exported, or the program answers differently.
    """
    import torch

    if not isinstance(example, torch.Tensor):
        raise ModelError(f"its input is {type(example).__name__}, not one tensor")
    model = model.eval()
    try:
        program = torch.export.export(model, (example,))
    except Exception as error:
        raise ModelError(f"torch.export refuses it: {first_line(error)}") from error
    path, partial = folder / FILE, folder / f"partial-{FILE}"
    torch.export.save(program, str(partial))
    try:
        with torch.inference_mode():
            expected = flat(model(example))
            found = flat(read_program(partial).module()(example))
        check_same(expected, found, "The exported program of the trained model")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path
