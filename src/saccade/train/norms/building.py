"""The compiled kernels: made once per machine, kept beside what the user's other caches hold."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from saccade.errors import RuntimeFailure
from saccade.user_cache import user_cache

SOURCE = "kernels.cpp"
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp")
FORM = ("-std=c++17", "-shared", "-fPIC")
TIMEOUT_S = 120.0


def why_not_built() -> str | None:
    """None where the kernels can be compiled, else what is missing."""
    if not sys.platform.startswith("linux"):
        return f"its kernels are built on Linux, and this is {platform.system()}"
    if shutil.which(_compiler()) is None:
        return f"no C++ compiler: {_compiler()} not found (Debian, Ubuntu: apt-get install g++)"
    return None


@functools.cache
def kernels() -> ctypes.CDLL:
    """The library, compiled where it is not there yet.

    Raises:
        RuntimeFailure: it cannot be compiled here.
    """
    # First, as its OpenMP is to be used: two would each keep the cores busy while they wait.
    import torch  # noqa: F401

    kept = user_cache("kernels", "SACCADE_KERNELS")
    if kept is not None and (is_built() or _takes_files(kept)):
        return _loaded(kept)
    with tempfile.TemporaryDirectory() as folder:  # a library that is loaded needs no file
        return _loaded(Path(folder))


def is_built() -> bool:
    """Whether they lie in the user's cache already."""
    kept = user_cache("kernels", "SACCADE_KERNELS")
    return kept is not None and _path(kept, _source()).is_file()


def _takes_files(folder: Path) -> bool:
    """Whether the user's cache can be written to; a home may be read-only."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def _compiler() -> str:
    return os.environ.get("CXX") or "g++"


def _source() -> bytes:
    return files("saccade.train.norms").joinpath(SOURCE).read_bytes()


def _path(folder: Path, source: bytes) -> Path:
    return folder / f"norms-{_key(source)}.so"


def _loaded(folder: Path) -> ctypes.CDLL:
    source = _source()
    path = _path(folder, source)
    if not path.is_file():
        _build(source, path)
    return ctypes.CDLL(str(path))


def _key(source: bytes) -> str:
    """Of everything that the result depends on; ``-march=native`` is another on another CPU."""
    parts = (source, " ".join((_compiler(), *FLAGS, *FORM)).encode(), _cpu().encode())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    kinds = ("model name", "flags", "Features", "CPU part")
    return "\n".join(dict.fromkeys(line for line in lines if line.startswith(kinds)))


def _build(source: bytes, path: Path) -> None:
    """Compile into place; of two processes that do so at the same time the later one's stays."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            code, made = Path(folder) / SOURCE, Path(folder) / path.name
            code.write_bytes(source)
            command = [_compiler(), *FLAGS, *FORM, str(code), "-o", str(made)]
            found = subprocess.run(
                command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
            )
            if found.returncode:
                said = (found.stderr.strip() or "it said nothing").splitlines()[0]
                raise RuntimeFailure(f"{_compiler()} cannot compile the fused norms: {said[:300]}")
            made.replace(path)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RuntimeFailure(f"The fused norms cannot be compiled: {error}") from error
