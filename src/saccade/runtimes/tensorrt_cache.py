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

# A folder to use instead of the user's cache folder, or one of `saccade.user_cache.OFF`.
FOLDER_VARIABLE = "SACCADE_ENGINES"
# How the names of our files begin, in a folder that may be one of the user's.
PREFIX = "saccade-"
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


def engines_folder() -> Path | None:
    """Where engines are kept; None where they are not to be."""
    return user_cache("engines", FOLDER_VARIABLE)


def provider_folder() -> Path | None:
    """An existing folder for the engines of ONNX Runtime's own TensorRT, for `PREFIX` names.

    Older engines make room, as for `keep`. None where there is to be none, or it cannot be made.
    """
    folder = engines_folder()
    if folder is None:
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    _make_room(folder)
    return folder


def engine_path(
    model_sha256: str, input_name: str, settings: EngineSettings, builder: Builder
) -> Path | None:
    """Where an engine is or will be: equal path means equal engine. None for nowhere."""
    how = {**asdict(settings), "timing_cache": None}
    key = digest([METHOD, model_sha256, input_name, how, settings.shapes, asdict(builder)])
    return _place(f"{key}.engine")


def timings_path(builder: Builder) -> Path | None:
    """Where the kernel timings of a GPU and a version of TensorRT are kept; None for nowhere."""
    return _place(f"{digest(asdict(builder))}.timings")


def kept(path: Path | None) -> bytes | None:
    """What was kept; None where nothing was, or where it cannot be read."""
    if path is None:
        return None
    try:
        content = path.read_bytes()
        os.utime(path)
    except OSError:
        return None
    return content


def keep(path: Path | None, content: bytes) -> None:
    """Write a file whole or not at all; older engines make room.

    Failing costs time in the next session and nothing in this one, so it is no error.
    """
    if path is None:
        return
    partial = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
            partial = Path(file.name)
            file.write(content)
        partial.replace(path)
        _make_room(path.parent)
    except OSError:
        if partial is not None:
            partial.unlink(missing_ok=True)


def _place(name: str) -> Path | None:
    folder = engines_folder()
    return None if folder is None else folder / f"{PREFIX}{name}"


def _make_room(folder: Path) -> None:
    trim(folder, LIMIT_BYTES, f"{PREFIX}*.engine")
