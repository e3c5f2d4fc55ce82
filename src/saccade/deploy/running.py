"""Run a bundle on a source and, where asked, draw the results into a video or a folder."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from saccade.data.images import is_image_name, read_image, walk_images
from saccade.data.video import is_live, probe_video
from saccade.errors import DataError
from saccade.pipeline.engine import Emission
from saccade.pipeline.pipeline import Pipeline
from saccade.study import storage_errors

DEFAULT_FPS = 25


class Canvas(Protocol):
    """Where drawn frames go."""

    def write(self, rgb: NDArray[np.uint8], name: str) -> None:
        """Add one RGB ``(H, W, 3)`` frame."""
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

    def add(self, result: Any, names: tuple[str, ...]) -> None:
        """Count one frame."""
        self.frames += 1
        self.objects += len(result)
        for class_id in result.class_ids:
            self.classes[names[class_id] if class_id < len(names) else str(class_id)] += 1


def run_source(
    pipeline: Pipeline, source: str, save: Path | None, limit: int | None
) -> dict[str, Any]:
    """Run ``pipeline`` over ``source`` and return a JSON-ready summary.

    Raises:
        DataError: the source cannot be read, or ``save`` would overwrite it.
        StorageError: the result cannot be written.
    """
    if save is not None:
        refuse_to_overwrite(source, save)
    tally, began = Tally(), time.perf_counter()
    names = pipeline.config.description.class_names
    canvas = open_canvas(source, save) if save is not None else None
    try:
        for name, rgb, result in _results(pipeline, source, canvas is not None):
            tally.add(result, names)
            if canvas is not None and rgb is not None:
                canvas.write(pipeline.draw(rgb, result), name)
            if limit is not None and tally.frames >= limit:
                break
    finally:
        if canvas is not None:
            canvas.close()
    wall_s = time.perf_counter() - began
    counts = Counter((problem.kind, problem.action) for problem in pipeline.problems)
    return {
        "source": source,
        "frames": tally.frames,
        "objects": tally.objects,
        "classes": dict(tally.classes.most_common()),
        "wall_s": wall_s,
        "fps": tally.frames / wall_s if wall_s else 0.0,
        "saved": str(save) if save else None,
        "problems": [
            {"kind": kind, "action": action, "count": count}
            for (kind, action), count in counts.items()
        ],
    }


def _results(
    pipeline: Pipeline, source: str, keep: bool
) -> Iterator[tuple[str, NDArray[np.uint8] | None, Any]]:
    """Name, pixels where they are kept, and result of every frame or image."""
    if not is_live(source) and (Path(source).is_dir() or is_image_name(Path(source).name)):
        paths = sorted(walk_images(Path(source))) if Path(source).is_dir() else [Path(source)]
        if not paths:
            raise DataError(
                f"There is no image in '{source}'. Expected JPEG, PNG or similar files."
            )
        for path in paths:
            pixels = read_image(path)
            yield path.name, pixels, pipeline(pixels)
        return
    emission: Emission
    for emission in pipeline.emissions(source, keep_frames=keep):
        rgb = emission.frame.rgb() if emission.frame is not None else None
        yield f"{emission.index:06d}", rgb, emission.result


def refuse_to_overwrite(source: str, save: Path) -> None:
    """The source itself must not be written over.

    Raises:
        DataError: it would be.
    """
    there = not is_live(source) and Path(source).exists() and save.exists()
    if there and Path(source).samefile(save):
        raise DataError(f"--save '{save}' is the source itself. Choose another file.")


def open_canvas(source: str, save: Path) -> Canvas:
    """A video for a video, a folder for images."""
    if not is_live(source) and (Path(source).is_dir() or is_image_name(Path(source).name)):
        return FolderCanvas(save)
    fps = probe_video(source).fps or DEFAULT_FPS
    return VideoCanvas(save, Fraction(fps).limit_denominator(1000))


class FolderCanvas:
    """Drawn images in a folder, or in one file where ``path`` names an image."""

    def __init__(self, path: Path) -> None:
        self._file = path if is_image_name(path.name) else None
        self._folder = path.parent if self._file else path
        with storage_errors(path):
            self._folder.mkdir(parents=True, exist_ok=True)

    def write(self, rgb: NDArray[np.uint8], name: str) -> None:
        """Write one image."""
        from PIL import Image

        target = self._file or self._folder / name
        with storage_errors(target):
            Image.fromarray(rgb).save(target)

    def close(self) -> None:
        """Nothing is left open."""


class VideoCanvas:
    """An H.264 video, written frame by frame."""

    def __init__(self, path: Path, fps: Fraction) -> None:
        import av

        self._av = av
        try:
            with storage_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                self._container = av.open(str(path), "w")
        except (ValueError, av.error.FFmpegError) as error:
            raise DataError(
                f"'{path}' cannot be written as a video ({error}). Expected a name such as out.mp4."
            ) from None
        self._stream = self._container.add_stream("libx264", rate=fps)
        self._stream.pix_fmt = "yuv420p"
        self._stream.options = {"preset": "veryfast", "crf": "23"}
        self._sized = False

    def write(self, rgb: NDArray[np.uint8], name: str) -> None:
        """Encode one frame; 4:2:0 video has even sides, so an odd last row or column is cut."""
        height, width = (side - side % 2 for side in rgb.shape[:2])
        if not self._sized:
            self._stream.height, self._stream.width = height, width
            self._sized = True
        pixels = np.ascontiguousarray(rgb[:height, :width])
        frame = self._av.VideoFrame.from_ndarray(pixels, format="rgb24")
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Flush the encoder and close the file."""
        if self._sized:
            self._container.mux(self._stream.encode())
        self._container.close()
