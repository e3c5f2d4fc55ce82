"""A slow preprocessing stage planted into a real pipeline on real video is named."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from saccade.diagnose.diagnose import diagnose
from saccade.models.onnx_model import describe
from saccade.pipeline.config import ModelFile, PipelineConfig, RuntimeOptions
from saccade.profile.profiler import Profiler
from saccade.profile.records import Roofline
from saccade.profile.trace import write_trace

pytestmark = pytest.mark.alone


@pytest.mark.realdata
@pytest.mark.demo_model
def test_planted_slow_preprocessing_is_the_first_finding(
    data_root: Path, yolo11n: Path, tmp_path: Path
) -> None:
    description = describe(yolo11n)
    config = PipelineConfig(
        task="detection",
        model=ModelFile(str(yolo11n), hashlib.sha256(yolo11n.read_bytes()).hexdigest()),
        description=description,
        # Small, so that the planted 25 ms of CPU time are most of the frame on any machine.
        input_size=160,
        iou_threshold=description.iou_threshold,
        options=RuntimeOptions(threads=1),
        nms="vectorized",
        preprocessor="saccade.testing.planted:SlowPreprocessor",
    )
    video = data_root / "video" / "TUD-Campus"
    source = next(path for path in sorted(video.rglob("*.mp4")))
    profile = Profiler(str(source), frames=8).profile(config)
    profile = replace(profile, roofline=Roofline({"fp32": 100.0}, 10.0))
    assert diagnose(profile)[0].name == "preprocess_bound"
    assert profile.stage("preprocess").cpu_ms >= 25
    write_trace(tmp_path / "trace.json", profile)
    assert json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
