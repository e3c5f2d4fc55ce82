"""Files that are needed for as long as a process lives, removed even if it is killed.

A process removes what it wrote when it ends; a measuring process may crash or be killed and then
cannot. So whoever starts one gives it a folder through the environment and removes that folder
afterwards.
"""

from __future__ import annotations

import os
from tempfile import TemporaryDirectory

# Where a process puts what ends with it; set by the process that started it.
VARIABLE = "SACCADE_SCRATCH"


def scratch_folder() -> TemporaryDirectory[str]:
    """A new folder for files that are needed no longer than this process lives."""
    return TemporaryDirectory(
        prefix="saccade-", dir=os.environ.get(VARIABLE), ignore_cleanup_errors=True
    )
