"""Kits for phones, small boards and the Edge TPU: what is in them, and that it measures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Cli, document
from tiny_system import write_labels

from saccade.data.assemble import unlabelled_image
from saccade.deploy.exports import phones
from saccade.deploy.exports.contract import ExportRequest
from saccade.deploy.exports.executorch_program import ExecuTorchProgram
from saccade.deploy.kit import edgetpu
from saccade.deploy.kit.read import read_kit, read_measurements
from saccade.deploy.kit.write import KitContents, write_kit
from saccade.models.conversions.contract import ConversionRequest
from saccade.models.conversions.onnx_to_ncnn import OnnxToNcnn
from saccade.models.conversions.torch_to_onnx import TorchToOnnx
from saccade.models.files import model_file
from saccade.optimize.quantization.calibration import CalibrationData, calibration_tensors
from saccade.pipeline.config import ModelFile
from saccade.pipeline.pipeline import Pipeline
from saccade.playbook.estimates import estimate
from saccade.playbook.kit import make_files
from saccade.progress import SilentProgress
from saccade.targets.read import read_target, rules_of
from saccade.testing.runtime_conformance import tensor
from saccade.testing.tiny_models import SIZE, tiny_config, write_tiny

HOST = "tflite@litert-fp32"
EDGETPU = "tflite_full_integer@edgetpu-int8"


def by_hand(model: ModelFile, targets: Collection[str], request: ConversionRequest) -> ModelFile:
    """The tiny detector in a format, written as its converter would."""
    request.folder.mkdir(parents=True, exist_ok=True)
    (target,) = targets
    return model_file(write_tiny(target, request.folder, request.hw))


def asked(folder: Path, model: ModelFile) -> ExportRequest:
    """The tiny detector with images to calibrate on."""
    data = write_labels(folder / "data").parent / "images" / "val"
    images = tuple(unlabelled_image((path, 96, 128)) for path in sorted(data.iterdir()))
    config = tiny_config(folder, (SIZE, SIZE), model=model, input_size=SIZE)
    calibration = CalibrationData(images)
    (folder / "work").mkdir()
    tensors = tuple(calibration_tensors(config, calibration))
    return ExportRequest(config, (SIZE, SIZE), tensors, calibration, folder / "work")


def written(request: ExportRequest, target: str, out: Path) -> dict[str, Any]:
    """A kit of the request's model for a target."""
    estimates = estimate(Path(request.config.model.path), request.input_hw, target)
    files, left_out = make_files(request, estimates, SilentProgress())
    return write_kit(KitContents(request, files, left_out, target, estimates.document()), out)


@pytest.fixture(scope="module")
def coral(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kit for the Edge TPU, whose float file was not made by a converter."""
    pytest.importorskip("ai_edge_quantizer")
    folder = tmp_path_factory.mktemp("coral")
    request = asked(folder, model_file(write_tiny("onnx", folder, (SIZE, SIZE))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(phones, "why_no_conversion", lambda request, target: None)
        patch.setattr(phones, "converted", by_hand)
        written(request, "coral-edgetpu", folder / "kit")
    return folder / "kit"


def measured(kit: Path, out: Path, *only: str) -> Any:
    command = [sys.executable, "-I", str(kit / "measure.py"), "--out", str(out)]
    subprocess.run(
        [*command, "--rounds", "3", "--seconds", "0.01", *(("--only", *only) if only else ())],
        capture_output=True,
        check=True,
        timeout=300,
    )
    return read_measurements(out)


def test_a_coral_kit_compares_the_edge_tpu_with_its_host(coral: Path) -> None:
    found = json.loads((coral / "kit.json").read_text("utf-8"))
    assert {c["id"] for c in found["candidates"]} == {
        HOST,
        "tflite_int8@litert-int8",
        "tflite_full_integer@litert-int8",
        EDGETPU,
    }
    assert found["reference"] == HOST
    notes = " ".join(found["notes"])
    assert "operators are on Coral's list" in notes
    assert "about 8 MB are on the chip" in notes
    assert notes in " ".join((coral / "README.md").read_text("utf-8").replace("- ", "").split("\n"))


def test_the_compilers_command_is_exact(coral: Path, tmp_path: Path) -> None:
    """Run by a stand-in that writes down what it was asked."""
    script = coral / edgetpu.COMPILE_SCRIPT
    without = {**os.environ, "PATH": "/usr/bin:/bin"}
    said = subprocess.run([script], env=without, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stderr) == (1, "edgetpu_compiler is not installed\n")
    compiler = tmp_path / "edgetpu_compiler"
    compiler.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n', encoding="utf-8")
    compiler.chmod(0o755)
    here = {**os.environ, "PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run([script], env=here, capture_output=True, text=True, check=True)
    models = coral.resolve() / "models"
    assert done.stdout.splitlines() == [
        "--show_operations",
        "--out_dir",
        str(models),
        str(models / "tflite_full_integer.tflite"),
    ]


def test_a_coral_kit_measures_what_is_there(cli: Cli, coral: Path, tmp_path: Path) -> None:
    found = measured(coral, tmp_path / "m.json")
    assert found.candidates[EDGETPU]["status"] == "skipped"
    assert "run compile_edgetpu.sh on x86-64 Linux first" in found.candidates[EDGETPU]["reason"]
    assert found.candidates[HOST]["status"] == "measured"
    assert found.candidates[HOST]["error"] < 1e-3
    assert found.candidates["tflite_full_integer@litert-int8"]["status"] == "measured"
    flags = ("--measurements", tmp_path / "m.json", "--kit", coral, "--json")
    rows = document(cli("compare", *flags).out)["candidates"]
    by_name = {row["candidate"]: row for row in rows}
    assert by_name[HOST]["ratio"] == 1
    assert by_name[EDGETPU]["status"] == "skipped"


def test_without_libedgetpu_a_compiled_model_is_skipped(coral: Path, tmp_path: Path) -> None:
    compiled = coral / "models" / "tflite_full_integer_edgetpu.tflite"
    compiled.write_bytes((coral / "models" / "tflite_full_integer.tflite").read_bytes())
    try:
        found = measured(coral, tmp_path / "m.json")
    finally:
        compiled.unlink()
    assert found.candidates[EDGETPU]["status"] == "skipped"
    assert "libedgetpu.so.1 does not load" in found.candidates[EDGETPU]["reason"]


def test_the_first_operator_outside_the_list_is_named(
    coral: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, processor = coral / "models" / "tflite_full_integer.tflite", _tpu()
    assert edgetpu.operators(model)
    kinds = ["CONV_2D", "ADD", "GATHER_ND", "ADD"]
    monkeypatch.setattr(edgetpu, "operators", lambda path: kinds)
    said = edgetpu.edgetpu_notes(model, processor)[0]
    assert "2 of 4 operators come before GATHER_ND" in said


def test_operators_that_read_floats_are_named(coral: Path) -> None:
    said = edgetpu.edgetpu_notes(coral / "models" / "tflite.tflite", _tpu())[0]
    assert "still read floats" in said
    assert "CONV_2D" in said


def test_a_model_larger_than_the_chip_is_streamed(tmp_path: Path, coral: Path) -> None:
    large = tmp_path / "large.tflite"
    padding = np.zeros(9_000_000, np.uint8).tobytes()
    large.write_bytes((coral / "models" / "tflite.tflite").read_bytes() + padding)
    said = edgetpu.edgetpu_notes(large, _tpu())[1]
    assert "what does not fit is sent over the bus with every inference" in said


def _tpu() -> Any:
    return read_target("coral-edgetpu").processor_of("edgetpu")


def test_both_forms_of_corals_list_agree() -> None:
    """Every ONNX operator becomes one that is on the list of .tflite names."""
    rules = rules_of("edgetpu")
    assert {"CONV_2D", "QUANTIZE", "TRANSPOSE_CONV"} <= rules.only_tflite
    spelled = {name.replace("_", "").lower() for name in rules.only_tflite}
    named = {part.strip() for text in rules.only.values() for part in text.split(",")}
    assert {name for name in named if " " not in name and name.lower() not in spelled} == set()


def test_a_kit_for_here_measures_ncnn(tmp_path: Path) -> None:
    if OnnxToNcnn.why_not() is not None:
        pytest.skip(str(OnnxToNcnn.why_not()))
    request = asked(tmp_path, model_file(write_tiny("onnx", tmp_path, (SIZE, SIZE))))
    kit = written(request, "cpu", tmp_path / "kit")
    names = {c["id"] for c in kit["candidates"]}
    assert {"ncnn@ncnn-fp32", "ncnn@ncnn-bf16"} <= names
    assert not any("edgetpu" in name or "cuda" in name for name in names)
    found = measured(tmp_path / "kit", tmp_path / "m.json")
    for name in ("ncnn@ncnn-fp32", "ncnn@ncnn-bf16"):
        assert found.candidates[name]["status"] == "measured"
        assert found.candidates[name]["error"] < (1e-3 if name.endswith("fp32") else 0.05)


def test_what_came_from_pytorch_gets_executorch_programs(tmp_path: Path) -> None:
    pytest.importorskip("executorch")
    pytest.importorskip("torchao")
    program = model_file(write_tiny("torch_export", tmp_path, (SIZE, SIZE)))
    frames = np.concatenate([tensor(index, (SIZE, SIZE)) for index in range(2)])
    model = TorchToOnnx.convert(program, ConversionRequest(tmp_path, (SIZE, SIZE), frames))
    kit = written(asked(tmp_path, model), "rpi5", tmp_path / "kit")
    names = {c["id"] for c in kit["candidates"]}
    assert {"onnx@onnxruntime-fp32", "executorch@executorch-fp32"} <= names
    assert kit["files"]["onnx"]["config"]["model"]["program"] is None
    found = measured(tmp_path / "kit", tmp_path / "m.json")
    for name in ("executorch@executorch-fp32", "executorch_int8@executorch-int8"):
        assert found.candidates[name]["status"] == "measured", found.candidates[name]


def test_what_came_from_pytorch_is_traced_for_pytorch(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    program = model_file(write_tiny("torch_export", tmp_path, (SIZE, SIZE)))
    frames = np.concatenate([tensor(index, (SIZE, SIZE)) for index in range(2)])
    model = TorchToOnnx.convert(program, ConversionRequest(tmp_path, (SIZE, SIZE), frames))
    kit = written(asked(tmp_path, model), "aws-c7i-xlarge", tmp_path / "kit")
    names = ("torchscript@torch-fp32", "torchscript@torch-bf16")
    assert set(names) <= {c["id"] for c in kit["candidates"]}
    found = measured(tmp_path / "kit", tmp_path / "m.json", "onnx@onnxruntime-fp32", *names)
    for name, most in zip(names, (1e-3, 0.05), strict=True):
        assert found.candidates[name]["status"] == "measured", found.candidates[name]
        assert found.candidates[name]["error"] < most
    # It runs here as well, so its accuracy can be judged and a bundle can hold it.
    config = read_kit(tmp_path / "kit").config("torchscript")
    assert (config.runtime, config.model.format) == ("torch", "torchscript")
    with Pipeline(config) as pipeline:
        pipeline(np.zeros((SIZE, SIZE, 3), np.uint8))


def test_what_came_from_onnx_is_not_traced_and_the_kit_says_why(tmp_path: Path) -> None:
    request = asked(tmp_path, model_file(write_tiny("onnx", tmp_path, (SIZE, SIZE))))
    kit = written(request, "aws-c7i-xlarge", tmp_path / "kit")
    assert not any(c["runtime"] == "torch" for c in kit["candidates"])
    (left,) = [entry for entry in kit["left_out"] if entry["what"] == "TorchScript"]
    assert "bring the model as PyTorch" in left["reason"]


def test_what_came_from_onnx_gets_no_executorch_program(tmp_path: Path) -> None:
    request = asked(tmp_path, model_file(write_tiny("onnx", tmp_path, (SIZE, SIZE))))
    assert "bring PyTorch" in str(ExecuTorchProgram.applies(request))
