"""Where runtimes keep compiled models, so that opening the same model again takes less time.

The folder is the user's, never a bundle's: what is in it fits one machine and one version of the
runtime, and may be deleted at any time.

In OpenVINO, opening became 1.4 to 2.0 times faster (medians of seven fresh processes each,
alternating, two busy cores: YOLOX-nano 1.5 s to 0.8 s in fp32 and 2.5 s to 1.2 s in bf16, ESPNet
1.07 s to 0.87 s, YOLO11n 1.8 s to 1.2 s), with outputs that agree to the last bit.

Measuring processes go without it (`SWITCHED_OFF`): the peak of memory was 3% lower to 6% higher
with a model from the cache, and whether it was there already must not be part of a result.
"""

from __future__ import annotations

import os
from pathlib import Path

from saccade.user_cache import OFF, user_cache

# A folder to use instead of the user's cache folder, or one of `OFF`.
FOLDER_VARIABLE = "SACCADE_MODEL_CACHE"
# Added to the environment of a process that must not use it.
SWITCHED_OFF = {FOLDER_VARIABLE: OFF[0]}
# Compiled models are about as large as their files; those that were not used for longest go.
LIMIT_BYTES = 1_000_000_000


def cache_folder(runtime: str) -> Path | None:
    """An existing folder for a runtime's compiled models; None where there is to be none.

    A folder that cannot be written is none: opening takes longer then, and nothing else changes.
    """
    models = user_cache("models", FOLDER_VARIABLE)
    if models is None:
        return None
    folder = models / runtime
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK | os.X_OK) else None
