"""What is resampled as one: an image, or a block of consecutive frames.

Frames of a sequence are no independent samples: the frame after an error shows the same error, and
an object that lost its id has lost it for the rest of its life. Drawing single frames would count
one accident as hundreds and promise bounds that do not hold. Sequences are therefore cut into
blocks of consecutive frames, and blocks are drawn (Künsch, "The Jackknife and the Bootstrap for
General Stationary Observations", 1989; non-overlapping blocks: Carlstein, "The Use of Subseries
Values for Estimating the Variance of a General Statistic from a Stationary Sequence", 1986).

What this assumes: blocks long enough that what happens in one says little about the next, and a
scene that goes on as it was. `BLOCKS` in all make blocks much longer than the cube root of the
length that the theory asks for at least; fewer would leave too little to draw from. Bounds then
use Student's t with that few degrees of freedom, and the larger of the bootstrap's and the
jackknife's error (`saccade.validate.drop_bound`). With a single sequence they speak of more
footage of the same scene and camera; what another scene would do, no resampling of one can say.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from saccade.data.contract import Dataset
from saccade.data.sequences import clips_of
from saccade.validate.bootstrap import RESAMPLES, resample_weights

BLOCKS = 20
# Shorter blocks would be little better than frames.
LEAST_FRAMES = 8


def blocks_of(dataset: Dataset) -> NDArray[np.int64]:
    """The block of each image: ``(images,)`` from 0; images of no sequence are blocks of their own.

    No block reaches over the border of a sequence, so with many sequences each is one.
    """
    clips = clips_of(dataset.images)
    if not clips:
        return np.arange(len(dataset))
    longest = max(LEAST_FRAMES, len(dataset) // BLOCKS)
    found: list[NDArray[np.int64]] = []
    first = 0
    for clip in clips:
        count = max(1, len(clip) // longest)
        found.append(first + np.arange(len(clip)) * count // len(clip))
        first += count
    return np.concatenate(found)


def unit_weights(dataset: Dataset, seed: int = 0, resamples: int = RESAMPLES) -> NDArray[np.int64]:
    """How often each block is drawn in each resample, ``(resamples, blocks)``.

    Systems are compared on the same weights.

    Raises:
        ValueError: there are no images.
    """
    blocks = int(blocks_of(dataset).max(initial=-1)) + 1
    return resample_weights(blocks, resamples, seed)
