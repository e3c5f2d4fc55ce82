"""The buffers of a model before a step, such as running means, which a failed step has touched."""

from __future__ import annotations

from typing import Any


class RunningStatistics:
    """Keeps a copy of a model's buffers on their device, copied in one call.

    Args:
        model: the module.
    """

    def __init__(self, model: Any) -> None:
        by_type: dict[Any, list[Any]] = {}
        for buffer in model.buffers():
            by_type.setdefault((buffer.dtype, buffer.device), []).append(buffer)
        self._groups = [(live, [b.detach().clone() for b in live]) for live in by_type.values()]

    def keep(self) -> None:
        """Copy the buffers as they are now."""
        import torch

        with torch.no_grad():
            for live, kept in self._groups:
                torch._foreach_copy_(kept, live)

    def put_back(self) -> None:
        """Make the buffers what they were at the last `keep`."""
        import torch

        with torch.no_grad():
            for live, kept in self._groups:
                torch._foreach_copy_(live, kept)
