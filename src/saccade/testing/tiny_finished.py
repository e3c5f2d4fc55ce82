"""A detector that suppresses its boxes itself, small enough to build in a test."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from saccade.models.description import BoxOutputs
from saccade.models.files import model_file
from saccade.pipeline.config import PipelineConfig
from saccade.testing.head_variants import nms_style
from saccade.testing.tiny_models import tiny_config, tiny_detector


def tiny_finished_config(folder: Path, **changes: Any) -> PipelineConfig:
    """A configuration of `saccade.testing.tiny_models.tiny_detector` with NMS in its graph.

    It gives as many rows of box, score and class as it finds boxes.

    Args:
        folder: an existing folder, into which the model is written.
        changes: fields of the configuration that differ from the naive ones.
    """
    path = folder / "tiny-finished.onnx"
    if not path.exists():
        path.write_bytes(nms_style(tiny_detector()).SerializeToString())
    base = tiny_config(folder)
    outputs = BoxOutputs(scores=0)
    description = replace(base.description, decode="nms_inside", outputs=outputs)
    return replace(base, model=model_file(path), description=description, **changes)
