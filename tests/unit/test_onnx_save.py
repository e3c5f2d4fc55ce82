"""Models too large for one file keep their weights beside the graph, wherever they are written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.external_data_helper import set_external_data

import saccade
from saccade.deploy.bundle import bundle_config, read_manifest, write_bundle
from saccade.deploy.kit.write import _copy_model
from saccade.errors import BundleError
from saccade.models import onnx_run, onnx_save
from saccade.models.files import model_file
from saccade.models.graph_reading import inferred_shapes
from saccade.models.onnx_file import external_files, read_onnx
from saccade.models.onnx_run import run_once, strictly_simplified
from saccade.models.onnx_save import BESIDE, copy_onnx, file_bytes, light, loadable, save_onnx
from saccade.optimize.quantization.activations import float_session
from saccade.optimize.quantization.weights import WeightWorker
from saccade.pipeline.config import PipelineConfig
from saccade.pipeline.pipeline import Pipeline
from saccade.pipeline.sessions import SessionPool
from saccade.testing.tiny_yolo import HW, tiny_yolo, tiny_yolo_config

FRAME = np.random.default_rng(0).integers(0, 255, (*HW, 3), np.uint8)
INPUTS = {"images": np.random.default_rng(0).uniform(0, 1, (1, 3, *HW)).astype(np.float32)}


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if one file could hold no more than two kilobytes, which the tiny detector exceeds."""
    for module in (onnx_save, onnx_run):
        monkeypatch.setattr(module, "LARGEST", 2000)
    assert onnx_save.size_of(tiny_yolo()) > 2000
    yield


def plain(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without saying of weights in the model that they are in the model, as reading does."""
    for tensor in model.graph.initializer:
        tensor.ClearField("data_location")
    return model


@pytest.fixture
def apart(tmp_path: Path) -> Path:
    """The tiny detector, each weight in a file of its own in another folder."""
    folder = tmp_path / "given"
    (folder / "parts").mkdir(parents=True)
    model = tiny_yolo()
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) >= 256:
            place = f"parts/{tensor.name}.bin"
            (folder / place).write_bytes(b"\0" * 64 + tensor.raw_data)
            set_external_data(tensor, place, 64, len(tensor.raw_data))
            tensor.ClearField("raw_data")
    onnx.save(model, str(folder / "tiny.onnx"))
    assert len(external_files(model, folder)) > 2
    return folder / "tiny.onnx"


def config_of(path: Path, folder: Path) -> PipelineConfig:
    return replace(tiny_yolo_config(folder), model=model_file(path))


@pytest.mark.usefixtures("small_limit")
def test_a_bundle_of_a_large_model_is_whole_and_runs(apart: Path, tmp_path: Path) -> None:
    config = config_of(apart, tmp_path)
    with closing(Pipeline(config)) as pipeline:
        expected = pipeline(FRAME)
    bundle = write_bundle(config, {}, tmp_path / "bundle")
    names = set(read_manifest(bundle)["files"])
    assert (
        {"model.onnx", "model.onnx.data"}
        <= names
        == {p.name for p in bundle.iterdir()} - {"manifest.json"}
    )
    found = bundle_config(bundle)
    assert found.hash == config.hash
    assert found.model.weights == str((bundle / "model.onnx.data").resolve())
    moved = bundle.rename(tmp_path / "moved")
    apart.rename(apart.with_name("away.onnx"))
    for changes in ({}, {"preprocessor": "graph"}, {"nms": "graph"}):
        with saccade.load(moved, **changes) as pipeline:
            assert np.allclose(pipeline(FRAME).boxes, expected.boxes, atol=1e-2)
    (moved / "model.onnx.data").write_bytes(b"other")
    with pytest.raises(BundleError, match="does not match its hash"):
        read_manifest(moved)


def test_a_bundle_of_a_small_one_is_one_file(apart: Path, tmp_path: Path) -> None:
    bundle = write_bundle(config_of(apart, tmp_path), {}, tmp_path / "bundle")
    assert not list(bundle.glob("*.data")) and bundle_config(bundle).model.weights is None
    assert not external_files(read_onnx(bundle / "model.onnx", weights=False), bundle)


def test_pixels_go_through_the_graph_of_a_model_with_weights_apart(
    apart: Path, tmp_path: Path
) -> None:
    """It is given as bytes, and its weights are found by their folder."""
    config = config_of(apart, tmp_path)
    assert config.model.external_bytes and config.model.weights is None
    with closing(SessionPool(config, in_graph=True)) as pool:
        assert pool.stream(HW).infer(FRAME[None])


@pytest.mark.usefixtures("small_limit")
def test_rewritten_models_are_written_in_two(apart: Path, tmp_path: Path) -> None:
    config = replace(config_of(apart, tmp_path), nms="graph")
    with closing(SessionPool(config, in_graph=False)) as pool:
        session = pool.stream(HW)
        written = session._request.model
        assert written.path != str(apart) and written.external_bytes > 2000
        assert session.infer(INPUTS["images"])


@pytest.mark.usefixtures("small_limit")
def test_writing_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    model = tiny_yolo()
    save_onnx(model, tmp_path / "a.onnx")
    assert {p.name for p in tmp_path.iterdir()} == {"a.onnx", f"a.onnx{BESIDE}"}
    assert plain(model) == tiny_yolo()
    assert run_once(model, INPUTS)[0].tolist() == run_once(tiny_yolo(), INPUTS)[0].tolist()
    assert plain(read_onnx(tmp_path / "a.onnx")) == tiny_yolo()


@pytest.mark.usefixtures("small_limit")
def test_what_takes_bytes_takes_a_file_instead() -> None:
    model = tiny_yolo()
    with loadable(model) as source:
        assert isinstance(source, str) and Path(source).is_file()
    assert not Path(source).exists()
    expected = run_once(tiny_yolo(), INPUTS)
    assert np.allclose(run_once(strictly_simplified(model), INPUTS)[0], expected[0], atol=1e-3)
    assert float_session(model).run(None, INPUTS)[0].shape == expected[0].shape
    assert file_bytes(model) == onnx_save.size_of(model)


def test_shapes_need_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = inferred_shapes(tiny_yolo())
    monkeypatch.setattr(onnx_save, "LARGEST", 2000)
    model = tiny_yolo()
    assert light(model).ByteSize() < model.ByteSize() / 2
    assert inferred_shapes(model) == whole


@pytest.mark.usefixtures("small_limit")
def test_a_kit_and_mapped_weights_hold_it_too(apart: Path, tmp_path: Path) -> None:
    copied = _copy_model(apart, tmp_path / "kit.onnx")
    assert copied == tmp_path / f"kit.onnx{BESIDE}"
    assert plain(read_onnx(tmp_path / "kit.onnx")) == tiny_yolo()
    WeightWorker().map(str(apart), str(tmp_path / "mapped.onnx"))
    assert (tmp_path / "mapped.weights").is_file()
    WeightWorker().run(str(apart), "fp16", str(tmp_path / "half.onnx"))
    assert read_onnx(tmp_path / "half.onnx").graph.node
    assert copy_onnx(tmp_path / "half.onnx", tmp_path / "copy.onnx") == (
        tmp_path / f"copy.onnx{BESIDE}" if (tmp_path / f"half.onnx{BESIDE}").exists() else None
    )
