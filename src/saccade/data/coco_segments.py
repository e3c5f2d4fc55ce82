"""COCO instances with their segmentations: polygons, or run lengths."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from saccade.data.assemble import labelled_image, unlabelled_image
from saccade.data.classes import ClassMap
from saccade.data.coco import CocoFormat, Labelled, ProbedImage, read_coco, wrong_size
from saccade.data.coco_json import CocoImage
from saccade.data.contract import DataProblem, DataSplits
from saccade.data.images import display_path
from saccade.data.outlines import from_coco


class CocoSegmentsFormat:
    """A COCO instances file with segmentations, or a folder with ``annotations/``."""

    task: ClassVar[str | None] = "instance_segmentation"

    looks_for = (
        "a COCO instances .json file, or a folder with annotations/instances_*.json, with "
        "segmentations"
    )

    @staticmethod
    def recognizes(path: Path) -> bool:
        """As for boxes: the files are the same."""
        return CocoFormat.recognizes(path)

    @staticmethod
    def read(path: Path, class_names: Sequence[str] | None = None) -> DataSplits:
        """Read the splits; an image with a segmentation that cannot be read is left out.

        Raises:
            DataError: the JSON is not COCO instances, an annotation has a category it does not
                name, the images are nowhere, or too little is usable.
        """
        return read_coco(path, class_names, _label)


def _label(image: ProbedImage, entry: CocoImage, classes: ClassMap, source: str) -> Labelled:
    path, width, height = image
    wrong = wrong_size(image, entry)
    if wrong is not None:
        return None, [wrong]
    if not len(entry.class_ids):
        return unlabelled_image(image), []
    try:
        outlines = [from_coco(found, width, height) for found in entry.segmentations]
    except ValueError as error:
        # Its outline is unknown, not absent, so the image cannot be judged.
        detail = f"in {source}: {error}"
        return None, [DataProblem("bad_segmentation_image", display_path(path), detail, "skipped")]
    where = f"{source} ({entry.file_name})"
    return labelled_image(
        image, entry.boxes, classes(entry.class_ids), entry.crowd, where, outlines
    )
