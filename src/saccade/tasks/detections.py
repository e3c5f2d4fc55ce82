"""`Detections`: what one system found on every image of a dataset, and its file."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.data.outlines import Outline
from saccade.errors import DataError, StorageError

_FORMAT_VERSION = 1


@dataclass(frozen=True, eq=False)
class Detections:
    """Detections per image, in the order of the dataset's images.

    Attributes:
        boxes: per image ``(N, 4)`` float32, xyxy pixels of the original image.
        scores: per image ``(N,)`` float32, 0-1.
        class_ids: per image ``(N,)`` int64.
        outlines: per image N outlines; None where the task has no masks.
    """

    boxes: tuple[NDArray[np.float32], ...]
    scores: tuple[NDArray[np.float32], ...]
    class_ids: tuple[NDArray[np.int64], ...]
    outlines: tuple[tuple[Outline, ...], ...] | None = None

    def __post_init__(self) -> None:
        if not len(self.boxes) == len(self.scores) == len(self.class_ids):
            raise ValueError("boxes, scores and class_ids must have one entry per image each")
        for boxes, scores, class_ids in zip(self.boxes, self.scores, self.class_ids, strict=True):
            count = len(scores)
            if boxes.shape != (count, 4) or scores.shape != (count,) or class_ids.shape != (count,):
                raise ValueError(
                    f"an image has boxes {boxes.shape}, scores {scores.shape} and class_ids "
                    f"{class_ids.shape}; expected (N, 4), (N,) and (N,) with one N"
                )
        if self.outlines is not None and list(map(len, self.outlines)) != list(
            map(len, self.scores)
        ):
            raise ValueError("every box needs one outline where there are outlines")

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def of(
        cls,
        images: Iterable[tuple[Any, Any, Any]],
        outlines: Iterable[Sequence[Outline]] | None = None,
    ) -> Detections:
        """From one ``(boxes, scores, class_ids)`` per image, converted to the types above."""
        rows = list(images)
        return cls(
            boxes=tuple(np.asarray(b, np.float32).reshape(-1, 4) for b, _, _ in rows),
            scores=tuple(np.asarray(s, np.float32).reshape(-1) for _, s, _ in rows),
            class_ids=tuple(np.asarray(c, np.int64).reshape(-1) for _, _, c in rows),
            outlines=None if outlines is None else tuple(map(tuple, outlines)),
        )

    def above(self, score: float) -> Detections:
        """Only the detections that score at least ``score``."""
        keep = [s >= score for s in self.scores]
        outlines = None
        if self.outlines is not None:
            outlines = tuple(
                tuple(o[i] for i in np.flatnonzero(k))
                for o, k in zip(self.outlines, keep, strict=True)
            )
        return Detections(
            boxes=tuple(b[k] for b, k in zip(self.boxes, keep, strict=True)),
            scores=tuple(s[k] for s, k in zip(self.scores, keep, strict=True)),
            class_ids=tuple(c[k] for c, k in zip(self.class_ids, keep, strict=True)),
            outlines=outlines,
        )

    def save(self, path: Path) -> None:
        """Write one ``.npz`` without outlines; it appears whole or not at all.

        It replaces nothing.

        Raises:
            StorageError: the file exists already or cannot be written.
        """
        if path.exists():
            raise StorageError(f"{path} exists already. Choose another name or move it away.")
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            with partial.open("xb") as file:
                np.savez(
                    file,
                    version=np.int64(_FORMAT_VERSION),
                    counts=np.array([len(s) for s in self.scores], np.int64),
                    boxes=_joined(self.boxes, np.zeros((0, 4), np.float32)),
                    scores=_joined(self.scores, np.zeros(0, np.float32)),
                    class_ids=_joined(self.class_ids, np.zeros(0, np.int64)),
                )
            partial.rename(path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise StorageError(
                f"{path} cannot be written ({error.strerror or error}). "
                "Check free space and permissions of its folder."
            ) from error

    @classmethod
    def load(cls, path: Path) -> Detections:
        """Read what `save` wrote.

        Raises:
            DataError: the file is missing, or is not a file of detections.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                if int(file["version"]) != _FORMAT_VERSION:
                    raise ValueError(f"format version {int(file['version'])} is not known")
                cuts = np.cumsum(file["counts"])[:-1]
                return cls(
                    boxes=_parts(file["boxes"], cuts, len(file["counts"])),
                    scores=_parts(file["scores"], cuts, len(file["counts"])),
                    class_ids=_parts(file["class_ids"], cuts, len(file["counts"])),
                )
        except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise DataError(
                f"{path} cannot be read as detections ({error}). Expected a file written by "
                "saccade; delete it to have the detections made again."
            ) from error


def _joined(parts: Sequence[NDArray[Any]], empty: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([empty, *parts])


def _parts(joined: NDArray[Any], cuts: NDArray[np.int64], images: int) -> tuple[NDArray[Any], ...]:
    return tuple(np.split(joined, cuts)) if images else ()
