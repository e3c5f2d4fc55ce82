"""Run a bundle on a source and, where asked, draw the results into a video or a folder."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from saccade.data.contract import DataProblem
from saccade.data.images import (
    VIDEO_SUFFIXES,
    display_path,
    is_image_name,
    read_image,
    walk_images,
)
from saccade.data.video import is_live, probe_video
from saccade.deploy.track_file import open_tracks
from saccade.errors import DataError
from saccade.looks import Look, counted, shares
from saccade.pipeline.engine import Emission
from saccade.pipeline.pipeline import Pipeline
from saccade.pipeline.system_pipeline import SystemPipeline
from saccade.stream_address import without_password
from saccade.study import storage_errors

DEFAULT_FPS = 25


class Canvas(Protocol):
    """Where drawn frames go."""

    def write(self, rgb: NDArray[np.uint8], name: str) -> None:
        """Add one RGB ``(H, W, 3)`` frame; ``name`` may hold folders, relative to the source."""
        ...

    def close(self) -> None:
        """Finish the file."""
        ...


@dataclass
class Tally:
    """Counts of one run; constant in size however long the stream is."""

    frames: int = 0
    objects: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    looks: Counter[str] = field(default_factory=Counter)

    def add(self, found: Sequence[int], names: tuple[str, ...], look: Look | None = None) -> None:
        """Count one frame by the class ids of what was found in it, and by how it was looked at."""
        self.frames += 1
        self.looks.update(counted([look]))
        self.objects += len(found)
        for class_id in found:
            self.classes[names[class_id] if class_id < len(names) else str(class_id)] += 1


def run_source(
    pipeline: Pipeline | SystemPipeline,
    source: str,
    save: Path | None,
    limit: int | None,
    mot: Path | None = None,
) -> dict[str, Any]:
    """Run ``pipeline`` over ``source`` and return a JSON-ready summary.

    Args:
        pipeline: what runs.
        source: video, image, folder, URL or camera.
        save: where drawn frames go; a folder for images is new or empty.
        limit: stop after so many frames.
        mot: where tracks go, as a MOTChallenge text file.

    Raises:
        DataError: the source cannot be read, ``save`` or ``mot`` would overwrite something, or
            ``mot`` is given for a pipeline that does not track.
        KeyboardInterrupt: before the end of a source that has one; it is how a live one ends.
        StorageError: the result cannot be written.
    """
    if save is not None:
        refuse_to_overwrite(source, save)
    if mot is not None:
        refuse_to_overwrite(source, mot, "--mot")
    tally, began = Tally(), time.perf_counter()
    names = pipeline.class_names
    with ExitStack() as open_files:
        canvas = open_canvas(source, save) if save is not None else None
        if canvas is not None:
            open_files.callback(canvas.close)
        tracks = open_files.enter_context(open_tracks(pipeline, mot)) if mot is not None else None
        open_files.enter_context(_ended_by_hand(source))
        for name, rgb, result, look in _results(pipeline, source, canvas is not None):
            if tracks is not None:
                tracks.write(tally.frames, result)
            tally.add(pipeline.classes_in(result), names, look)
            if canvas is not None and rgb is not None:
                canvas.write(pipeline.draw(rgb, result), name)
            if limit is not None and tally.frames >= limit:
                break
    wall_s = time.perf_counter() - began
    counts = Counter((problem.kind, problem.action) for problem in pipeline.problems)
    return {
        "source": without_password(source),
        "frames": tally.frames,
        "objects": tally.objects,
        "classes": dict(tally.classes.most_common()),
        "looks": shares([tally.looks]),
        "wall_s": wall_s,
        "fps": tally.frames / wall_s if wall_s else 0.0,
        "saved": str(save) if save else None,
        "tracks": str(mot) if mot else None,
        "problems": [
            {"kind": kind, "action": action, "count": count}
            for (kind, action), count in counts.items()
        ],
    }


@contextmanager
def _ended_by_hand(source: str) -> Iterator[None]:
    """Ctrl-C is the end of a live source, which has no other."""
    try:
        yield
    except KeyboardInterrupt:
        if not is_live(source):
            raise


def _results(
    pipeline: Pipeline | SystemPipeline, source: str, keep: bool
) -> Iterator[tuple[str, NDArray[np.uint8] | None, Any, Look | None]]:
    """Name, pixels where they are kept, result and look of every frame; images without look."""
    # Tracked images are frames in a row; others have nothing to do with each other.
    in_a_row = pipeline.tracks and Path(source).is_dir()
    if holds_images(source) and not in_a_row:
        for name, pixels, result in _image_results(pipeline, Path(source)):
            yield name, pixels, result, None
        return
    emission: Emission
    for emission in pipeline.emissions(source, keep_frames=keep):
        rgb = emission.frame.rgb() if emission.frame is not None else None
        yield f"{emission.index:06d}.jpg", rgb, emission.result, emission.look


def _image_results(
    pipeline: Pipeline | SystemPipeline, source: Path
) -> Iterator[tuple[str, NDArray[np.uint8], Any]]:
    """Every readable image; in a folder, one that is not is a problem and no reason to stop."""
    if not source.is_dir():
        pixels = read_image(source)
        yield source.name, pixels, pipeline(pixels)
        return
    usable = False
    for path in sorted(walk_images(source)):
        try:
            pixels = read_image(path)
        except DataError as error:
            problem = DataProblem("unreadable_image", display_path(path), str(error), "skipped")
            pipeline.problems.append(problem)
            continue
        usable = True
        yield str(path.relative_to(source)), pixels, pipeline(pixels)
    if not usable:
        raise DataError(
            f"There is no readable image in '{display_path(source)}'. Expected complete JPEG, PNG "
            f"or similar files.{_video_hint(source)}"
        )


def _video_hint(folder: Path) -> str:
    """Where a folder holds a video, its name: that is what was meant."""
    videos = sorted(p for p in folder.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES)
    return f" For the video in it, give its path: {display_path(videos[0])}." if videos else ""


def holds_images(source: str) -> bool:
    """Whether a source is an image or a folder of images, and not a video."""
    return not is_live(source) and (Path(source).is_dir() or is_image_name(Path(source).name))


def refuse_to_overwrite(source: str, target: Path, option: str = "--save") -> None:
    """Nothing that exists is written over, and nothing is put into a folder that is read.

    Raises:
        DataError: it would be.
    """
    origin = Path(source).resolve()
    # A drawn image keeps its name, so a folder may hold one of that name.
    if target.is_dir() and origin.is_file() and holds_images(source):
        target /= origin.name
    there = target.resolve()
    if not is_live(source) and origin.exists() and origin in (there, *there.parents):
        raise DataError(
            f"{option} '{target}' would write over the source '{source}'. Choose another place."
        )
    if target.is_file() or (holds_images(source) and target.is_dir() and any(target.iterdir())):
        raise DataError(
            f"{option} '{target}' exists and was left alone. Choose another place, or remove it."
        )


def open_canvas(source: str, save: Path) -> Canvas:
    """A video for a video, a folder for images.

    Raises:
        DataError: ``save`` cannot be that.
    """
    if holds_images(source):
        return FolderCanvas(save, single=not Path(source).is_dir())
    fps = probe_video(source).fps or DEFAULT_FPS
    return VideoCanvas(save, Fraction(fps).limit_denominator(1001))


class FolderCanvas:
    """Drawn images in a folder; a single image may also go into a file.

    Raises:
        DataError: ``path`` is or names a file, where a folder is needed.
    """

    def __init__(self, path: Path, single: bool) -> None:
        names_file = is_image_name(path.name) and not path.is_dir()
        self._file = path if single and names_file else None
        self._folder = path.parent if self._file else path
        if not self._file and (names_file or path.is_file()):
            raise DataError(
                f"--save '{path}' is no folder. Expected the name of a folder for drawn images."
            )
        # The folder is made with its first image: a source that cannot be read leaves none behind.

    def write(self, rgb: NDArray[np.uint8], name: str) -> None:
        """Write one image."""
        from PIL import Image

        target = self._file or self._folder / name
        with storage_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rgb).save(target)

    def close(self) -> None:
        """Nothing is left open."""


class VideoCanvas:
    """An H.264 video, written frame by frame."""

    def __init__(self, path: Path, fps: Fraction) -> None:
        import av

        self._av = av
        self._path = path
        with self._guarded():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._container = av.open(str(path), "w")
            self._stream = self._container.add_stream("libx264", rate=fps)
            self._stream.pix_fmt = "yuv420p"
            self._stream.options = {"preset": "veryfast", "crf": "23"}
        self._sized = False

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """What FFmpeg says about the disk as `StorageError`, about the file as `DataError`."""
        try:
            with storage_errors(self._path):
                yield
        except (ValueError, self._av.error.FFmpegError) as error:
            raise DataError(
                f"'{self._path}' cannot be written as a video ({error}). Expected a name such as "
                "out.mp4."
            ) from None

    def write(self, rgb: NDArray[np.uint8], name: str) -> None:
        """Encode one frame; 4:2:0 video has even sides, so an odd last row or column is cut."""
        height, width = (side - side % 2 for side in rgb.shape[:2])
        if not self._sized:
            self._stream.height, self._stream.width = height, width
            self._sized = True
        pixels = np.ascontiguousarray(rgb[:height, :width])
        frame = self._av.VideoFrame.from_ndarray(pixels, format="rgb24")
        with self._guarded():
            self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Flush the encoder and close the file; one without a frame is no video and goes away."""
        with self._guarded():
            try:
                if self._sized:
                    self._container.mux(self._stream.encode())
            finally:
                self._container.close()
        if not self._sized:
            self._path.unlink(missing_ok=True)
