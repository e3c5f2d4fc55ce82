"""Built engines and kernel timings, kept for the next session in a folder of the user's.

An engine takes minutes to build and fits one GPU and one version of TensorRT only. So it is kept
on the machine that built it and never travels in a bundle.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from saccade.pipeline.config import digest
from saccade.runtimes.tensorrt_settings import EngineSettings
from saccade.user_cache import trim, user_cache

# Where engines are kept, instead of the user's cache folder.
FOLDER_VARIABLE = "SACCADE_ENGINES"
# All engines together; those that were not used for longest go first.
LIMIT_BYTES = 8 * 10**9
# Part of a file's name: raised when the same settings build in another way.
METHOD = "engine 1"


@dataclass(frozen=True)
class Builder:
    """What an engine is bound to.

    Attributes:
        tensorrt: version.
        gpu: name, as the driver gives it.
    """

    tensorrt: str
    gpu: str


def engines_folder() -> Path:
    """Where engines are kept."""
    return user_cache("engines", FOLDER_VARIABLE)


def engine_path(
    model_sha256: str, input_name: str, settings: EngineSettings, builder: Builder
) -> Path:
    """Where an engine is or will be: equal path means equal engine."""
    how = {**asdict(settings), "timing_cache": None}
    key = digest([METHOD, model_sha256, input_name, how, settings.shapes, asdict(builder)])
    return engines_folder() / f"{key}.engine"


def timings_path(builder: Builder) -> Path:
    """Where the kernel timings of a GPU and a version of TensorRT are kept."""
    return engines_folder() / f"{digest(asdict(builder))}.timings"


def kept(path: Path) -> bytes | None:
    """What was kept; None where nothing was, or where it cannot be read."""
    try:
        content = path.read_bytes()
        os.utime(path)
    except OSError:
        return None
    return content


def keep(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; older engines make room.

    Failing costs time in the next session and nothing in this one, so it is no error.
    """
    partial = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
            partial = Path(file.name)
            file.write(content)
        partial.replace(path)
        trim(path.parent, LIMIT_BYTES, "*.engine")
    except OSError:
        if partial is not None:
            partial.unlink(missing_ok=True)
