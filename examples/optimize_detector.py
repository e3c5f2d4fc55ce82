"""Optimize a detector through the Python API, and run what comes out.

    pip install -e '.[demo]'                    # YOLO11n (AGPL-3.0) and a city video
    python examples/optimize_detector.py        # about four minutes on two cores
    python examples/optimize_detector.py --model yours.onnx --video yours.mp4

The run folder keeps everything that was tried; the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import saccade
from saccade.playbook.demo import demo_spec
from saccade.progress import SilentProgress

# What has to be reached. A drop is one against the model as it is now; without labels, agreement
# with its own answers stands in for accuracy.
GOALS = ["throughput_fps>=30", "agreement_drop<=0.1"]


def main() -> None:
    """Optimize, say what was kept and what was not, and look at a few frames."""
    asked = arguments()
    model, video = asked.model, asked.video
    if model is None or video is None:
        demo = demo_spec(Path(asked.out), asked.budget, SilentProgress())
        model, video = model or demo.model, video or demo.video

    # Every setting of a spec file (`saccade init` writes one) may be given here.
    study = saccade.optimize(
        model=model, video=video, goals=GOALS, budget=asked.budget, out=asked.out
    )
    print(f"goals: {study.status}")
    for trial in study.trials:
        # Nothing is lost: what did not pay is here with its reason.
        print(f"  {'kept' if trial.kept else 'not kept'}: {trial.change} ({trial.reason})")

    # What is deployed is the bundle. It needs nothing else from the run folder.
    bundle = saccade.Bundle.open(asked.out)
    print(f"bundle: {bundle.folder}, {bundle.speedup or 'not compared'} times the baseline")
    with bundle.load(score_threshold=0.4) as pipeline:
        # A stream is read in constant memory; a single image is `pipeline("image.jpg")`.
        for number, found in enumerate(itertools.islice(pipeline.stream(video), 3)):
            names = [pipeline.config.description.class_names[i] for i in found.class_ids]
            print(f"frame {number}: {len(found.boxes)} objects {sorted(set(names))}")
    print(f"report: {study.report()}")


def arguments() -> argparse.Namespace:
    """Which model on which video, for how long."""
    parser = argparse.ArgumentParser(description="Optimize a detector and run the bundle.")
    parser.add_argument("--model", help="an .onnx file; by default the demo's YOLO11n")
    parser.add_argument("--video", help="by default the demo's city walk in 1080p")
    parser.add_argument("--budget", default="2m", help="time for the search")
    parser.add_argument("--out", default="runs/example", help="the run folder")
    return parser.parse_args()


if __name__ == "__main__":  # workers import this file, and must not optimize as well
    main()
