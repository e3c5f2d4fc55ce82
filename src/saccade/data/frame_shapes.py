"""Which shapes the frames of a folder of images have, by reading no more than their headers."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from pathlib import Path

from saccade.data.images import walk_images

# Images that are looked at; a folder of more is judged by these.
LOOKED_AT = 512


@lru_cache(maxsize=8)
def frame_shapes(folder: str) -> tuple[tuple[tuple[int, int], int], ...]:
    """Height and width of the images below a folder, each with how many have it, most first.

    Files that are no images are left out; empty where the path is no folder.
    """
    if not Path(folder).is_dir():
        return ()
    from PIL import Image, UnidentifiedImageError

    found: Counter[tuple[int, int]] = Counter()
    for index, path in enumerate(walk_images(Path(folder))):
        if index == LOOKED_AT:
            break
        try:
            with Image.open(path) as image:
                width, height = image.size
        except (OSError, UnidentifiedImageError):
            continue
        found[height, width] += 1
    return tuple(found.most_common())
