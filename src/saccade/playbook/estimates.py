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


@dataclass(frozen=True)
class Estimates:
    """What is known of a model on a target without measuring.

    Attributes:
        graph: the model at the size in use.
        name: of the target.
        target: None for this machine, of which nothing has to be estimated.
        candidates: runtimes and precisions there.
        others: what may take the model's place.
        left_out: candidates and students that cannot, each with the reason.
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
    graph = read_graph(model, hw)
    if is_here(name):
        return Estimates(graph, name, None, ())
    target = read_target(name)
    found = candidates(graph, target)
    check_usable(found, target, model.name)
    return Estimates(graph, name, target, found)


def estimate_job(job: Job) -> Estimates:
    """The same for a job that was prepared, with its candidates and its model at smaller sizes.

    Raises:
        ModelError: as `estimate`, of the model itself, or a student's file does not exist. A
            candidate that the target does not take is left out with the reason.
    """
    own = estimate(Path(job.baseline.model.path), input_hw(job.baseline), job.spec.target)
    own = replace(own, left_out=untaught(job.spec))
    named = [(c.name, c.config, False) for c in job.candidates]
    return with_others(own, [*named, *((n, c, True) for n, c in smaller(job.baseline))])


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
