"""What an optimization is, and what it knows when it is asked.

An optimization is a frozen dataclass (its parameters) with ``applies``, ``predict`` and
``apply``, in one file under `saccade.optimize.changes` and one line in `saccade.plugins`. It is
a function from one configuration to the next: it measures nothing and decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, Self

from saccade.data.contract import Dataset
from saccade.models.description import ModelDescription
from saccade.pipeline.config import ModelFile, PipelineConfig
from saccade.prediction import Effect as Effect
from saccade.prediction import OneVariant as Parameterless
from saccade.prediction import Prediction as Prediction
from saccade.profile.cost_model import CostModel
from saccade.profile.records import Profile
from saccade.runtimes.contract import Availability

Objective = Literal["throughput", "latency"]


@dataclass(frozen=True)
class ModelCandidate:
    """Another model of the same task and classes that may take the model's place.

    Attributes:
        name: for people; unique among the candidates.
        config: the naive pipeline of it, with its own preprocessing.
    """

    name: str
    config: PipelineConfig


@dataclass(frozen=True)
class Student:
    """A smaller model that may be taught to answer as the user's own does.

    Attributes:
        name: for people; unique among the students.
        model: its exported PyTorch program.
        graph: the same as ONNX, which its operations are counted in.
        description: how it is fed and read.
        trained: whether its weights know something already.
        training_s: seconds that teaching it may take.
    """

    name: str
    model: ModelFile
    graph: ModelFile
    description: ModelDescription
    trained: bool
    training_s: float


@dataclass(frozen=True)
class PlanContext:
    """What is known when changes are planned.

    Attributes:
        config: the configuration to improve.
        profile: of that configuration, stages one after the other.
        objective: what to improve.
        cores: usable cores.
        frame_hw: height and width of the source's frames.
        video: whether the source is a video (or a live stream) rather than images.
        source: the source itself.
        runtimes: name → whether it can be used here.
        calibration: images that only calibration may look at.
        folder: where new model files go.
        labelled: whether accuracy can be judged with labels.
        seed: of whatever is random.
        candidates: other models that the user wants tried.
        allowed_drop: of accuracy, as the goal that guards the search says.
        selection: images that candidates are judged on; a change may look at them to tell whether
            calibration images are of their kind, and must learn nothing else from them.
        unquantized: the last configuration kept whose weights were float.
        missed: names of metrics of size (``model_mb``, ``peak_rss_mb``) whose goals are missed.
        students: smaller models that may be taught to take the model's place.
        teacher: the user's own configuration, whose answers are taught.
    """

    config: PipelineConfig
    profile: Profile
    objective: Objective
    cores: int
    frame_hw: tuple[int, int]
    video: bool
    source: str
    runtimes: Mapping[str, Availability]
    calibration: Dataset | None
    folder: Path
    labelled: bool
    seed: int = 0
    candidates: tuple[ModelCandidate, ...] = ()
    allowed_drop: float = 0.01
    selection: Dataset | None = None
    unquantized: PipelineConfig | None = None
    missed: frozenset[str] = frozenset()
    students: tuple[Student, ...] = ()
    teacher: PipelineConfig | None = None

    @property
    def cost(self) -> CostModel:
        """The cost model of the configuration as it is."""
        return CostModel.of(self.profile, self.config.options.streams)

    def gain(self, changed: CostModel) -> float:
        """How many times better ``changed`` is than the configuration as it is."""
        if self.objective == "latency":
            return self.cost.latency_ms / changed.latency_ms
        return changed.speedup_over(self.cost)


class Optimization(Protocol):
    """A change of the configuration."""

    name: ClassVar[str]

    @property
    def effect(self) -> Effect:
        """What it does to outputs."""
        ...

    @classmethod
    def variants(cls, context: PlanContext) -> Iterable[Self]:
        """The parameters worth trying here."""
        ...

    @property
    def label(self) -> str:
        """Name and parameters, for people; unique among the variants."""
        ...

    def applies(self, context: PlanContext) -> str | None:
        """None where it can be used here, else the reason why it cannot."""
        ...

    def predict(self, context: PlanContext) -> Prediction:
        """What it is expected to bring."""
        ...

    def apply(self, context: PlanContext) -> PipelineConfig:
        """The next configuration. May write new model files into ``context.folder``."""
        ...

    # What follows, `Ordinary` answers for changes that have nothing to say to it.

    @property
    def parts(self) -> Sequence[Optimization]:
        """The changes that it consists of, where they are several."""
        ...

    @property
    def always_judged(self) -> bool:
        """Whether its accuracy is of interest also where it is not faster."""
        ...

    def details(self, context: PlanContext) -> dict[str, Any]:
        """What else there is to say once it was applied, JSON-ready, for the trial's record."""
        ...

    def remark(self, context: PlanContext) -> str:
        """A clause for the trial's reason."""
        ...

    def unrounded(self, context: PlanContext) -> PipelineConfig | None:
        """What `apply` gives before weights are rounded, where it makes new weights."""
        ...

    @property
    def rung(self) -> str:
        """Name of its step of its repair ladder; empty where it has none.

        Where a change with a ladder costs too much accuracy, there is more to try.
        """
        ...

    def next_rung(self, tried: Sequence[Tried], context: PlanContext) -> Self | None:
        """What to try after all of ``tried``, itself included; None at the top."""
        ...

    def closed_rungs(self, context: PlanContext) -> Sequence[tuple[str, str]]:
        """Steps that cannot be tried here, each with the reason."""
        ...


@dataclass(frozen=True)
class Tried:
    """A change that cost too much accuracy, or could not be made.

    Attributes:
        change: what was tried, a step of the same ladder as the change that is asked.
        drop: of accuracy, on selection data; infinite where it was not judged.
    """

    change: Any
    drop: float


class Ordinary:
    """Base of changes: it consists of itself alone, has no repair ladder and nothing to add."""

    always_judged: ClassVar[bool] = False

    @property
    def parts(self) -> Sequence[Optimization]:
        """None."""
        return ()

    @property
    def rung(self) -> str:
        """None."""
        return ""

    def details(self, context: PlanContext) -> dict[str, Any]:
        """Nothing."""
        return {}

    def remark(self, context: PlanContext) -> str:
        """Nothing."""
        return ""

    def unrounded(self, context: PlanContext) -> PipelineConfig | None:
        """None: it makes no new weights."""
        return None

    def next_rung(self, tried: Sequence[Tried], context: PlanContext) -> Self | None:
        """None."""
        return None

    def closed_rungs(self, context: PlanContext) -> Sequence[tuple[str, str]]:
        """None."""
        return ()


class OneVariant(Ordinary, Parameterless):
    """Base of changes without a parameter worth varying; they are called by their name."""


class StepByStep(Ordinary):
    """Base of changes whose ladder has one way up; its steps are called by their labels."""

    @property
    def label(self) -> str:
        """Name and parameters, as of every change."""
        raise NotImplementedError

    @property
    def rung(self) -> str:
        """Label."""
        return self.label


def by_stage(
    context: PlanContext, factors: Mapping[str, float], basis: str, bound: Mapping[str, float]
) -> Prediction:
    """A prediction from factors on stage costs; ``bound`` holds the most optimistic factors."""
    expected = ideal = context.cost
    for stage, factor in factors.items():
        expected = expected.scaled(stage, factor)
    for stage, factor in bound.items():
        ideal = ideal.scaled(stage, factor)
    return Prediction(context.gain(expected), context.gain(ideal), basis)
