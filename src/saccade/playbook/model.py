"""From the model that a spec names to files and a description."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from saccade import plugins
from saccade.data.images import read_image, walk_images
from saccade.errors import DataError, SpecError
from saccade.models.description import ModelDescription
from saccade.models.sources.contract import Images, ResolvedModel, SourceRequest, noise
from saccade.models.sources.resolve import resolve_model
from saccade.pipeline.config import ModelFile
from saccade.spec import Spec
from saccade.tasks.contract import Task

# Images that a converted model is compared with the original on.
COMPARED = 2


@dataclass(frozen=True)
class Described:
    """A model that can be run, and how."""

    resolved: ResolvedModel
    description: ModelDescription


def describe_model(spec: Spec, folder: Path) -> Described:
    """Load the model that a spec names and find out how to run it.

    Args:
        spec: the request.
        folder: where converted files go.

    Raises:
        ModelError: the model cannot be loaded or converted, or is not of the task.
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
    places = [Path(place) for place in (spec.data, spec.video) if place is not None]
    for place in places:
        folder = place if place.is_dir() else place.parent
        try:
            paths = itertools.islice(walk_images(folder), COMPARED)
            found = [read_image(path) for path in paths]
        except DataError:  # said later, with all the others
            continue
        if found:
            return found
    return []
