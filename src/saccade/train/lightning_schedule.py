"""What ``configure_optimizers`` returns, in any of its forms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from saccade.errors import SpecError

_ONE = (
    "saccade trains with one optimizer and at most one schedule, stepped once a step or once an "
    "epoch. Train this module with Lightning's Trainer, or write a job file (`saccade train init`)."
)
# What schedules keep in the groups of parameters, beside the rate itself.
_RATES = ("initial_lr", "max_lr", "min_lr")


@dataclass(frozen=True)
class Configured:
    """One optimizer and its schedule.

    Attributes:
        scheduler: None where there is none.
        each_step: the schedule is stepped once a step.
    """

    optimizer: Any
    scheduler: Any = None
    each_step: bool = False


def configured(module: Any) -> Configured:
    """Call ``configure_optimizers``.

    Raises:
        SpecError: it returns what a loop with one optimizer cannot do.
    """
    found = module.configure_optimizers()
    optimizers, schedulers = _parts(found)
    if len(optimizers) != 1 or len(schedulers) > 1:
        raise SpecError(
            f"configure_optimizers returned {len(optimizers)} optimizers and {len(schedulers)} "
            f"schedules. {_ONE}"
        )
    if not schedulers:
        return Configured(optimizers[0])
    given = schedulers[0]
    settings: Mapping[str, Any] = given if isinstance(given, dict) else {"scheduler": given}
    scheduler = settings["scheduler"]
    if settings.get("frequency", 1) != 1 or hasattr(scheduler, "mode_worse"):
        raise SpecError(
            "configure_optimizers returned a schedule that follows a metric, or is not stepped "
            f"every time. {_ONE}"
        )
    return Configured(optimizers[0], scheduler, settings.get("interval", "epoch") == "step")


def _parts(found: Any) -> tuple[list[Any], list[Any]]:
    """Optimizers and schedules, as lists."""
    if isinstance(found, dict):
        schedule = found.get("lr_scheduler")
        return [found["optimizer"]], [] if schedule is None else [schedule]
    if isinstance(found, tuple | list) and len(found) == 2 and isinstance(found[0], tuple | list):
        return list(found[0]), list(found[1])
    if isinstance(found, tuple | list):
        return list(found), []
    return ([] if found is None else [found]), []


def moved_to(scheduler: Any, optimizer: Any) -> Any:
    """A fresh schedule, made for one optimizer, made to act on another of the same groups.

    The other one may be a fused copy, and its learning rates may be scaled.
    """
    before = scheduler.optimizer
    if before is optimizer:
        return scheduler
    scales = [
        group["lr"] / old["lr"] if old["lr"] else 1.0
        for group, old in zip(optimizer.param_groups, before.param_groups, strict=True)
    ]
    for group, old, scale in zip(optimizer.param_groups, before.param_groups, scales, strict=True):
        for name, value in old.items():
            if name in _RATES:
                group[name] = value * scale
            else:
                group.setdefault(name, value)
    _count_steps_of(optimizer)
    _rebind(scheduler, optimizer, scales)
    return scheduler


def _rebind(scheduler: Any, optimizer: Any, scales: list[float]) -> None:
    scheduler.optimizer = optimizer
    if hasattr(scheduler, "base_lrs"):
        scheduler.base_lrs = [
            rate * scale for rate, scale in zip(scheduler.base_lrs, scales, strict=True)
        ]
    for inner in getattr(scheduler, "_schedulers", ()):  # of those that chain others
        _rebind(inner, optimizer, scales)


def _count_steps_of(optimizer: Any) -> None:
    """Let schedules see that the optimizer is stepped before them.

    PyTorch arranges that when a schedule is made for an optimizer, so one is made and dropped.
    """
    import torch

    kept = [dict(group) for group in optimizer.param_groups]
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1.0)
    for group, values in zip(optimizer.param_groups, kept, strict=True):
        for name in [*group]:
            if name not in values:
                del group[name]
        group.update(values)
