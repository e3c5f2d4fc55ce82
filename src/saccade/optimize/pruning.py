"""Prune to a measured speed: which ratio pays here is found out before anything is trained.

Fewer channels mean fewer operations, and on many machines the same time: convolutions are padded
to the vector width, small layers wait for memory, and what is not a convolution stays. So several
candidates are made, each races the unpruned model on the runtime in use, and only the one that
paid is trained, with the unpruned model as its teacher.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from saccade.errors import ChangeRefused, ModelError
from saccade.models.conversions.contract import program_of
from saccade.models.files import model_file
from saccade.optimize.change import PlanContext
from saccade.optimize.converting import converted
from saccade.optimize.distill import Distillation, Lesson
from saccade.optimize.float_model import float_context, rounded_again
from saccade.optimize.race import RacePlan, Runner, race
from saccade.optimize.real_inputs import conversion_request
from saccade.optimize.training_frames import FrameSource
from saccade.optimize.worker import Worker
from saccade.pipeline.config import PipelineConfig, digest
from saccade.statistics import Comparison

# Channel counts that vector units like: a register of float32 holds 8 (AVX2) or 16 (AVX-512).
MULTIPLES = (8, 16)
# Of the share that was asked for, what is tried.
STEPS = (0.5, 1.0)
# The smallest candidate with this part of the best gain is taken: less is lost for nearly as much.
NEARLY = 0.85
# Which candidate pays is asked with less care than the trial that follows.
QUICK = RacePlan(block_s=0.5, min_pairs=3, max_pairs=5)
# Smaller differences than this between a candidate and the original are not worth training for.
RESOLUTION = 0.03
TRAINING_FRAMES = 256
TIMEOUT_S = 300.0
# Part of a file's name: raised when the same request is carried out in another way.
METHOD = "prune 1"
PRUNER = "saccade.optimize.pruner:Pruner"

# How much faster the second configuration is than the first.
Contest = Callable[[PlanContext, PipelineConfig], Comparison]


@dataclass(frozen=True)
class Candidate:
    """A pruned program, not yet trained.

    Attributes:
        share: of every layer's channels that were taken out.
        multiple: what channel counts were rounded to.
        parameters: values that are left, as a share of the original's.
        path: the program.
    """

    share: float
    multiple: int
    parameters: float
    path: str

    def __str__(self) -> str:
        return (
            f"{self.share:.0%} of the channels out, multiples of {self.multiple}, "
            f"{self.parameters:.0%} of the weights left"
        )


@dataclass(frozen=True)
class Measured:
    """A candidate and what its race said."""

    candidate: Candidate
    comparison: Comparison

    @property
    def gain(self) -> float:
        """Times as fast as the unpruned model."""
        return self.comparison.ratio.value

    def document(self) -> dict[str, Any]:
        """JSON-ready; the candidate's file does not outlive its race."""
        candidate, interval = self.candidate, self.comparison.ratio.interval
        return {
            "share": candidate.share,
            "multiple": candidate.multiple,
            "parameters": candidate.parameters,
            "verdict": self.comparison.verdict,
            "gain": [interval.low, self.gain, interval.high],
        }


def is_pruned(program: str | Path) -> bool:
    """Whether a program was made here."""
    return _record(Path(program)).exists()


def pruned(
    context: PlanContext,
    share: float,
    contest: Contest | None = None,
    settings: Distillation | None = None,
) -> PipelineConfig:
    """The configuration with a pruned and trained model, rounded as the model in use is.

    A model that was pruned already is used again. It is the float model that is pruned; where
    the one in use is stored in int8, what comes out is rounded in the same way.

    Args:
        context: its float model must come from an exported program.
        share: of the channels that may be taken out at most.
        contest: how a candidate is raced; by default in worker processes, on the source.
        settings: how the candidate that paid is trained.

    Raises:
        ChangeRefused: no candidate is faster than the unpruned model.
        ModelError: the model cannot be pruned.
    """
    return rounded_again(context, pruned_float(context, share, contest, settings))


def pruned_float(
    context: PlanContext,
    share: float,
    contest: Contest | None = None,
    settings: Distillation | None = None,
) -> PipelineConfig:
    """As `pruned`, before rounding."""
    settings = settings or Distillation(seed=context.seed)
    before = float_context(context)
    original = program_of(before.config.model) if before is not None else None
    if before is None or original is None:
        raise ModelError("The model does not come from PyTorch, so its layers cannot be pruned.")
    target = context.folder / f"pruned-{_key(before, original, share, settings)}.pt2"
    if not _record(target).exists():
        context.folder.mkdir(parents=True, exist_ok=True)
        _make(before, original, share, contest or measured_contest, settings, target)
    return with_program(before, target)


def record_of(config: PipelineConfig) -> dict[str, Any]:
    """What is on record about the pruned program behind a configuration; empty where nothing is."""
    program = program_of(config.model)
    if program is None or not is_pruned(program):
        return {}
    found: dict[str, Any] = json.loads(_record(Path(program)).read_text(encoding="utf-8"))
    return found


def _key(context: PlanContext, original: str, share: float, settings: Distillation) -> str:
    images = context.calibration.digest if context.calibration is not None else ""
    identity = [model_file(original).sha256, share, METHOD, context.config.hash, images]
    return digest([*identity, context.objective, asdict(settings)])


def _make(
    context: PlanContext,
    original: str,
    share: float,
    contest: Contest,
    settings: Distillation,
    target: Path,
) -> None:
    partial = target.with_name("partial-" + target.name)
    with (
        tempfile.TemporaryDirectory(dir=context.folder) as scratch,
        Worker(PRUNER, (original, context.config.description.own_hw)) as worker,
    ):
        candidates = _candidates(worker, share, Path(scratch))
        # The worker waits, without using a core, while they race.
        beside = replace(context, folder=Path(scratch))
        measured = [Measured(c, contest(context, with_program(beside, c.path))) for c in candidates]
        chosen = choose(measured)
        lesson: Lesson = worker.call(
            "train",
            chosen.candidate.path,
            FrameSource.of(context),
            TRAINING_FRAMES,
            settings,
            str(partial),
            timeout_s=settings.budget_s + TIMEOUT_S,
        )
    partial.replace(target)
    record = {
        "chosen": chosen.document(),
        "measured": [m.document() for m in measured],
        "lesson": asdict(lesson),
    }
    _record(target).write_text(json.dumps(record, indent=1), encoding="utf-8")


def _record(program: Path) -> Path:
    return program.with_suffix(".pruning.json")


def _candidates(worker: Worker, share: float, folder: Path) -> list[Candidate]:
    """Every candidate that differs from those before it; some roundings come to the same.

    Raises:
        ModelError: the model cannot be pruned at all.
    """
    found: list[Candidate] = []
    problem: ModelError | None = None
    for step in STEPS:
        for multiple in MULTIPLES:
            part = step * share
            path = folder / f"candidate-{part:.3f}-{multiple}.pt2"
            try:
                left: float = worker.call("prune", part, multiple, str(path), timeout_s=TIMEOUT_S)
            except ModelError as error:
                problem = error
                continue
            if all(left != other.parameters for other in found):
                found.append(Candidate(part, multiple, left, str(path)))
    if not found and problem is not None:
        raise problem
    return found


def choose(measured: Sequence[Measured]) -> Measured:
    """The candidate with most weights left among those that gain nearly as much as the best.

    Raises:
        ChangeRefused: none is faster than the unpruned model.
    """
    faster = [m for m in measured if m.comparison.verdict == "faster"]
    if not faster:
        said = "; ".join(f"{m.candidate}: {m.gain:.3f}x the speed" for m in measured)
        raise ChangeRefused(f"smaller but not faster on this target ({said})")
    enough = math.exp(NEARLY * math.log(max(m.gain for m in faster)))
    good = [m for m in faster if m.gain >= enough]
    return max(good, key=lambda m: m.candidate.parameters)


def measured_contest(context: PlanContext, changed: PipelineConfig) -> Comparison:
    """Race a configuration against the context's, end to end, each in a worker of its own."""
    reference = Runner(context.config, context.source)
    try:
        candidate = Runner(changed, context.source)
        try:
            result = race(
                reference, candidate, context.objective, RESOLUTION, QUICK, lambda: math.inf
            )
        finally:
            candidate.close()
    finally:
        reference.close()
    return result.comparison


def with_program(context: PlanContext, program: str | Path) -> PipelineConfig:
    """The configuration with another program in the place of its own, in the same format.

    Raises:
        ModelError: the program cannot be converted to that format.
    """
    config = context.config
    model = model_file(program)
    if config.model.format != model.format:
        request = conversion_request(context, config.runtime)
        model = converted(model, (config.model.format,), request)
    return replace(config, model=model)
