"""Looks for samples that cannot be read, more than a few steps would meet."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from saccade.environment import usable_cores
from saccade.errors import DataError
from saccade.train.decoding import images_in
from saccade.train.profile import SampleScan
from saccade.train.samples import Corrupt

# JPEGs are decoded at this fraction of their size, which reads all of the file and is several
# times cheaper.
SMALL = (1, 1)
CHUNK = 32


def scan_samples(dataset: Any, seconds: float, seed: int = 0) -> SampleScan:
    """Read samples in random order until all were read or the time is over.

    Image files are read to their end, but JPEGs at an eighth of their size; transforms are not
    run. What the data set itself raises counts as well.
    """
    order = np.random.default_rng(seed).permutation(len(dataset)).tolist()
    ends = time.perf_counter() + seconds
    scanned, broken = 0, []  # type: int, list[Corrupt]
    with ThreadPoolExecutor(usable_cores()) as pool:
        for start in range(0, len(order), CHUNK):
            chunk = order[start : start + CHUNK]
            broken += [bad for bad in pool.map(lambda i: _check(dataset, i), chunk) if bad]
            scanned += len(chunk)
            if time.perf_counter() > ends:
                break
    return SampleScan(scanned, tuple(sorted(broken, key=lambda bad: bad.index)))


def _check(dataset: Any, index: int) -> Corrupt | None:
    try:
        for path in images_in(dataset[index]):
            _read_image(path)
    except Exception as error:
        return Corrupt(index, f"{type(error).__name__}: {error}"[:300])
    return None


def _read_image(path: Path) -> None:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            image.draft(image.mode, SMALL)
            image.load()
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise DataError(f"'{path}' cannot be decoded: {error}") from error
