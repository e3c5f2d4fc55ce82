"""What a change of a training is, and what it knows when it is asked.

The counterpart of `saccade.optimize.change`: a frozen dataclass (its parameters) with ``applies``,
``predict`` and ``apply``, one file under `saccade.train.changes` and one line in `saccade.plugins`.
Changes interact, so the search tries them in pairs and together: ``apply`` has to be right on top
of any other change.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Protocol, Self

from saccade.goals import Goal
from saccade.prediction import Effect as Effect
from saccade.prediction import OneVariant as OneVariant
from saccade.prediction import Prediction as Prediction
from saccade.train.config import TrainingConfig
from saccade.train.profile import TrainingProfile
from saccade.train.records import COMPUTE_PARTS

# Which resource a change works on. Data changes act on loading, compute and batch changes on the
# step; changes of different parts hardly interact, those of one part do.
Part = Literal["data", "compute", "batch", "scale", "model"]

# How the learning rate grows with the batch.
Scaling = Literal["linear", "sqrt", "none"]


@dataclass(frozen=True)
class TrainingMachine:
    """What planning has to know of the machine.

    Attributes:
        cores: usable ones.
        free_memory_mb: that loaders and caches may take, 10^6 bytes.
        free_disk_mb: in the run folder.
        isa: flags of the CPU, such as ``avx512_bf16`` and ``amx_bf16``.
        gpu: name of the GPU, empty without one.
        compute_capability: of the GPU, such as ``(9, 0)``; ``(0, 0)`` without one.
        gpus: how many.
        gpu_memory_mb: of one GPU.
    """

    cores: int
    free_memory_mb: float
    free_disk_mb: float
    isa: frozenset[str] = frozenset()
    gpu: str = ""
    compute_capability: tuple[int, int] = (0, 0)
    gpus: int = 0
    gpu_memory_mb: float = 0.0


@dataclass(frozen=True)
class TrainingContext:
    """What is known when changes are planned.

    Attributes:
        config: the configuration to improve.
        profile: of the incumbent.
        machine: where it trains.
        folder: where caches and other files of changes go.
        epochs: of the whole training; what a change costs once is spread over them.
        allow: kinds of changes that the user allows beyond those that keep the recipe:
            ``"batch"`` (a larger effective batch), ``"model"`` (another architecture).
        lr_scaling: the user's rule for the learning rate of larger batches; None leaves it to the
            kind of optimizer.
        memory_goals: on peak memory, which changes that save it are tried for; none while the
            search is for speed alone.
    """

    config: TrainingConfig
    profile: TrainingProfile
    machine: TrainingMachine
    folder: Path
    epochs: int = 1
    allow: frozenset[str] = frozenset()
    lr_scaling: Scaling | None = None
    memory_goals: tuple[Goal, ...] = ()

    @property
    def compute_bound(self) -> float:
        """How many times faster steps would be if computing took no time at all."""
        block = self.profile.block
        rest = block.wall_s - sum(sum(block.part_s[part]) for part in COMPUTE_PARTS)
        return block.wall_s / max(rest, 1e-9)


class TrainingChange(Protocol):
    """A change of how a job is trained.

    A change that comes in degrees may also have ``milder(context)``: the next smaller degree, or
    None. It is tried before the change is given up because the training learns worse with it.

    Attributes:
        name: plug-in name.
        part: which resource it works on.
    """

    name: ClassVar[str]
    part: ClassVar[Part]

    @property
    def effect(self) -> Effect:
        """What it does to the numbers: nothing, rounding, or what only the metric can judge."""
        ...

    @classmethod
    def variants(cls, context: TrainingContext) -> Iterable[Self]:
        """The parameters worth trying here."""
        ...

    @property
    def label(self) -> str:
        """Name and parameters, for people; unique among the variants."""
        ...

    def applies(self, context: TrainingContext) -> str | None:
        """None where it can be used here, else the reason why it cannot."""
        ...

    def predict(self, context: TrainingContext) -> Prediction:
        """What it is expected to bring to samples per second, and how much memory to save."""
        ...

    def apply(self, context: TrainingContext) -> TrainingConfig:
        """The next configuration, from ``context.config``; may write files into the folder."""
        ...
