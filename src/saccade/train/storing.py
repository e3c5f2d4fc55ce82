"""Where caches and shards of a job are kept, and the caches that this process has open."""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from saccade.scratch import scratch_folder
from saccade.train.caching import SampleCache
from saccade.train.loaders.contract import LoaderRequest

# How pictures are decoded; what was kept before pictures in grey became RGB is another thing.
PIXELS = "first image RGB"
# Shares of what is free when a cache is opened; the rest is for training and for others.
MEMORY_SHARE, DISK_SHARE = 0.6, 0.6

# A loader is closed and opened again for each seed; what it has decoded stays.
_OPEN: dict[str, SampleCache] = {}


def open_cache(request: LoaderRequest, count: int) -> SampleCache | None:
    """The cache that the settings ask for; None without one.

    Raises:
        StorageError: its file cannot be made.
    """
    settings = request.config.loader
    if settings.cache == "none":
        return None
    key = sample_key(request, count) + ("-resized" if settings.resized else "")
    path = None
    if settings.cache == "disk":
        path = store_folder(settings.store) / "cache" / f"{key}.samples"
    name = str(path or f"memory:{key}")
    if name not in _OPEN:
        _OPEN[name] = SampleCache(count, _capacity(path, request.config.scale.processes), path)
    return _OPEN[name]


def sample_key(request: LoaderRequest, count: int) -> str:
    """Of everything that decides what a decoded sample is, but the files themselves."""
    job, settings = request.config.job, request.config.loader
    parts = {
        "job": job.sha256,
        "settings": dict(job.settings),
        "split": request.split,
        "count": count,
        "decode": settings.decode,
        "decoder": settings.decoder,
        "pixels": PIXELS,
    }
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def store_folder(store: str) -> Path:
    """The folder for files of caches and shards."""
    return Path(store) if store else Path(_temporary().name)


@functools.cache
def _temporary() -> TemporaryDirectory[str]:
    return scratch_folder()


def _capacity(path: Path | None, processes: int) -> int:
    if path is None:
        # Each of the processes that train together keeps its own, and opens it when the others do.
        return int(psutil.virtual_memory().available * MEMORY_SHARE / processes)
    path.parent.mkdir(parents=True, exist_ok=True)
    return int(shutil.disk_usage(path.parent).free * DISK_SHARE)
