"""TensorRT in a kit: what can be checked without it."""

from __future__ import annotations

import os
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


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--workspace=N --buildOnly", "--buildOnly --workspace=512"),
        ("--workspace=N --memPoolSize=poolspec --buildOnly", "--buildOnly"),
        ("--memPoolSize=poolspec --skipInference", "--skipInference"),
    ],
    ids=["8.2", "8.5", "10"],
)
def test_the_build_script_asks_as_the_devices_version_wants(
    tmp_path: Path, options: str, expected: str
) -> None:
    """Run as on the device; one candidate that is refused does not stop the others."""
    candidates = [
        KitCandidate(f"onnx@tensorrt-{p}", "onnx", "tensorrt", p, (f"--{p}",), 0.5, "onnx")
        for p in ("int8", "fp16")
    ]
    files = {"onnx": {"paths": ["models/onnx.onnx"]}}
    script = tmp_path / "build_tensorrt.sh"
    script.write_text(build_script(candidates, files, None, (64, 64)), encoding="utf-8")
    tool = tmp_path / "trtexec"
    tool.write_text(
        f"""#!/bin/sh
[ "$1" != --help ] || {{ echo "[TensorRT v8201] {options}"; exit 0; }}
echo "$*" >> {tmp_path}/asked
case "$*" in *--int8*) exit 1 ;; esac
""",
        encoding="utf-8",
    )
    tool.chmod(0o755)
    done = subprocess.run(
        ["sh", str(script)],
        env={"PATH": "/usr/bin:/bin", "TRTEXEC": str(tool)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == "onnx@tensorrt-int8: no engine\n"
    asked = (tmp_path / "asked").read_text().splitlines()
    assert len(asked) == 2
    for line, precision in zip(asked, ("int8", "fp16"), strict=True):
        assert line == (
            f"--onnx={tmp_path}/models/onnx.onnx --{precision} "
            f"--timingCacheFile={tmp_path}/engines/timing.cache {expected} "
            f"--saveEngine={tmp_path}/engines/onnx-at-tensorrt-{precision}.engine"
        )


def test_the_build_script_says_where_trtexec_is_missing(tmp_path: Path) -> None:
    script = tmp_path / "build_tensorrt.sh"
    script.write_text(build_script([], {}, None, (64, 64)), encoding="utf-8")
    done = subprocess.run(
        ["sh", str(script)],
        env={"PATH": "/usr/bin:/bin", "TRTEXEC": str(tmp_path / "absent")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "set TRTEXEC to its path" in done.stderr


def test_the_calibration_cache_is_in_tensorrts_format() -> None:
    """A step of 0.0208 is written as in caches that TensorRT wrote: ``input: 3caa54fc``."""
    (step,) = np.frombuffer(bytes.fromhex("3caa54fc"), ">f4")
    assert cache_text({"input": float(step) * 127}) == f"{HEADER}\ninput: 3caa54fc\n"


STAND_IN = '''#!{python}
"""Writes what trtexec writes, by its sampleReporting.cpp; it computes nothing."""
import json, pathlib, sys
import numpy as np
if sys.argv[1:] == ["--help"]:
    sys.exit("[TensorRT v8201] --workspace=N --buildOnly")
given = dict(a.partition("=")[::2] for a in sys.argv[1:])
if "--skipInference" in given:
    sys.exit("[E] Unknown option: --skipInference")
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


@pytest.mark.parametrize("named", [True, False], ids=["named", "found on the PATH"])
def test_trtexec_is_driven_and_read_as_documented(
    jetson: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    kit = shutil.copytree(jetson, tmp_path / "kit")
    tool = tmp_path / "trtexec"
    tool.write_text(STAND_IN.format(python=sys.executable, kit=str(kit)), encoding="utf-8")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    only = ("--only", REFERENCE, "onnx@tensorrt-fp32")
    if named:
        monkeypatch.undo()
        only = (*only, "--trtexec", str(tool))
    run_script(kit, tmp_path / "m.json", "--rounds", "3", "--seconds", "0.01", *only)
    found = read_measurements(tmp_path / "m.json")
    entry = found.candidates["onnx@tensorrt-fp32"]
    assert (entry["status"], entry["error"]) == ("measured", 0.0)
    blocks = [b.block for b in found.blocks if b.candidate == "onnx@tensorrt-fp32"]
    assert len(blocks) == 3
    # The first 200 ms are warm-up: four entries of twenty.
    assert {len(block.latency_ms) for block in blocks} == {16}
    assert {len(block.warmup_s) for block in blocks} == {4}
