"""A LightningModule as a model that a training loop can drive: calling it takes its own steps."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Any

import torch

from saccade.errors import SpecError

# Parts of names under which values are logged of which more is better.
BETTER = ("acc", "iou", "f1", "map", "auc", "dice", "precision", "recall", "score", "top", "psnr")


@dataclass
class Trainer:
    """What a LightningModule may ask of its trainer; there is no real one.

    Attributes:
        steps: of the whole training.
        epochs: of it.
        length_asked: somebody has asked for one of the two.
    """

    steps: int = 1
    epochs: int = 1
    length_asked: bool = False
    num_training_batches: int = 1
    current_epoch: int = 0
    global_step: int = 0
    accumulate_grad_batches: int = 1
    world_size: int = 1
    global_rank: int = 0
    is_global_zero: bool = True
    sanity_checking: bool = False
    training: bool = True
    logger: Any = None
    loggers: tuple[Any, ...] = ()
    callbacks: tuple[Any, ...] = ()

    @property
    def estimated_stepping_batches(self) -> int:
        """Steps of the whole training."""
        self.length_asked = True
        return self.steps

    @property
    def max_epochs(self) -> int:
        """Epochs of the whole training."""
        self.length_asked = True
        return self.epochs

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise SpecError(
            f"The LightningModule asks for trainer.{name}, which a training by saccade does not "
            "have. Pass what it needs as an argument of the module."
        )


@dataclass
class Logged:
    """What a module logged by `self.log` in its last call.

    Attributes:
        values: name → number, tensor, or an object of torchmetrics.
        size: samples of the batch.
    """

    values: dict[str, Any] = field(default_factory=dict)
    size: int = 1

    def __call__(self, name: str, value: Any, *arguments: Any, **settings: Any) -> None:
        """Take the place of ``LightningModule.log``."""
        self.values[name] = value

    def loss(self) -> Any | None:
        """The loss among the values; None where none is called one."""
        return next((v for name, v in self.values.items() if "loss" in name.casefold()), None)

    def metric(self) -> Any | None:
        """The first value of which more is better; None where there is none."""
        names = (name for name in self.values if "loss" not in name.casefold())
        found = next((n for n in names if any(word in n.casefold() for word in BETTER)), None)
        return None if found is None else self.values[found]


class LightningSteps(torch.nn.Module):  # type: ignore[misc]
    """Calls ``training_step`` while it is trained and ``validation_step`` while it is judged.

    Args:
        module: the LightningModule.
        trainer: its stand-in for a trainer.
        logged: receives what it logs.
    """

    def __init__(self, module: Any, trainer: Trainer, logged: Logged) -> None:
        super().__init__()
        self.module = module
        self._trainer, self._logged = trainer, logged
        self._number = 0
        module.trainer = trainer
        # Without a trainer's loops behind it, the module's own `log` would refuse.
        module.log = logged
        self._judges = overrides(module, "validation_step")

    def to(self, *arguments: Any, **settings: Any) -> LightningSteps:
        """Move the module by its own `to`, which remembers its device."""
        self.module.to(*arguments, **settings)
        return self

    def lasts(self, steps: int, steps_per_epoch: int) -> None:
        """Tell the module how long the training is, before it configures its optimizer."""
        self._trainer.steps, self._trainer.epochs = steps, -(-steps // steps_per_epoch)
        self._trainer.num_training_batches = steps_per_epoch

    def at_step(self, step: int, steps_per_epoch: int) -> None:
        """Tell the module where the training is."""
        self._number = step % steps_per_epoch
        self._trainer.global_step = step
        self._trainer.current_epoch = step // steps_per_epoch

    def forward(self, batch: Any) -> Any:
        """The loss of a batch, as the module computes it."""
        self._logged.values.clear()
        self._logged.size = _size(batch)
        self._trainer.training = self.training
        if self.training or not self._judges:
            return _loss(_called(self.module.training_step, batch, self._number), "training_step")
        found = _called(self.module.validation_step, batch, self._number)
        given = _loss_in(found)
        logged = self._logged.loss()
        if given is None and logged is None:
            given = _loss_in(_called(self.module.training_step, batch, self._number))
        return given if given is not None else torch.as_tensor(logged)


class LoggedMetric:
    """The metric that a module logs in ``validation_step``, over all batches.

    Args:
        logged: what the module logged in its last call.
    """

    def __init__(self, logged: Logged) -> None:
        self._logged = logged
        self._object: Any = None
        self._sum, self._samples = 0.0, 0

    def update(self, output: Any, target: Any) -> None:
        """Take what was logged of the batch that was just judged."""
        found = self._logged.metric()
        if found is None:
            return
        if hasattr(found, "compute"):
            self._object = found
            return
        self._sum += float(found) * self._logged.size
        self._samples += self._logged.size

    def compute(self) -> float | None:
        """The mean over samples, or what an object of torchmetrics has gathered."""
        if self._object is not None:
            value = float(self._object.compute())
            self._object.reset()
            return value
        return self._sum / self._samples if self._samples else None


def overrides(module: Any, name: str) -> bool:
    """Whether a user's class, not Lightning's, defines a method."""
    own = (
        c for c in type(module).__mro__ if not c.__module__.startswith(("lightning.", "pytorch_"))
    )
    return any(name in vars(c) for c in own if not c.__module__.startswith("torch."))


def _called(step: Any, batch: Any, number: int) -> Any:
    takes_number = "batch_idx" in inspect.signature(step).parameters
    return step(batch, number) if takes_number else step(batch)


def _loss_in(found: Any) -> Any | None:
    found = found.get("loss") if isinstance(found, dict) else found
    return found if isinstance(found, torch.Tensor) else None


def _loss(found: Any, step: str) -> Any:
    loss = _loss_in(found)
    if loss is None:
        raise SpecError(
            f"The LightningModule's {step} returned {type(found).__name__}. Expected the loss, or "
            "a dict with it under 'loss'; steps cannot be left out by returning None."
        )
    return loss


def _size(batch: Any) -> int:
    """Samples of a batch: the length of the first tensor in it."""
    if isinstance(batch, torch.Tensor):
        return int(batch.shape[0]) if batch.dim() else 1
    parts = batch.values() if isinstance(batch, dict) else batch
    return _size(next(iter(parts))) if isinstance(batch, dict | list | tuple) and batch else 1
