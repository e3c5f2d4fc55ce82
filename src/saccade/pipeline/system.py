"""`SystemConfig`: two pipelines on the same frames, and what they do once instead of twice."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from saccade.pipeline.config import Execution, PipelineConfig, digest

# How frames are read: where both pipelines say the same, one reader serves both.
READING = ("reader", "decode_threads", "skip_loop_filter", "resize")


@dataclass(frozen=True)
class Sharing:
    """What two pipelines on the same frames do once.

    Attributes:
        decode: one reader decodes every frame, and both look at it. Without, each pipeline reads
            the source for itself.
        preprocess: a frame is scaled once, and each model's normalization starts from there.
        first_outputs: where one model file answers for both, how many of its outputs are the
            first pipeline's, the others being the second's; 0 where each has its own model.
    """

    decode: bool = False
    preprocess: bool = False
    first_outputs: int = 0

    @property
    def one_pass(self) -> bool:
        """Whether one inference answers for both."""
        return self.first_outputs > 0


@dataclass(frozen=True)
class SystemConfig:
    """Everything that decides how frames become the results of two tasks.

    Attributes:
        parts: both pipelines; their tasks differ, because results are told apart by task. Where
            one model answers for both, it is the model of both.
        sharing: what they share.
    """

    parts: tuple[PipelineConfig, PipelineConfig]
    sharing: Sharing = field(default_factory=Sharing)

    @property
    def tasks(self) -> tuple[str, str]:
        """Names of the tasks, in order."""
        return self.parts[0].task, self.parts[1].task

    @property
    def execution(self) -> Execution:
        """Overlapped where one of the pipelines is."""
        overlapped = any(part.execution == "overlapped" for part in self.parts)
        return "overlapped" if overlapped else "sequential"

    @property
    def slots(self) -> int:
        """Frames that overlapped execution works on at the same time."""
        return max(part.slots for part in self.parts)

    @property
    def frames_ahead(self) -> int:
        """Frames that may be under way behind the one that comes out; 0 in sequential execution."""
        ahead = max(part.slots * part.detect_every for part in self.parts)
        return ahead if self.execution == "overlapped" else 0

    @property
    def in_step(self) -> int:
        """Inferences of one model that run at the same time."""
        return max(part.in_step for part in self.parts)

    @property
    def model_mb(self) -> float:
        """Size on disk of the models, in 10^6 bytes; one that serves both counts once."""
        return sum({part.model.sha256: part.model.size_mb for part in self.parts}.values())

    @property
    def hash(self) -> str:
        """Content hash: equal hash means equal behaviour."""
        shared = dataclasses.asdict(self.sharing)
        return digest({"parts": [part.hash for part in self.parts], "sharing": shared})

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready document; `from_dict` is its inverse."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> SystemConfig:
        """The inverse of `to_dict`, also after a trip through JSON."""
        first, second = (PipelineConfig.from_dict(part) for part in document["parts"])
        return cls((first, second), Sharing(**document["sharing"]))


def is_system(document: dict[str, Any]) -> bool:
    """Whether a configuration's document is that of a system of two."""
    return "parts" in document
