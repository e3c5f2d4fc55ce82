"""Write the tracks of a running pipeline into a MOTChallenge text file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TextIO

from saccade.data.mot_text import written_rows
from saccade.errors import DataError
from saccade.pipeline.pipeline import Pipeline
from saccade.pipeline.system_pipeline import SystemPipeline
from saccade.study import storage_errors
from saccade.tasks.results import DetectionResult
from saccade.tasks.tracks import ids_of


class TrackWriter(Protocol):
    """Takes the results of a stream, frame by frame."""

    def write(self, frame: int, result: DetectionResult) -> None:
        """Add the tracks of a frame, counted from 0."""
        ...


class _TrackFile:
    def __init__(self, path: Path, file: TextIO) -> None:
        self._path = path
        self._file = file

    def write(self, frame: int, result: DetectionResult) -> None:
        lines = written_rows(frame, ids_of(result), result.boxes, result.scores)
        with storage_errors(self._path):
            self._file.writelines(lines)


@contextmanager
def open_tracks(pipeline: Pipeline | SystemPipeline, path: Path) -> Iterator[TrackWriter]:
    """A file that takes the tracks of one stream; its frames are counted from 1, as the format has.

    Raises:
        DataError: the pipeline does not track.
        StorageError: the file cannot be written.
    """
    if not pipeline.tracks:
        raise DataError(
            "--mot writes tracks, but this bundle does not track. Optimize one "
            "with --task tracking."
        )
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w", encoding="utf-8")
    with file:
        yield _TrackFile(path, file)
