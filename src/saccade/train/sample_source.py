"""Puts together what prepares samples, as the loader settings say."""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from saccade.environment import usable_cores
from saccade.errors import SpecError
from saccade.train.collating import InPlaceCollate
from saccade.train.config import TrainingConfig
from saccade.train.decoding import (
    Decoder,
    Reader,
    decode_with_opencv,
    decode_with_pillow,
    file_bytes,
    images_in,
)
from saccade.train.loaders.contract import LoaderRequest
from saccade.train.resized_samples import resized_samples
from saccade.train.samples import BatchMaker, LoadTimes, Samples
from saccade.train.scaled_samples import ScaledSamples
from saccade.train.shards import ShardReader, open_shards
from saccade.train.storing import open_cache, sample_key, store_folder
from saccade.train.transforms.chain import Transform, found_chain
from saccade.train.transforms.normalization import Normalization, split_normalization

Finish = Callable[[Any], Any]


def batch_maker(request: LoaderRequest, dataset: Any) -> tuple[BatchMaker, Finish | None]:
    """Who makes batches of ``dataset``, and what is left to do to them on the device.

    Raises:
        SpecError: the job's transforms do not allow what the settings ask for.
        StorageError: a cache or shards cannot be written.
    """
    job, settings = request.job, request.config.loader
    transform = job.transforms(request.split) if job.transforms is not None else None
    finish: Finish | None = None
    if settings.normalize == "device":
        transform, finish = _split(transform, request.split)
    samples = _samples(request, dataset, transform)
    if samples.cache is not None and request.split == "train":
        fill(samples)
    return BatchMaker(samples, job.collate or _collate(request.config)), finish


def _split(transform: Any, split: str) -> tuple[Transform | None, Normalization | None]:
    found = split_normalization(transform)
    if not isinstance(found, str):
        return found
    if split == "train":
        raise SpecError(
            f"Normalizing on the device is not possible: {found}. End the transforms with "
            "v2.ToDtype(torch.float32, scale=True) and v2.Normalize, or leave this change out."
        )
    return transform, None  # held-out data may be prepared in another way


def _samples(request: LoaderRequest, dataset: Any, transform: Transform | None) -> Samples:
    settings = request.config.loader
    read = reader(request, dataset)
    cache = open_cache(request, len(dataset))
    expect = read.expect if isinstance(read, ShardReader) else None
    if settings.resized and cache is not None:
        decode = decoder(request.config, read)
        found = resized_samples(dataset, transform, decode, cache=cache, expect=expect)
        if not isinstance(found, str):
            return found
        if request.split == "train":
            raise SpecError(
                f"Keeping resized samples is not possible: {found}. Keep decoded ones instead "
                "(resized = false), or let the transforms begin with v2.Resize."
            )
    if settings.decode == "scaled":
        chain = found_chain(transform)
        if chain is not None:
            return ScaledSamples(dataset, chain, read, cache, expect=expect)
        if request.split == "train":
            raise SpecError(
                "Decoding at a smaller size is not possible: no list of transforms was found that "
                "says how large images have to be. Return a Compose from transforms(split)."
            )
    return Samples(dataset, transform, decoder(request.config, read), cache, expect)


def decoder(config: TrainingConfig, read: Reader) -> Decoder:
    """Who decodes whole images."""
    chosen = decode_with_opencv if config.loader.decoder == "opencv" else decode_with_pillow
    return chosen if read is file_bytes else functools.partial(chosen, read=read)


def reader(request: LoaderRequest, dataset: Any) -> Reader | ShardReader:
    """Who gets the bytes of image files.

    Raises:
        StorageError: shards cannot be written.
    """
    settings = request.config.loader
    if not settings.shards:
        return file_bytes
    key = sample_key(request, len(dataset))
    folder = store_folder(settings.store) / "shards" / key
    return open_shards(folder, _files(dataset))


def _files(dataset: Any) -> list[Path]:
    found: list[Path] = []
    for index in range(len(dataset)):
        try:
            found += images_in(dataset[index])
        except Exception:  # counted and judged where training meets it
            continue
    return found


def fill(samples: Samples, threads: int | None = None) -> None:
    """Decode what the cache does not hold yet, with all cores, as long as it has room.

    Samples that cannot be read stay out of it; they are counted where training meets them.
    """
    cache = samples.cache
    if cache is None or cache.was_filled:
        return
    cache.was_filled = True
    # Data sets that name files are asked in threads; others may hold what threads would break.
    named = _names_files(samples)

    def decode(index: int) -> None:
        if cache.full:
            return
        try:
            samples.raw(index, LoadTimes())
        except Exception:
            return

    with ThreadPoolExecutor((threads or usable_cores()) if named else 1) as pool:
        list(pool.map(decode, cache.missing))


def _names_files(samples: Samples) -> bool:
    try:
        return bool(images_in(samples.dataset[0]))
    except Exception:
        return False


def _collate(config: TrainingConfig) -> Callable[[list[Any]], Any]:
    from torch.utils.data import default_collate

    settings = config.loader
    if not settings.vectorized_collate:
        plain: Callable[[list[Any]], Any] = default_collate
        return plain
    on_gpu = config.compute.device.startswith("cuda")
    return InPlaceCollate(pinned=settings.pinned and on_gpu)
