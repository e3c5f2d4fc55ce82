"""`Job`: everything that stays the same during one run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from saccade import plugins
from saccade.data.roles import Roles
from saccade.environment import Environment
from saccade.goals import Goal
from saccade.models.description import ModelDescription
from saccade.optimize.change import ModelCandidate, Objective, PlanContext, Student
from saccade.pipeline.config import PipelineConfig
from saccade.profile.records import Profile
from saccade.runtimes.contract import Availability
from saccade.spec import Spec

# What may be lost where no goal says how much.
DEFAULT_ALLOWED_DROP = 0.01
DEFAULT_ALLOWED_DISAGREEMENT = 0.1


@dataclass(frozen=True)
class Job:
    """One run's fixed facts.

    Attributes:
        baseline: the naive configuration that everything is compared with.
        source: what is measured on, a video or a folder of images.
        video: whether the source is video.
        roles: labelled or unlabelled images by use; None where there is no data.
        notes: what a reader of the result should know.
        candidates: other models to try in the model's place.
        students: smaller models that the model may teach to take its place.
    """

    spec: Spec
    goals: tuple[Goal, ...]
    objective: Objective
    description: ModelDescription
    baseline: PipelineConfig
    source: str
    video: bool
    roles: Roles | None
    environment: Environment
    runtimes: Mapping[str, Availability]
    folder: Path
    notes: tuple[str, ...] = ()
    candidates: tuple[ModelCandidate, ...] = ()
    students: tuple[Student, ...] = ()

    @property
    def labelled(self) -> bool:
        """Whether accuracy can be judged with labels."""
        return (
            self.roles is not None and self.roles.report is not None and self.roles.report.labelled
        )


def objective_of(
    goals: tuple[Goal, ...], scenario: Literal["", "throughput", "latency"] = ""
) -> Objective:
    """The scenario; without one, latency where that is the only goal of speed, else throughput."""
    if scenario:
        return scenario
    speeds = [goal.metric for goal in goals if goal.metric == "throughput_fps"]
    latencies = [goal.metric for goal in goals if goal.metric.startswith("latency_ms")]
    return "latency" if latencies and not speeds else "throughput"


def guard_goal(job: Job) -> Goal | None:
    """The accuracy goal that guards the search: the user's, or a default where data allows."""
    return guard_goals(job)[0]


def guard_goals(job: Job) -> tuple[Goal, ...]:
    """Every goal that bounds a loss of accuracy; the one that guards the search is the first."""
    asked = tuple(goal for goal in job.goals if goal.is_accuracy and goal.is_drop)
    if asked:
        return asked
    if job.labelled:
        metric = plugins.load("tasks", job.spec.task).metrics[0]
        return (Goal(f"{metric}_drop", "<=", DEFAULT_ALLOWED_DROP),)
    return (Goal("agreement_drop", "<=", DEFAULT_ALLOWED_DISAGREEMENT),)


def absolute_goals(job: Job) -> tuple[Goal, ...]:
    """Every goal on a figure of accuracy itself, such as ``top1>=0.7``."""
    return tuple(goal for goal in job.goals if goal.is_accuracy and not goal.is_drop)


def plan_context(
    job: Job,
    config: PipelineConfig,
    profile: Profile,
    unquantized: PipelineConfig | None = None,
    peak_rss_mb: float | None = None,
) -> PlanContext:
    """What planning knows about one configuration of a job.

    Args:
        job: the run.
        config: what is to be improved.
        profile: of ``config``.
        unquantized: the last configuration kept whose weights were float.
        peak_rss_mb: of ``config``, measured; by default what its profile saw.
    """
    guard = guard_goal(job)
    return PlanContext(
        config=config,
        profile=profile,
        objective=job.objective,
        cores=job.environment.cores,
        frame_hw=profile.frame_hw,
        video=job.video,
        source=job.source,
        runtimes=job.runtimes,
        calibration=job.roles.calibration if job.roles else None,
        folder=job.folder / "models",
        labelled=job.labelled,
        seed=job.spec.seed,
        candidates=job.candidates,
        students=job.students,
        teacher=job.baseline,
        allowed_drop=guard.bound if guard is not None else DEFAULT_ALLOWED_DROP,
        selection=job.roles.selection if job.roles else None,
        unquantized=unquantized,
        missed=missed_sizes(job.goals, config, profile, peak_rss_mb),
    )


def missed_sizes(
    goals: tuple[Goal, ...],
    config: PipelineConfig,
    profile: Profile,
    peak_rss_mb: float | None = None,
) -> frozenset[str]:
    """Metrics of size whose goals a configuration misses.

    Where the peak was not measured, the profile's samples stand for it; a peak that lasts no
    longer than the loading of a model may escape them.
    """
    if peak_rss_mb is None:
        peak_rss_mb = max((sample.rss_mb for sample in profile.resources), default=0.0)
    sizes = {"model_mb": config.model.size_mb, "peak_rss_mb": peak_rss_mb}
    return frozenset(
        goal.metric for goal in goals if goal.metric in sizes and sizes[goal.metric] > goal.bound
    )
