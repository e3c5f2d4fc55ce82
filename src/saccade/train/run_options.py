"""What the user chooses about a whole training that is no part of its configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SAVE_EVERY_S = 300.0

Policy = Literal["stop", "skip"]


@dataclass(frozen=True)
class RunOptions:
    """How a run is carried out, whatever it computes.

    Attributes:
        on_nonfinite: end at a loss that is not finite, or leave its step out and go on.
        save_every_s: longest time between two checkpoints, in seconds.
        loggers: plug-in names, beside the files that are always written.
        most_at_once: samples that fit into a process's memory, where that was found out before;
            larger batches are halved.
    """

    on_nonfinite: Policy = "stop"
    save_every_s: float = SAVE_EVERY_S
    loggers: tuple[str, ...] = ()
    most_at_once: int | None = None
