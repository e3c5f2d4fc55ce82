"""Step one: from what the user asks to a `Job`, refusing what could only waste their time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade import plugins
from saccade.data.contract import Dataset, DataSplits
from saccade.data.counted import counted_classes, only_classes
from saccade.data.open import open_labelled
from saccade.data.roles import Roles, check_disjoint, split_roles
from saccade.data.sequences import pixels_of
from saccade.data.video import is_live, probe_video
from saccade.environment import Environment, detect
from saccade.errors import GoalError, SpecError
from saccade.goals import Goal
from saccade.models.description import ModelDescription
from saccade.models.sources.contract import ResolvedModel
from saccade.models.verify import Verification, verify_preprocessing
from saccade.optimize.job import Job, guard_goal, objective_of
from saccade.pipeline.config import ModelFile, PipelineConfig, TrackerOptions
from saccade.pipeline.pipeline import Pipeline
from saccade.playbook.label_numbers import check_numbers, may_count_from_one
from saccade.playbook.memory import check_file_fits, check_fits
from saccade.playbook.model import Described, describe_model, native_runtime
from saccade.progress import Progress
from saccade.runtimes.contract import Availability
from saccade.spec import Spec
from saccade.study import RunFolder
from saccade.suggest import did_you_mean
from saccade.targets.read import is_here, names
from saccade.targets.target import GPU_HERE, HERE
from saccade.tasks.contract import Task

__all__ = [
    "check_alone",
    "choose_source",
    "fits_here",
    "guard_goal",
    "naive",
    "prepare",
    "runtimes",
    "verified",
]

# The preprocessing guess is checked at this size where the model allows it: fast, and enough to
# tell right from wrong.
VERIFY_SIZE = 320
VERIFY_IMAGES = 48
VERIFY_THRESHOLD = 0.05


def prepare(spec: Spec, run: RunFolder, progress: Progress) -> Job:
    """Look at model, data and goals, and settle what the run is about.

    Raises:
        SaccadeError: something is missing, unreadable or contradictory; see `saccade.errors`.
    """
    check_alone(spec)
    environment = detect()
    check_file_fits(spec.model, environment.memory_mb)
    goals = spec.parsed_goals()
    task: Task = plugins.load("tasks", spec.task)
    described = describe_model(spec, run.path / "models")
    description, model = described.description, described.resolved.model
    for note in described.resolved.notes:
        progress.note(note)
    splits = _open_data(spec, description)
    classes = counted_classes(spec.classes, description.class_names, splits)
    roles = _roles(only_classes(splits, classes), spec.seed) if splits else None
    source, video = choose_source(spec, roles)
    _check_judgeable(goals, roles, task)
    _check_trained(goals, spec, described.resolved)
    notes: list[str] = list(described.resolved.notes)
    tight = fits_here(spec, described, environment)
    if tight is not None:
        notes.append(tight)
        progress.note(tight)
    if spec.random_weights and any(goal.is_accuracy for goal in goals):
        notes.append("Random weights, as asked: goals on accuracy are about chance.")
    if classes:
        names = ", ".join(description.class_names[index] for index in classes)
        why = "" if spec.classes else ": the labels have tracks of no other class"
        notes.append(f"Only {names} counts{why}.")
    if roles is not None and spec.preprocessor is None:
        verification = verified(spec, model, description, roles, run, progress)
        if verification is not None:
            description = verification.description
            notes += [f"Preprocessing corrected: {m}" for m in verification.mistakes]
            for mistake in verification.mistakes:
                progress.note(f"preprocessing: {mistake}")
    job = Job(
        spec=spec,
        goals=goals,
        objective=objective_of(goals, spec.scenario),
        description=description,
        baseline=replace(naive(spec, model, description), classes=classes),
        source=source,
        video=video,
        roles=roles,
        environment=environment,
        runtimes=only(spec.runtimes, native_runtime(model), runtimes_for(spec.target)),
        folder=run.path,
        notes=tuple(notes),
    )
    progress.note(_summary(job))
    return job


def fits_here(spec: Spec, described: Described, environment: Environment) -> str | None:
    """What to know about memory; targets elsewhere are judged by their data sheets.

    Raises:
        ModelError: the model does not fit this machine.
    """
    if not is_here(spec.target):
        return None
    model, hw = described.resolved.nearest_onnx, described.description.own_hw
    return check_fits(model, hw, spec.target, environment)


def check_alone(spec: Spec) -> None:
    """Only the whole playbook knows what to do with two systems.

    Raises:
        SpecError: there are two.
    """
    if spec.also is not None:
        raise SpecError(
            "The spec has a second system under 'also', which only `saccade optimize` takes, for a "
            "machine that is at hand. Leave it out, or give each system a spec of its own."
        )


def at_hand(target: str, environment: Environment, found: Mapping[str, Availability]) -> bool:
    """Whether the target is this machine and can be measured now.

    The GPU of this machine is at hand where one answers and an installed runtime can use it.
    """
    if target != GPU_HERE:
        return is_here(target)
    return environment.gpu is not None and any(_on_gpu(a) for a in found.values())


def _on_gpu(available: Availability) -> bool:
    return available.ok and GPU_HERE in available.devices


def check_at_hand(target: str, environment: Environment, found: Mapping[str, Availability]) -> None:
    """Refuse to measure the GPU of this machine where there is none that could be measured.

    Raises:
        SpecError: as said.
    """
    if target == GPU_HERE and not at_hand(target, environment, found):
        raise SpecError(
            f"The target 'cuda' is the GPU of this machine, and {no_gpu(environment)}. Name the "
            f"machine instead ({', '.join(names())}), for estimates; `saccade optimize` and "
            "`saccade export --kit` make a kit that measures on a machine with a GPU."
        )


def no_gpu(environment: Environment) -> str:
    """Why the GPU of this machine cannot be measured."""
    if environment.gpu is None:
        return "this machine has no NVIDIA GPU that answers"
    return (
        "no installed runtime can use its GPU (pip install 'saccade[cuda]' or 'saccade[tensorrt]')"
    )


def runtimes_for(target: str) -> Mapping[str, Availability]:
    """Every known runtime; those on a GPU count as absent where the target is the CPU."""
    found = runtimes()
    if target != HERE:
        return found
    return {
        name: replace(a, ok=False, detail="on the GPU, and the target is 'cpu' (--target cuda)")
        if a.ok and HERE not in a.devices
        else a
        for name, a in found.items()
    }


def only(
    wanted: Sequence[str], own: str, found: Mapping[str, Availability]
) -> Mapping[str, Availability]:
    """Runtimes that the user wants tried; the model's own stays, all others count as absent.

    Raises:
        SpecError: there is no runtime of that name.
    """
    for name in wanted:
        if name not in found:
            hint = did_you_mean(name, found) or f"Known: {', '.join(found)}."
            raise SpecError(f"There is no runtime '{name}'. {hint.strip()}")
    if not wanted:
        return found
    return {
        name: a
        if name in wanted or name == own or not a.ok
        else replace(a, ok=False, detail="not among the runtimes that were asked for")
        for name, a in found.items()
    }


def naive(spec: Spec, model: ModelFile, description: ModelDescription) -> PipelineConfig:
    """The pipeline as most people write it; everything is compared with it."""
    tracks = getattr(plugins.load("tasks", spec.task), "tracks", False)
    return PipelineConfig(
        task=spec.task,
        model=model,
        description=description,
        runtime=native_runtime(model),
        input_size=description.input_size,
        iou_threshold=description.iou_threshold,
        preprocessor=spec.preprocessor or "numpy",
        score_threshold=spec.score_threshold,
        max_detections=spec.max_detections,
        tracker=TrackerOptions(**spec.tracker.given()) if tracks else None,
    )


def runtimes() -> Mapping[str, Availability]:
    """Every known runtime and whether it can be used here."""
    return {
        name: plugins.load("runtimes", name).availability() for name in plugins.names("runtimes")
    }


def choose_source(spec: Spec, roles: Roles | None) -> tuple[str, bool]:
    """What speed is measured on, and whether it is video.

    Raises:
        SpecError: there is nothing to run on.
        DataError: the video cannot be read.
    """
    if spec.video is not None:
        if not is_live(spec.video) and Path(spec.video).is_dir():
            return spec.video, False
        probe_video(spec.video)
        return spec.video, True
    images = roles and (roles.selection or roles.report or roles.calibration)
    if not images:
        raise SpecError(
            "There is nothing to run on. Give 'video' (a video, a folder of images, a stream or a "
            "camera) or 'data' (labelled images)."
        )
    first = images.images[0]
    if first.frame is not None:
        return str(first.frame.source), not first.frame.source.is_dir()
    return str(first.path.parent), False


def _open_data(spec: Spec, description: ModelDescription) -> DataSplits | None:
    if spec.data is None:
        return None
    return open_labelled(spec.data, description.class_names, spec.task, spec.labels.given())


def _roles(splits: DataSplits, seed: int) -> Roles:
    roles = split_roles(splits, seed)
    check_disjoint(roles)
    return roles


def _check_judgeable(goals: tuple[Goal, ...], roles: Roles | None, task: Task) -> None:
    labelled = roles is not None and roles.report is not None and roles.report.labelled
    for goal in goals:
        if goal.is_accuracy and goal.base not in (*task.metrics, "agreement"):
            raise GoalError(
                f"The goal '{goal.name}' is not about {task.name}, which is judged by "
                f"{', '.join(task.metrics)} and agreement."
            )
        if goal.is_accuracy and goal.base != "agreement" and not labelled:
            raise GoalError(
                f"The goal '{goal.name}' needs labelled images to be judged, and there are none. "
                "Give 'data' with labels, or set a goal on 'agreement' with the baseline instead."
            )


def _check_trained(goals: tuple[Goal, ...], spec: Spec, resolved: ResolvedModel) -> None:
    judged = next((g for g in goals if g.is_accuracy and g.base != "agreement"), None)
    if judged is not None and not resolved.trained and not spec.random_weights:
        raise GoalError(
            f"The goal '{judged.name}' means nothing for {spec.model}, whose weights look "
            "untrained: every batch normalization still has the statistics that it was made with. "
            "Give 'weights', leave goals on accuracy out, or set 'random_weights' if that is meant."
        )


def verified(
    spec: Spec,
    model: ModelFile,
    description: ModelDescription,
    roles: Roles,
    run: RunFolder,
    progress: Progress,
    document: str = "verification.json",
) -> Verification | None:
    """Check the preprocessing by accuracy, on images that the report will not use.

    What was found is written into the run folder as ``document``.

    Raises:
        DataError: the labels count classes from another number than the model.
    """
    images = roles.calibration or roles.selection
    if images is None or not images.labelled:
        return None
    quick = description
    if description.input.dynamic:
        size = min(description.input_size, VERIFY_SIZE)
        quick = replace(description, input_size=size)
    progress.note(
        f"checking the preprocessing on {min(len(images), VERIFY_IMAGES)} labelled images"
    )
    scorer = _Scorer(spec, model, images)
    found = verify_preprocessing(quick, scorer.score, explicit=tuple(spec.overrides.given()))
    if spec.labels.first_class is None and may_count_from_one(images.images):
        scorer.check_numbers(found.description)
    run.write_json(
        document,
        {"scores": found.scores, "mistakes": found.mistakes, "undecided": found.undecided},
    )
    return replace(found, description=replace(found.description, input_size=description.input_size))


class _Scorer:
    """How well a description's results fit the labels, image by image."""

    def __init__(self, spec: Spec, model: ModelFile, images: Dataset) -> None:
        self._spec, self._model = spec, model
        self._task: Task = plugins.load("tasks", spec.task)
        self._images = images.images[:VERIFY_IMAGES]
        self._pixels = list(pixels_of(self._images))

    def score(self, description: ModelDescription) -> NDArray[np.float64]:
        return np.array(
            [
                self._task.fit(result, image)
                for result, image in zip(self._results(description), self._images, strict=True)
            ]
        )

    def check_numbers(self, description: ModelDescription) -> None:
        check_numbers(self._task, self._results(description), self._images)

    def _results(self, description: ModelDescription) -> list[Any]:
        config = replace(
            naive(self._spec, self._model, description),
            preprocessor="fused",
            nms="vectorized",
            score_threshold=VERIFY_THRESHOLD,
            tracker=None,
        )
        with Pipeline(config) as pipeline:
            return [pipeline(pixels) for pixels in self._pixels]


def _summary(job: Job) -> str:
    shape = "dynamic" if job.description.input.dynamic else "fixed"
    noun = plugins.load("tasks", job.spec.task).model_noun
    parts = [
        f"{job.description.decode} {noun}, {job.description.input_size} px ({shape} shape), "
        f"{len(job.description.class_names)} classes",
        f"improving {job.objective}",
    ]
    if job.roles is not None:
        counts = {
            "calibration": job.roles.calibration,
            "selection": job.roles.selection,
            "report": job.roles.report,
        }
        parts.append(
            ", ".join(f"{len(data)} images for {name}" for name, data in counts.items() if data)
        )
        if job.roles.problems:
            parts.append(f"{len(job.roles.problems)} problems in the data")
    return "; ".join(parts)
