"""Models whose loss wants one tensor, but which return more than that while they are trained."""

from __future__ import annotations

from typing import Any

import torch


class PlainOutput(torch.nn.Module):  # type: ignore[misc]
    """Returns a model's main output alone.

    Auxiliary outputs, which some of torchvision's classifiers and segmenters have, are left out.

    Args:
        module: returns a tensor, a dict with ``"out"``, or a tuple whose first is meant.
    """

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: Any) -> Any:
        """``(N, 3, H, W)`` to scores."""
        found = self.module(images)
        if isinstance(found, dict):
            return found["out"]
        return found[0] if isinstance(found, tuple) else found
