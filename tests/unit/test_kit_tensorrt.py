"""TensorRT in a kit: what can be checked without it."""

from __future__ import annotations

import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import make_inputs
from kit_script import REFERENCE, jetson_kit, run_script

from saccade.deploy.exports.trt_calibration import HEADER, cache_text
from saccade.deploy.kit.judge import rows
from saccade.deploy.kit.read import read_kit, read_measurements
from saccade.deploy.kit.record import KitCandidate
from saccade.deploy.kit.tensorrt_commands import build_command, build_script


@pytest.fixture(scope="module")
def jetson(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("jetson")
    return jetson_kit(make_inputs(folder), folder)


def test_the_commands_of_trtexec() -> None:
    candidate = KitCandidate(
        "onnx@tensorrt-int8", "onnx", "tensorrt", "int8",
        ("--int8", "--fp16", "--calib={kit}/calibration.cache"), 0.5, "onnx",
    )  # fmt: skip
    command = build_command(candidate, "models/onnx.onnx")
    for flag in (
        '--onnx="$KIT/models/onnx.onnx"',
        "--int8 --fp16 --calib=$KIT/calibration.cache",
        '--timingCacheFile="$KIT/engines/timing.cache"',
        '--saveEngine="$KIT/engines/onnx-at-tensorrt-int8.engine"',
    ):
        assert flag in command
    files = {"onnx": {"paths": ["models/onnx.onnx"]}}
    text = build_script([candidate], files, "images", (640, 640))
    assert "--minShapes=images:1x3x320x320 --optShapes=images:1x3x640x640" in text
    assert "TRT-$VERSION-" in text
    assert "--minShapes" not in build_script([candidate], files, None, (640, 640))
    subprocess.run(["sh", "-n"], input=text, text=True, check=True)


def test_the_calibration_cache_is_in_tensorrts_format() -> None:
    """A step of 0.0208 is written as in caches that TensorRT wrote: ``input: 3caa54fc``."""
    (step,) = np.frombuffer(bytes.fromhex("3caa54fc"), ">f4")
    assert cache_text({"input": float(step) * 127}) == f"{HEADER}\ninput: 3caa54fc\n"


STAND_IN = '''#!{python}
"""Writes what trtexec writes, by its sampleReporting.cpp; it computes nothing."""
import json, pathlib, sys
import numpy as np
given = dict(a.partition("=")[::2] for a in sys.argv[1:])
folder = pathlib.Path({kit!r})
if "--saveEngine" in given:
    pathlib.Path(given["--saveEngine"]).write_bytes(b"engine")
if "--exportOutput" in given:
    raw = pathlib.Path(given["--loadInputs"].partition(":")[2]).read_bytes()
    frames = sorted((folder / "frames").glob("*.npy"))
    frame = next(i for i, p in enumerate(frames) if np.load(p).tobytes() == raw)
    out = np.load(folder / "expected" / "onnx.npz")[f"{{frame}}_0"]
    entry = {{"name": "output0", "dimensions": "x".join(map(str, out.shape))}}
    entry["values"] = out.ravel().tolist()
    pathlib.Path(given["--exportOutput"]).write_text(json.dumps([entry]))
if "--exportTimes" in given:
    rows = [{{"startComputeMs": 50.0 * i, "latencyMs": 5.0}} for i in range(20)]
    pathlib.Path(given["--exportTimes"]).write_text(json.dumps(rows))
'''


def test_a_device_without_the_reference_takes_the_next_float_candidate(
    jetson: Path, tmp_path: Path
) -> None:
    kit = read_kit(jetson)
    assert kit.document["reference"] == "onnx@tensorrt-fp32"
    assert (jetson / "build_tensorrt.sh").is_file()
    names = (jetson / "calibration.cache").read_text("utf-8").splitlines()
    assert names[0] == HEADER
    assert any(line.startswith("images: ") for line in names)
    only = ("--only", REFERENCE, "onnx@tensorrt-fp16")
    run_script(jetson, tmp_path / "m.json", "--rounds", "3", "--seconds", "0.01", *only)
    found = read_measurements(tmp_path / "m.json")
    assert found.reference == REFERENCE
    assert "tensorrt is not installed" in found.candidates["onnx@tensorrt-fp16"]["reason"]
    by_name = {row.id: row for row in rows(kit, found, "latency")}
    assert by_name[REFERENCE].counts
    assert by_name["onnx@tensorrt-fp16"].status == "skipped"


def test_trtexec_is_driven_and_read_as_documented(jetson: Path, tmp_path: Path) -> None:
    kit = shutil.copytree(jetson, tmp_path / "kit")
    tool = tmp_path / "trtexec"
    tool.write_text(STAND_IN.format(python=sys.executable, kit=str(kit)), encoding="utf-8")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    only = ("--only", REFERENCE, "onnx@tensorrt-fp32", "--trtexec", str(tool))
    run_script(kit, tmp_path / "m.json", "--rounds", "3", "--seconds", "0.01", *only)
    found = read_measurements(tmp_path / "m.json")
    entry = found.candidates["onnx@tensorrt-fp32"]
    assert (entry["status"], entry["error"]) == ("measured", 0.0)
    blocks = [b.block for b in found.blocks if b.candidate == "onnx@tensorrt-fp32"]
    assert len(blocks) == 3
    # The first 200 ms are warm-up: four entries of twenty.
    assert {len(block.latency_ms) for block in blocks} == {16}
    assert {len(block.warmup_s) for block in blocks} == {4}
