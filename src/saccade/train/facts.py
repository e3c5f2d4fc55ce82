"""`SampleFacts` from a look at a few samples: what may be done to how they are loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from saccade.train.caching import signature_of
from saccade.train.config import TrainingConfig
from saccade.train.decoding import decode_with_pillow, decoded, file_bytes, images_in
from saccade.train.job import TrainingJob
from saccade.train.loading import open_dataset
from saccade.train.order import ticket_seed
from saccade.train.planned_samples import planned
from saccade.train.profile import SampleFacts
from saccade.train.resized_samples import leading_steps, resized, resized_samples
from saccade.train.samples import kept_randomness, seed_everything
from saccade.train.transforms.chain import Transform, found_chain, own_generator
from saccade.train.transforms.normalization import split_normalization
from saccade.train.transforms.parity import worst
from saccade.train.transforms.source_size import source_fraction

LOOKS = 8
# Samples fetched a second time, to see whether they are the same.
REPEATS = 2
# Kinds of file systems that are reached over a network, or may be.
NETWORK_DISKS = (
    "nfs", "cifs", "smb", "fuse", "lustre", "beegfs", "gpfs", "ceph", "9p", "virtiofs", "glusterfs",
)  # fmt: skip
JPEG_SUFFIXES = frozenset({".jpg", ".jpeg"})


@dataclass(frozen=True)
class Look:
    """One sample that was looked at.

    Attributes:
        raw: as the data set gives it.
        files: image files in it.
        sample: decoded.
    """

    index: int
    raw: Any
    files: tuple[Path, ...]
    sample: Any

    @property
    def images(self) -> list[Any]:
        """The arrays in it that look like images, ``(H, W)`` or ``(H, W, C)``."""
        parts = self.sample if isinstance(self.sample, tuple | list) else [self.sample]
        return [part for part in parts if getattr(part, "ndim", 0) in (2, 3)]


def facts(job: TrainingJob, config: TrainingConfig, looks: int = LOOKS) -> SampleFacts:
    """Facts of the training split; reads a few samples and runs the job's transforms on them.

    Raises:
        DataError: the data set cannot be opened.
    """
    dataset, count = open_dataset(job, "train")
    seen = _look(dataset, count, looks)
    if not seen:
        return SampleFacts(count)
    transform = job.transforms("train") if job.transforms is not None else None
    files = [path for look in seen for path in look.files]
    sizes = [look.images[0].shape[:2] for look in seen if look.images]
    with kept_randomness():
        ready = _first_ready(transform, seen, config.seed)
        refusals = _refusals(job, config, seen, transform, dataset)
    return SampleFacts(
        samples=count,
        jpeg=_share([path.suffix.lower() in JPEG_SUFFIXES for path in files]),
        file_kb=sum(path.stat().st_size for path in files) / 1e3 / len(seen),
        decoded_mb=float(np.mean([_bytes(look.sample) for look in seen])) / 1e6,
        resized_mb=_resized_mb(transform, seen) if "cache_resized" not in refusals else 0.0,
        source_hw=_median_size(sizes),
        input_hw=_input_size(ready),
        scalable=_scalable(transform, sizes) if "scaled_decode" not in refusals else 1.0,
        refusals=refusals,
    )


def _look(dataset: Any, count: int, looks: int) -> list[Look]:
    """Samples from all over the data set; unreadable ones are passed over."""
    found = []
    for index in sorted({int(i) for i in np.linspace(0, count - 1, min(looks, count))}):
        try:
            raw = dataset[index]
            sample = decoded(raw, decode_with_pillow)
        except Exception:  # counted and judged where training meets it
            continue
        found.append(Look(index, raw, tuple(images_in(raw)), sample))
    return found


def _first_ready(transform: Transform | None, seen: Sequence[Look], seed: int) -> Any:
    """A prepared sample; None where the transforms fail on all of them."""
    for look in seen:
        try:
            return _prepared(transform, look, seed)
        except Exception:  # counted and judged where training meets it
            continue
    return None


def _prepared(transform: Transform | None, look: Look, seed: int) -> Any:
    own, ticket = own_generator(transform), ticket_seed(seed, 0, look.index)
    seed_everything(ticket)
    if own is not None:
        own(ticket)
    return transform(look.sample) if transform is not None else look.sample


def _refusals(
    job: TrainingJob,
    config: TrainingConfig,
    seen: Sequence[Look],
    transform: Transform | None,
    dataset: Any,
) -> Mapping[str, str]:
    collates = "the job makes its batches itself" if job.collate is not None else ""
    unplanned = collates or _not_planned(dataset, transform)
    reasons = {
        "fast_decode": _no_files(seen),
        "scaled_decode": _not_scalable(seen, transform),
        "cache": _not_repeatable(dataset, seen),
        "cache_resized": _not_repeatable(dataset, seen) or _not_resizable(dataset, transform),
        "normalize_on_device": _not_normalizing(seen, transform, config.seed),
        "vectorized_collate": collates,
        "thread_loader": unplanned,
        "dali": unplanned or _no_files(seen),
        "shards": _no_files(seen) or _near(seen),
    }
    return {change: reason for change, reason in reasons.items() if reason}


def _not_planned(dataset: Any, transform: Transform | None) -> str:
    found = planned(dataset, transform, file_bytes)
    return found if isinstance(found, str) else ""


def _not_repeatable(dataset: Any, seen: Sequence[Look]) -> str:
    """Data sets that decode themselves may also augment, which must not be kept."""
    for look in seen[:REPEATS]:
        if look.files:
            continue
        if signature_of(dataset[look.index]) != signature_of(look.raw):
            return "the data set gives another sample each time; let transforms do what is random"
    return ""


def _not_resizable(dataset: Any, transform: Transform | None) -> str:
    found = resized_samples(dataset, transform, decode_with_pillow)
    return found if isinstance(found, str) else ""


def _resized_mb(transform: Transform | None, seen: Sequence[Look]) -> float:
    """Mean size of a sample after the leading resizing, 10^6 bytes."""
    steps = leading_steps(transform)
    return float(np.mean([_bytes(resized(look.sample, steps)) for look in seen])) / 1e6


def _near(seen: Sequence[Look]) -> str:
    """Why a copy of the files would be no nearer than they are."""
    folder = next(look.files[0] for look in seen if look.files).resolve()
    mounts = [
        (len(part.mountpoint), part.fstype)
        for part in psutil.disk_partitions(all=True)
        if folder.is_relative_to(part.mountpoint)
    ]
    kind = max(mounts, default=(0, ""))[1].lower()
    far = any(kind.startswith(name) for name in NETWORK_DISKS)
    return "" if far else f"the files are on a local disk ({kind or 'unknown'})"


def _no_files(seen: Sequence[Look]) -> str:
    if any(look.files for look in seen):
        return ""
    return "the job's data set decodes images itself; let it return paths of image files instead"


def _not_scalable(seen: Sequence[Look], transform: Transform | None) -> str:
    if reason := _no_files(seen):
        return reason
    if found_chain(transform) is None:
        return "no list of transforms can be found that says how large images must be"
    if any(_has_places(look) for look in seen):
        return "samples hold arrays beside the images, which may be places in pixels"
    return ""


def _has_places(look: Look) -> bool:
    """Whether a sample has parts that a smaller picture would make wrong."""
    parts = look.raw if isinstance(look.raw, tuple) else (look.raw,)
    return not all(isinstance(part, Path | str | int | float | np.generic) for part in parts)


def _not_normalizing(seen: Sequence[Look], transform: Transform | None, seed: int) -> str:
    split = split_normalization(transform)
    if isinstance(split, str):
        return split
    early, late = split

    def deferred(number: int) -> tuple[Any, Any]:
        inputs, target = _prepared(early, seen[number], seed)
        return late(inputs[None])[0], target

    compared = worst(
        lambda number: _prepared(transform, seen[number], seed), deferred, range(min(2, len(seen)))
    )
    if isinstance(compared, str):
        return compared
    if not compared.rounding:
        return "normalizing later gives other values, so something in between depends on it"
    return ""


def _scalable(transform: Transform | None, sizes: Sequence[tuple[int, int]]) -> float:
    chain = found_chain(transform)
    if chain is None or not sizes:
        return 1.0
    return float(np.median([source_fraction(chain.steps, size) for size in sizes]))


def _share(values: Sequence[bool]) -> float:
    return float(np.mean(values)) if values else 0.0


def _bytes(sample: Any) -> int:
    parts = sample.values() if isinstance(sample, dict) else sample
    parts = parts if isinstance(parts, tuple | list) or isinstance(sample, dict) else [parts]
    return sum(int(getattr(part, "nbytes", 8)) for part in parts)


def _median_size(sizes: Sequence[tuple[int, int]]) -> tuple[int, int] | None:
    if not sizes:
        return None
    height, width = np.median(np.asarray(sizes), axis=0)
    return int(height), int(width)


def _input_size(ready: Any) -> tuple[int, int] | None:
    first = ready[0] if isinstance(ready, tuple | list) and ready else None
    shape = tuple(int(size) for size in getattr(first, "shape", ()))
    return (shape[-2], shape[-1]) if len(shape) == 3 else None
