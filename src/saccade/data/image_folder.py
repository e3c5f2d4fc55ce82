"""Images without labels: a folder, searched in depth, or a single file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from saccade.data.assemble import assemble, probe_all, unlabelled_image
from saccade.data.contract import DataSplits
from saccade.data.images import display_path, is_image_name, walk_images
from saccade.errors import DataError


class ImageFolderFormat:
    """Images without labels."""

    task: ClassVar[str | None] = None

    looks_for = "a folder with images, or one image file"

    @staticmethod
    def recognizes(path: Path) -> bool:
        """Whether there is at least one file with an image's suffix."""
        if path.is_dir():
            return next(walk_images(path), None) is not None
        return path.is_file() and is_image_name(path.name)

    @staticmethod
    def read(path: Path, class_names: Sequence[str] | None = None) -> DataSplits:
        """Read all images into ``val``, without labels.

        Raises:
            DataError: there is no image, or none that can be used.
        """
        paths = list(walk_images(path)) if path.is_dir() else [path]
        if not paths:
            raise DataError(f"There is no image in {display_path(path)}.")
        usable, problems = probe_all(paths)
        images = [unlabelled_image(image) for image in usable]
        dataset = assemble(
            path.name or "images",
            images,
            class_names or (),
            labelled=False,
            problems=problems,
            offered=len(paths),
        )
        return DataSplits(train=None, val=dataset)
