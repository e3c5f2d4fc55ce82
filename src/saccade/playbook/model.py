"""From the model that a spec names to files and a description."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from saccade import plugins
from saccade.data.images import read_image, walk_images
from saccade.data.open import open_labelled
from saccade.data.sequences import pixels_of
from saccade.data.video import decode_frames, is_live, open_container
from saccade.errors import DataError, SpecError
from saccade.models.description import ModelDescription
from saccade.models.sources.contract import Images, ResolvedModel, SourceRequest, noise
from saccade.models.sources.resolve import resolve_model
from saccade.pipeline.config import ModelFile
from saccade.playbook.runnable import check_runs
from saccade.spec import Spec
from saccade.tasks.contract import Task

# Images that a converted model is compared with the original on.
COMPARED = 2


@dataclass(frozen=True)
class Described:
    """A model that can be run, and how."""

    resolved: ResolvedModel
    description: ModelDescription


def describe_model(spec: Spec, folder: Path, *, to_run: bool = True) -> Described:
    """Load the model that a spec names and find out how to run it.

    Args:
        spec: the request.
        folder: where converted files go.
        to_run: it will be run here, so a model that cannot be is refused.

    Raises:
        ModelError: the model cannot be loaded or converted, is not of the task, or uses what the
            runtime that would run it here does not have.
    """
    task: Task = plugins.load("tasks", spec.task)
    request = SourceRequest(
        reference=spec.model,
        folder=folder,
        weights=spec.weights,
        random_weights=spec.random_weights,
        input_size=spec.overrides.input_size,
        usual_size=task.usual_size,
        images=images_of(spec),
    )
    resolved = resolve_model(request)
    if to_run:
        check_runs(resolved.model)
    overrides = {**resolved.hints, **spec.overrides.given()}
    return Described(resolved, task.describe(resolved.graph, overrides))


def native_runtime(model: ModelFile) -> str:
    """The first runtime, in the order of the table, that takes the model's format.

    Raises:
        SpecError: there is none.
    """
    for name in plugins.names("runtimes"):
        if model.format in plugins.load("runtimes", name).availability().formats:
            return name
    raise SpecError(f"No runtime takes models in {model.format} format.")


def images_of(spec: Spec) -> Images:
    """Images from the user's data or video, for comparing; noise where there are none yet."""

    def images(hw: tuple[int, int]) -> NDArray[np.uint8]:
        import cv2

        found = [cv2.resize(image, hw[::-1]) for image in _first_images(spec)]
        return np.stack(found).astype(np.uint8) if found else noise(hw)

    return images


def _first_images(spec: Spec) -> list[NDArray[np.uint8]]:
    """Of the data, else of the video; none where neither can be read."""
    ways: list[Callable[[], Iterable[NDArray[np.uint8]]]] = []
    if spec.data is not None:
        data = spec.data
        ways += [lambda: _files(data if data.is_dir() else data.parent)]
        ways += [lambda: _listed(data, spec)]
    if spec.video is not None:
        video = spec.video
        ways += [lambda: _frames(video)]
    for way in ways:
        try:
            found = list(itertools.islice(way(), COMPARED))
        except DataError:  # said later, with all the others
            continue
        if found:
            return found
    return []


def _files(folder: Path) -> Iterator[NDArray[np.uint8]]:
    return (read_image(path) for path in walk_images(folder))


def _listed(data: Path, spec: Spec) -> Iterator[NDArray[np.uint8]]:
    """What a file names, where its images lie elsewhere or are frames of videos."""
    splits = open_labelled(data, None, spec.task, spec.labels.given())
    images = (image for part in (splits.train, splits.val) if part for image in part.images)
    return pixels_of(list(itertools.islice(images, COMPARED)))


def _frames(video: str) -> Iterator[NDArray[np.uint8]]:
    """The first frames. A live source is left alone: it gives each frame once."""
    if is_live(video):
        return
    if Path(video).is_dir():
        yield from _files(Path(video))
        return
    with open_container(video) as container:
        for frame in decode_frames(container, lambda _: None):
            yield frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
