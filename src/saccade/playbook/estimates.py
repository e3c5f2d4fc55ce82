"""What is known of a job's models on a target without measuring: its own, and what may replace it.

Beside the model as given stand the candidates that the user named, and the model at smaller sizes
where its file takes any size.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from saccade.deploy.exports.contract import Run
from saccade.errors import ModelError
from saccade.estimate.candidates import (
    Candidate,
    candidates,
    check_usable,
    estimate_document,
)
from saccade.estimate.graph import GraphFacts, read_graph
from saccade.optimize.job import Job
from saccade.pipeline.config import PipelineConfig
from saccade.pipeline.pipeline import input_hw
from saccade.playbook.students import untaught
from saccade.targets.read import is_here, read_target
from saccade.targets.target import GPU_HERE, HERE, Target

# What the machine at hand does not mean: no GPU by `cpu`, and no accelerator on its bus by either.
ACCELERATORS = {
    HERE: ("tensorrt", "onnxruntime-tensorrt", "onnxruntime-cuda", "edgetpu"),
    GPU_HERE: ("edgetpu",),
}
# Sides of the smaller inputs, as a share of the model's own.
SMALLER = (0.8, 0.65)
# What is called so where it is left out.
ITSELF = "the model itself"


@dataclass(frozen=True)
class Estimates:
    """What is known of a model on a target without measuring.

    Attributes:
        graph: the model at the size in use.
        name: of the target.
        target: None for this machine, of which nothing has to be estimated.
        candidates: runtimes and precisions there.
        others: what may take the model's place.
        left_out: what cannot run there, each with the reason; the model itself among it only where
            others can.
    """

    graph: GraphFacts
    name: str
    target: Target | None
    candidates: tuple[Candidate, ...]
    others: tuple[OtherModel, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()

    def document(self) -> dict[str, Any]:
        """JSON-ready; empty for this machine."""
        if self.target is None:
            return {}
        others = {other.name: other.estimates.document() for other in self.others}
        own = estimate_document(self.graph, self.target, self.candidates)
        return {**own, "others": others, "left_out": [list(pair) for pair in self.left_out]}

    def all_candidates(self) -> tuple[Candidate, ...]:
        """Runtimes and precisions of the model and of all that may take its place."""
        theirs = (found for other in self.others for found in other.estimates.candidates)
        return (*self.candidates, *theirs)

    def has(self, runtime: str) -> bool:
        """Whether the target has a runtime at all."""
        if self.target is None:
            return runtime not in ACCELERATORS.get(self.name, ())
        return runtime in self.target.runtimes or runtime in self.target.host_runtimes

    def refusal(self, run: Run) -> str | None:
        """Why the target cannot run a file in that way, or None."""
        if not self.has(run.runtime):
            return f"{self.name} has no {run.runtime}"
        if self.target is None or run.runtime in self.target.host_runtimes:
            return None
        found = next(
            (c for c in self.candidates if c.label == f"{run.runtime} {run.precision}"), None
        )
        if found is None:
            return f"{run.runtime} has no {run.precision} on {self.target.name}"
        return None if found.usable else found.reason


@dataclass(frozen=True)
class OtherModel:
    """What may take the model's place.

    Attributes:
        name: of the candidate, or the size.
        config: how it runs here; its model is an ONNX file.
        estimates: of it alone.
        resized: it is the model itself at a smaller size.
    """

    name: str
    config: PipelineConfig
    estimates: Estimates
    resized: bool


def estimate(model: Path, hw: tuple[int, int], name: str) -> Estimates:
    """Estimate a model on a target.

    Raises:
        ModelError: the model is unreadable, no runtime there takes it, or it does not fit.
    """
    found = _unjudged(model, hw, name)
    if found.target is not None:
        check_usable(found.candidates, found.target, model.name)
    return found


def _unjudged(model: Path, hw: tuple[int, int], name: str) -> Estimates:
    """The estimates also of a model that the target cannot run."""
    graph = read_graph(model, hw)
    if is_here(name):
        return Estimates(graph, name, None, ())
    target = read_target(name)
    return Estimates(graph, name, target, candidates(graph, target))


def estimate_job(job: Job) -> Estimates:
    """`estimate_all` of a job that was prepared.

    Raises:
        ModelError: as there, or a student's file does not exist.
    """
    named = [(c.name, c.config) for c in job.candidates]
    return estimate_all(job.baseline, job.spec.target, named, untaught(job.spec))


def estimate_all(
    config: PipelineConfig,
    name: str,
    named: Iterable[tuple[str, PipelineConfig]],
    left_out: tuple[tuple[str, str], ...],
) -> Estimates:
    """The estimates of a model, of its candidates, and of the model at smaller sizes.

    What the target cannot run is left out with the reason, be it the model itself: another may
    take its place.

    Args:
        config: of the model, which is an ONNX file.
        name: of the target.
        named: candidates with their configurations.
        left_out: what is left out already, each with the reason.

    Raises:
        ModelError: the target can run none of them; or the model is unreadable.
    """
    path = Path(config.model.path)
    own = replace(_unjudged(path, input_hw(config), name), left_out=left_out)
    others = [(n, c, False) for n, c in named] + [(n, c, True) for n, c in smaller(config)]
    found = with_others(own, others)
    if found.target is None:
        return found
    try:
        check_usable(found.candidates, found.target, path.name)
    except ModelError as error:
        if not found.others:
            raise ModelError(f"{error}{_nor(n for n, _, _ in others)}") from error
        return replace(found, left_out=((ITSELF, str(error)), *found.left_out))
    return found


def _nor(others: Iterable[str]) -> str:
    """What else was looked at in vain."""
    names = ", ".join(others)
    return f" What might take its place does not run there either: {names}." if names else ""


def with_others(own: Estimates, others: Iterable[tuple[str, PipelineConfig, bool]]) -> Estimates:
    """The estimates of a model with those of what may take its place.

    Args:
        own: of the model.
        others: name, configuration, and whether it is the model itself at a smaller size.
    """
    found: list[OtherModel] = []
    left_out: list[tuple[str, str]] = list(own.left_out)
    for name, config, resized in others:
        try:
            estimates = estimate(Path(config.model.path), input_hw(config), own.name)
        except ModelError as error:
            left_out.append((name, str(error)))
            continue
        taken = sum(other.name == name for other in found)
        found.append(OtherModel(f"{name} ({taken})" if taken else name, config, estimates, resized))
    return replace(own, others=(*own.others, *found), left_out=tuple(left_out))


def smaller(config: PipelineConfig) -> list[tuple[str, PipelineConfig]]:
    """The model at smaller sizes, largest first; none where its file has one size only."""
    described = config.description
    if not described.input.dynamic:
        return []
    found: dict[int, PipelineConfig] = {}
    for share in SMALLER:
        size = round(config.input_size * share / described.stride) * described.stride
        if 0 < size < config.input_size:
            found.setdefault(size, replace(config, input_size=size))
    return [(f"{size}px", resized) for size, resized in found.items()]
