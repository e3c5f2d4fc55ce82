"""Exported PyTorch programs to LiteRT's format, by LiteRT Torch."""

from __future__ import annotations

from typing import Any


def work(request: dict[str, Any]) -> dict[str, Any]:
    """Convert.

    Args:
        request: ``program``, path of a ``.pt2`` file; ``target``, where to write; ``hw``, the
            input's height and width.

    Returns:
        ``torch``, the version that read the program.
    """
    import litert_torch
    import torch

    # Guards look at values, which a trace would take for part of the model.
    module = torch.export.load(request["program"]).module(check_guards=False)
    # Pixel by pixel, as cameras, other LiteRT models and the Edge TPU's compiler have it.
    image_last = litert_torch.to_channel_last_io(module, args=[0])
    example = torch.zeros(1, *request["hw"], 3)
    litert_torch.convert(image_last, (example,)).export(request["target"])
    return {"torch": str(torch.__version__)}
