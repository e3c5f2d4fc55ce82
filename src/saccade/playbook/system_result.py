"""``result.json`` of two tasks on the same frames. Pure: values in, document out.

The same document as that of one task, with ``systems`` beside it: what became of each task. Metrics
of accuracy stand under their own names; where both tasks have one of the same name, the second's is
``TASK.METRIC``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from saccade.data.contract import DataProblem
from saccade.goals import Goal, parse_goal
from saccade.measurement import STAGES, Block
from saccade.optimize.job import Job
from saccade.optimize.metrics import Estimate, speed_metrics, values
from saccade.pipeline.system import SystemConfig
from saccade.playbook.final import Final
from saccade.playbook.final_judge import Accuracy
from saccade.playbook.pareto import pareto
from saccade.playbook.result import Story, count_problems, goal_rows, overall, trial_row
from saccade.playbook.steps import Baseline
from saccade.profile.records import Profile
from saccade.spec import Spec
from saccade.study import Ratio, Study, Trial


@dataclass(frozen=True)
class SystemStory:
    """Everything that one run found out about two systems.

    Attributes:
        jobs: of each task.
        guards: the goal that bounds each task's loss of accuracy.
        studies: of each task on its own.
        naive: both naive pipelines, side by side.
        before: metrics of speed of ``naive`` in the last race, ``after`` those of ``best``.
        stages: a pass of ``naive`` and one of ``best``, stages one after the other.
    """

    spec: Spec
    jobs: tuple[Job, ...]
    guards: tuple[Goal, ...]
    studies: tuple[Study, ...]
    naive: SystemConfig
    baseline_blocks: tuple[Block, ...] = ()
    resolution: float = 0.0
    profiles: tuple[Profile, ...] = ()
    trials: tuple[Trial, ...] = ()
    inapplicable: tuple[tuple[str, str], ...] = ()
    best: SystemConfig | None = None
    accuracies: tuple[Accuracy, ...] = ()
    before: Mapping[str, Estimate] = field(default_factory=dict)
    after: Mapping[str, Estimate] = field(default_factory=dict)
    speedup: Ratio | None = None
    reverted: str = ""
    stages: tuple[Block, ...] = ()
    problems: tuple[DataProblem, ...] = ()
    wall_s: float = 0.0
    interrupted: bool = False


def system_document(story: SystemStory, folder: Path) -> dict[str, Any]:
    """The whole document."""
    first = story.jobs[0]
    told = [_story_of(story, index) for index in range(len(story.jobs))]
    goals = [row for one in told for row in goal_rows(one)]
    notes = [f"{job.spec.task}: {note}" for job in story.jobs for note in job.notes]
    return {
        "status": overall(goals, told[0]),
        "goals": goals,
        "systems": [_system(story, index) for index in range(len(story.jobs))],
        "baseline": _baseline(story),
        "best": _best(story) if story.best is not None else None,
        "pareto": pareto(told[0]) if story.baseline_blocks else [],
        "rejected": [
            {"trial": t.number, "change": t.change, "reason": t.reason, "verdict": t.verdict}
            for t in story.trials
            if not t.kept
        ],
        "trials": [trial_row(t) for t in story.trials],
        "inapplicable": [
            {"change": label, "reason": reason} for label, reason in story.inapplicable
        ],
        "findings": [],
        "data_problems": count_problems(story.problems),
        "repair": [],
        "operators": {"baseline": [], "best": []},
        "environment": first.environment.to_dict(),
        "noise": {"percent": 100 * story.resolution},
        "budget_s": story.spec.budget,
        "wall_s": story.wall_s,
        "objective": "throughput_fps" if first.objective == "throughput" else "latency_ms.p50",
        "notes": notes,
        "spec": story.spec.published(),
        "bundle": str(folder / "bundle") if story.best is not None else None,
        "guard": {"metric": story.guards[0].base, "allowed": story.guards[0].bound},
        "interrupted": story.interrupted,
    }


def _story_of(story: SystemStory, index: int) -> Story:
    """One task's part, as a story of one system; speed is that of both."""
    job = story.jobs[index]
    given = story.spec.goals if index == 0 else (story.spec.also.goals if story.spec.also else ())
    job = replace(job, goals=tuple(parse_goal(text) for text in given))
    final = None
    if story.best is not None and story.speedup is not None:
        final = Final(
            config=story.best.parts[index],
            speedup=story.speedup,
            baseline=dict(story.before),
            best=dict(story.after),
            baseline_blocks=(),
            best_blocks=(),
            accuracy=story.accuracies[index],
        )
    return Story(
        job,
        Baseline(job.baseline, story.baseline_blocks, story.resolution),
        story.guards[index],
        trials=story.trials,
        final=final,
        baseline_accuracy=_own_baseline(story, index),
    )


def _own_baseline(story: SystemStory, index: int) -> dict[str, float]:
    """The baseline's accuracy as the task's own study found it on the selection data."""
    base = story.guards[index].base
    points = [p for p in story.studies[index].result.get("pareto", []) if p.get("trial") == 0]
    return {base: points[0]["accuracy"]} if points else {}


def _baseline(story: SystemStory) -> dict[str, Any]:
    speed = values(story.before) if story.before else {}
    if not speed and story.baseline_blocks:
        speed = values(speed_metrics(story.baseline_blocks, story.naive.model_mb))
    accuracies = [dict(found.baseline) for found in story.accuracies]
    return {
        "metrics": {**speed, **_joined(story, accuracies)},
        "stages": _stages(story.stages[0]) if story.stages else [],
        "config": story.naive.to_dict(),
    }


def _best(story: SystemStory) -> dict[str, Any]:
    assert story.best is not None and story.speedup is not None
    kept = [trial for trial in story.trials if trial.kept]
    found = [
        {
            **accuracy.metrics,
            **{f"{name}_drop": drop.estimate for name, drop in accuracy.drops.items()},
        }
        for accuracy in story.accuracies
    ]
    drop = story.accuracies[0].drops.get(story.guards[0].base)
    return {
        "trial": kept[-1].number if kept else 0,
        "changes": [trial.change for trial in kept]
        + ([f"reverted: {story.reverted}"] if story.reverted else []),
        "config": story.best.to_dict(),
        "config_hash": story.best.hash,
        "metrics": {**values(story.after), **_joined(story, found)},
        "stages": _stages(story.stages[1]) if len(story.stages) > 1 else [],
        "speedup": {
            "value": story.speedup.value,
            "interval": [story.speedup.low, story.speedup.high],
        },
        "drop": {**asdict(drop), "data": "report"} if drop else None,
        "per_class": [],
        "by_size": {},
    }


def _joined(story: SystemStory, per_task: list[dict[str, float]]) -> dict[str, float]:
    """Metrics of both tasks in one mapping."""
    joined: dict[str, float] = {}
    for job, metrics in zip(story.jobs, per_task, strict=False):
        for name, value in metrics.items():
            joined[f"{job.spec.task}.{name}" if name in joined else name] = value
    return joined


def _system(story: SystemStory, index: int) -> dict[str, Any]:
    """What became of one task."""
    job, guard, study = story.jobs[index], story.guards[index], story.studies[index]
    found = story.accuracies[index] if story.accuracies else None
    drop = found.drops.get(guard.base) if found else None
    own = (study.best or {}).get("speedup") or {}
    return {
        "task": job.spec.task,
        "model": job.spec.model,
        "metric": guard.base,
        "allowed": guard.bound,
        "baseline": found.baseline.get(guard.base) if found else None,
        "best": found.metrics.get(guard.base) if found else None,
        "drop": {**asdict(drop), "data": "report"} if drop else None,
        "bounded": found.bound.holds if found and found.bound else None,
        "reason": found.bound.reason if found and found.bound else "",
        "own": {
            "run": str(study.folder),
            "changes": list((study.best or {}).get("changes", [])),
            "speedup": own.get("value"),
            "interval": own.get("interval"),
        },
    }


def _stages(block: Block) -> list[dict[str, Any]]:
    return [
        {"name": name, "wall_ms": sum(block.stage_ms[name]) / len(block.stage_ms[name])}
        for name in STAGES
    ]
