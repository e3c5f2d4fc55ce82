"""YOLO polygons: a data set for instance segmentation, with a polygon per object."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from saccade.data.assemble import labelled_image
from saccade.data.classes import ClassMap
from saccade.data.contract import DataProblem, DataSplits
from saccade.data.images import display_path
from saccade.data.outlines import from_polygons
from saccade.data.yolo import Labelled, ProbedImage, YoloFormat, read_labels, read_yolo
from saccade.data.yolo_labels import YoloLabels, label_path, to_pixels
from saccade.data.yolo_yaml import YoloYaml


class YoloSegmentsFormat:
    """YOLO polygons, found by a ``data.yaml`` or by the folder layout alone."""

    task: ClassVar[str | None] = "instance_segmentation"

    looks_for = "a YOLO data.yaml, or a folder with images/ and labels/, with polygons as labels"

    @staticmethod
    def recognizes(path: Path) -> bool:
        """As for boxes: the files are the same, but for what their lines hold."""
        return YoloFormat.recognizes(path)

    @staticmethod
    def read(path: Path, class_names: Sequence[str] | None = None) -> DataSplits:
        """Read ``train`` and ``val``; an image that has boxes without polygons is left out.

        Raises:
            DataError: the YAML contradicts itself, a label has a class id it does not name, or
                too little is usable.
        """
        return read_yolo(path, class_names, _label)


def _label(image: ProbedImage, config: YoloYaml, classes: ClassMap) -> Labelled:
    path, width, height = image
    source = label_path(path)
    labels = read_labels(image, source, config)
    if not isinstance(labels, YoloLabels):
        return labels
    polygons = [polygon for polygon in labels.polygons if polygon is not None]
    shown = display_path(source)
    if len(polygons) < len(labels.polygons):
        # What was found where the label has no outline would be neither right nor wrong.
        detail = f"{shown} has boxes without a polygon"
        return None, [DataProblem("no_polygons_image", display_path(path), detail, "skipped")]
    size = np.array([width, height], np.float64)
    labelled, bad = labelled_image(
        image,
        to_pixels(labels.boxes, width, height),
        classes(labels.class_ids),
        np.zeros(len(polygons), np.bool_),
        shown,
        [from_polygons([polygon * size], width, height) for polygon in polygons],
    )
    return labelled, [*labels.problems, *bad]
