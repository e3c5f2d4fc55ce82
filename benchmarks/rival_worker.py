"""Streams a video through the `ultralytics` package, block by block. Runs in the rivals' venv.

    python rival_worker.py MODEL VIDEO '{"imgsz": 640}'

Reads ``{"frames": n, "warmup": n}`` per line and answers each with one line of JSON. The stream
goes on from block to block and starts again when the video ends.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any


def stream(model: Any, video: str, options: dict[str, Any]) -> Iterator[Any]:
    """Results without end, as the package's documentation says to stream a video."""
    while True:
        yield from model(video, stream=True, verbose=False, **options)


def block(results: Iterator[Any], frames: int, warmup: int) -> dict[str, float]:
    """Measure ``frames`` frames after ``warmup`` others."""
    for _ in range(warmup):
        next(results)
    boxes = 0
    cpu, began = time.process_time(), time.perf_counter()
    for _ in range(frames):
        boxes += len(next(results).boxes)
    wall_s = time.perf_counter() - began
    return {
        "fps": frames / wall_s,
        "core_ms": 1e3 * (time.process_time() - cpu) / frames,
        "boxes": boxes / frames,
    }


def serve() -> None:
    """Answer requests until the other side closes the pipe."""
    # What the package prints must not get into the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    from ultralytics import YOLO

    model, video, options = sys.argv[1:4]
    results = stream(YOLO(model, task="detect"), video, json.loads(options))
    for line in sys.stdin:
        answers.write(json.dumps(block(results, **json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve()
