"""A narrow U-Net on CamVid at small crops, so that a whole training takes about a minute."""

from __future__ import annotations

from typing import Any

import unet_camvid as full  # beside this file; saccade puts a job's folder on the path

full.CROP = 64  # its transforms look it up when they are made

batch_size = 8
epochs = 40

dataset, transforms, loss = full.dataset, full.transforms, full.loss
optimizer, metric = full.optimizer, full.metric


def model() -> Any:
    return full.UNet((8, 16, 24))
