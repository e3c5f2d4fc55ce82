"""Judge finished things: a bundle's accuracy, and two configurations against each other."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from saccade import plugins
from saccade.data.contract import Dataset
from saccade.data.counted import only_classes
from saccade.data.open import open_labelled
from saccade.data.video import is_live, probe_video
from saccade.deploy.bundle import (
    MANIFEST,
    bundle_at,
    bundle_config,
    read_manifest,
    system_config,
)
from saccade.errors import BundleError, DataError, GoalError
from saccade.goals import METRICS, Goal
from saccade.label_settings import LabelSettings
from saccade.models.candidates import classes_differ
from saccade.models.files import model_file
from saccade.optimize.change import Objective
from saccade.optimize.metrics import Estimate
from saccade.optimize.race import RacePlan, Runner, against_itself, race
from saccade.optimize.sharing.subject import SystemRunner
from saccade.pipeline.config import PipelineConfig
from saccade.pipeline.pipeline import Pipeline
from saccade.progress import Progress
from saccade.validate.blocks import unit_weights
from saccade.validate.bootstrap import Replicates
from saccade.validate.contract import Scored
from saccade.validate.drop_bound import interval_of, paired_drop

COMPARE_RACE = RacePlan(block_s=1.0, min_pairs=6, max_pairs=10)
AA_PAIRS = 4


def config_at(path: Path) -> PipelineConfig:
    """The configuration in a bundle, a run folder, or a run's ``baseline.json``.

    Raises:
        BundleError: there is none, or the bundle was damaged.
    """
    if path.is_file():
        return _checked(_config_in(path), path)
    return bundle_config(bundle_at(path))


def labels_at(path: Path) -> LabelSettings:
    """How the labels were meant that what is at ``path`` was judged on, as far as it says so."""
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
    else:
        found = read_manifest(bundle_at(path))["provenance"]
    return LabelSettings.model_validate(found.get("labels", {}))


def runner_at(path: Path, source: str) -> Runner:
    """What is at ``path``, running on ``source``: one task, or two on the same frames.

    Raises:
        BundleError: there is nothing that could run, or the bundle was damaged.
    """
    folder = bundle_at(path)
    system = system_config(folder) if (folder / MANIFEST).exists() else None
    return SystemRunner(system, source) if system is not None else Runner(config_at(path), source)


def _config_in(path: Path) -> PipelineConfig:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return PipelineConfig.from_dict(document["config"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BundleError(
            f"'{path}' holds no configuration. Expected a bundle's folder or a run's baseline.json."
        ) from None


def _checked(config: PipelineConfig, path: Path) -> PipelineConfig:
    """Only a bundle has its model beside it; elsewhere it may have changed since."""
    if model_file(config.model.path).sha256 != config.model.sha256:
        raise BundleError(
            f"The model '{config.model.path}' is not the one that '{path}' was measured with: its "
            "content has changed. Measure the baseline again."
        )
    return config


def compare_configs(
    first: Path, second: Path, source: str, objective: Objective, progress: Progress
) -> dict[str, Any]:
    """Race two configurations in turns, with the noise of this machine measured beside them."""
    if not is_live(source) and not Path(source).is_dir():
        probe_video(source)
    progress.step("Race")
    a = runner_at(first, source)
    try:
        b = runner_at(second, source)
        try:
            twin = runner_at(first, source)
            try:
                frames = a.frames_for(COMPARE_RACE.block_s / 2)
                _, resolution = against_itself(
                    a, twin, objective, frames, lambda pairs: pairs < AA_PAIRS
                )
            finally:
                twin.close()
            progress.note(f"differences of {resolution:.1%} can be resolved now")
            result = race(a, b, objective, resolution, COMPARE_RACE, lambda: float("inf"))
        finally:
            b.close()
    finally:
        a.close()
    comparison = result.comparison
    verdict = {"faster": "second is faster", "slower": "first is faster"}
    ratio = comparison.ratio
    return {
        "verdict": verdict.get(comparison.verdict, "not distinguishable"),
        "ratio": ratio.value,
        "interval": [ratio.interval.low, ratio.interval.high],
        "resolution": resolution,
        "reason": comparison.reason,
        "objective": objective,
        "first_fps": [block.fps for block in result.reference],
        "second_fps": [block.fps for block in result.candidate],
    }


def judge_bundle(
    bundle: Path,
    data: Path,
    against: Path | None,
    goals: tuple[Goal, ...],
    progress: Progress,
    labels: LabelSettings | None = None,
) -> dict[str, Any]:
    """Accuracy of a bundle on labelled images, with intervals, and its drop where asked for.

    Args:
        bundle: what is judged.
        data: labelled images.
        against: what it is compared with.
        goals: on its accuracy.
        progress: who is told.
        labels: how the labels are meant, where not as those that the bundle was made with.

    Raises:
        BundleError: there is no sound bundle, or ``against`` is for another task or other classes.
        DataError: the images have no labels.
        GoalError: a goal is not about accuracy, or needs ``against``.
    """
    config = config_at(bundle)
    other = config_at(against) if against is not None else None
    if other is not None:
        _check_comparable(config, other, f"'{bundle}' and '{against}'")
    dataset = _labelled(data, config, (labels or LabelSettings()).given(), labels_at(bundle))
    names = plugins.load("tasks", config.task).metrics
    for goal in goals:
        _check_goal(goal, names, against)
    progress.step(f"Accuracy on {len(dataset)} images")
    weights = unit_weights(dataset)
    found = _scored(config, dataset, weights)
    metrics = {name: _spread(name, replicated) for name, replicated in found.metrics.items()}
    if other is not None:
        before = _scored(other, dataset, weights)
        for name in names:
            drop = paired_drop(before.metrics[name], found.metrics[name])
            metrics[f"{name}_drop"] = Estimate(drop.estimate, drop.lower, drop.upper)
    rows = [
        {
            "name": goal.name,
            "value": metrics[goal.metric].value,
            "status": goal.status(*_three(metrics[goal.metric])),
        }
        for goal in goals
    ]
    statuses = {row["status"] for row in rows}
    order = ("not_met", "inconclusive")
    return {
        "status": next((status for status in order if status in statuses), "met"),
        "images": len(dataset),
        "metrics": {
            name: {"value": e.value, "low": e.low, "high": e.high} for name, e in metrics.items()
        },
        "goals": rows,
    }


def _three(estimate: Estimate) -> tuple[float | None, float | None, float | None]:
    return estimate.value, estimate.low, estimate.high


def _check_goal(goal: Goal, names: Sequence[str], against: Path | None) -> None:
    if goal.base not in names:
        raise GoalError(
            f"`validate` judges {' and '.join(names)}; '{goal.name}' is about {goal.base}."
        )
    if goal.is_drop and against is None:
        raise GoalError(f"The goal '{goal.name}' needs --against to compare with.")


def _check_comparable(config: PipelineConfig, other: PipelineConfig, both: str) -> None:
    """Class by class, since labels and results hold ids.

    Raises:
        BundleError: the second is not for the same task and classes.
    """
    different = classes_differ(other.description.class_names, config.description.class_names)
    if config.task != other.task:
        different = f"the one is for {config.task}, the other for {other.task}"
    if different is not None:
        raise BundleError(
            f"{both} cannot be compared: {different}. Expected what was made for the same task and "
            "classes."
        )


def _labelled(
    data: Path, config: PipelineConfig, given: Mapping[str, Any], usual: LabelSettings
) -> Dataset:
    names = config.description.class_names
    splits = open_labelled(data, names, config.task, given, usual.given())
    splits = only_classes(splits, config.classes)
    dataset = splits.val or splits.train
    if dataset is None or not dataset.labelled:
        raise DataError(f"'{data}' has no labelled images. Accuracy needs labels to compare with.")
    return dataset


def _scored(config: PipelineConfig, dataset: Dataset, weights: Any) -> Scored:
    judge = plugins.load("judges", config.task)
    task = plugins.load("tasks", config.task)
    with Pipeline(config) as pipeline:
        results = list(pipeline.judge_images(dataset.images, judge.threshold))
    found: Scored = judge.scored(dataset, task.collect(results), weights)
    return found


def _spread(name: str, replicated: Replicates) -> Estimate:
    found, metric = interval_of(replicated), METRICS[name]
    high = found.high if metric.high is None else min(found.high, metric.high)
    return Estimate(replicated.point, max(found.low, metric.low), high)
