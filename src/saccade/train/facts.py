"""What samples are made of, from a look at a few of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from saccade.train.config import TrainingConfig
from saccade.train.decoding import decode_with_pillow, images_in
from saccade.train.job import TrainingJob
from saccade.train.loading import open_dataset
from saccade.train.profile import SampleFacts

LOOKED_AT = 8


def facts(job: TrainingJob, config: TrainingConfig) -> SampleFacts:
    """Look at a few samples of the training split.

    Raises:
        DataError: there is no such split.
    """
    dataset, count = open_dataset(job, "train")
    chosen = np.random.default_rng(config.seed).permutation(count)[:LOOKED_AT]
    files: list[list[Path]] = []
    for index in chosen:
        try:
            files.append(images_in(dataset[int(index)]))
        except Exception:  # a broken sample is another pass's to name
            continue
    named = [found for found in files if found]
    if not named:
        return SampleFacts(samples=count)
    paths = [path for found in named for path in found]
    shapes = [decode_with_pillow(found[0]).shape for found in named]
    return SampleFacts(
        samples=count,
        image_files=len(named) / len(files),
        jpeg=sum(path.suffix.lower() in (".jpg", ".jpeg") for path in paths) / len(paths),
        file_kb=sum(path.stat().st_size for path in paths) / len(named) / 1e3,
        decoded_mb=float(np.mean([np.prod(shape) for shape in shapes])) / 1e6,
        source_hw=(
            int(np.median([shape[0] for shape in shapes])),
            int(np.median([shape[1] for shape in shapes])),
        ),
    )
