"""Reading and identifying model files, good and bad."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import onnx
import pytest
from models_graphs import anchor_free

from saccade.errors import ModelError
from saccade.models.files import model_file
from saccade.models.inspect import summarize
from saccade.models.onnx_model import read_onnx


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.onnx"
    onnx.save(anchor_free((64, 64)), path)
    return path


@pytest.fixture
def external(tmp_path: Path) -> Path:
    path = tmp_path / "external.onnx"
    onnx.save(
        anchor_free((64, 64)),
        path,
        save_as_external_data=True,
        location="external.data",
        size_threshold=0,
    )
    return path


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"PK\x03\x04rest", "PyTorch checkpoint"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"hello, this is text", "damaged, cut short, or of another format"),
        (bytes(range(256)), "damaged"),
    ],
)
def test_not_onnx(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=words):
        read_onnx(path)


def test_missing_folder_and_truncated(tmp_path: Path, good: Path) -> None:
    with pytest.raises(ModelError, match="no model file"):
        read_onnx(tmp_path / "absent.onnx")
    with pytest.raises(ModelError, match="is a folder"):
        read_onnx(tmp_path)
    content = good.read_bytes()
    for part in (0.1, 0.5, 0.999):
        good.write_bytes(content[: int(len(content) * part)])
        with pytest.raises(ModelError, match="damaged"):
            read_onnx(good)


def test_external_data(external: Path) -> None:
    assert len(read_onnx(external).graph.initializer[0].raw_data) > 0
    data = external.parent / "external.data"
    data.write_bytes(data.read_bytes()[:100])
    with pytest.raises(ModelError, match="external weights"):
        read_onnx(external)
    data.unlink()
    with pytest.raises(ModelError, match=r"external\.data, which is not beside it"):
        read_onnx(external, weights=False)


def test_model_file_is_known_by_content(good: Path, external: Path) -> None:
    assert model_file(good).sha256 == hashlib.sha256(good.read_bytes()).hexdigest()
    moved = good.with_name("moved.onnx")
    moved.write_bytes(good.read_bytes())
    assert model_file(moved).sha256 == model_file(good).sha256
    before = model_file(external).sha256
    data = external.parent / "external.data"
    data.write_bytes(data.read_bytes()[:-1] + b"\x7f")
    assert model_file(external).sha256 != before
    both = external.stat().st_size + data.stat().st_size
    assert model_file(external).size_mb == pytest.approx(both / 1e6)
    with pytest.raises(ModelError, match="cannot be read"):
        model_file(good.with_name("absent.onnx"))


def test_openvino_ir_has_two_files(tmp_path: Path) -> None:
    (tmp_path / "m.xml").write_text("<net/>")
    (tmp_path / "m.bin").write_bytes(b"weights")
    found = model_file(tmp_path / "m.xml")
    assert found.format == "openvino_ir" and found.weights == str(tmp_path / "m.bin")
    assert found.sha256 == hashlib.sha256(b"<net/>weights").hexdigest()


def test_summary(good: Path, external: Path) -> None:
    summary = summarize(good)
    assert json.loads(json.dumps(summary)) == summary
    assert summary["inputs"] == [{"name": "images", "dtype": "float32", "shape": [1, 3, 64, 64]}]
    assert (summary["opset"], summary["precision"]) == (17, "fp32")
    assert summary["size_mb"] == pytest.approx(good.stat().st_size / 1e6, abs=1e-3)
    assert summary["parameters"] == summarize(external)["parameters"]
    assert summarize(external)["size_mb"] == pytest.approx(summary["size_mb"], rel=0.05)
