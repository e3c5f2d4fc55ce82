"""The bundle: written whole, read back the same, and refused once anything in it has changed."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_system import CLASSES, picture, tiny_yolo, write_model

import saccade
from saccade.deploy.bundle import MANIFEST, bundle_config, load, read_manifest, write_bundle
from saccade.errors import BundleError, SpecError, StorageError
from saccade.models.files import model_file
from saccade.models.onnx_model import describe
from saccade.pipeline.config import ModelFile, PipelineConfig
from saccade.pipeline.pipeline import Pipeline

PROVENANCE = {"original_model": {"name": "größe.onnx"}, "changes": ["bf16"], "speedup": [1, 2, 3]}


def tiny_config(folder: Path) -> PipelineConfig:
    path = write_model(folder)
    return PipelineConfig("detection", model_file(path), describe(path), 64, 0.7)


@pytest.fixture
def config(tmp_path: Path) -> PipelineConfig:
    return tiny_config(tmp_path)


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("master")
    return write_bundle(tiny_config(folder), PROVENANCE, folder / "bundle")


@pytest.fixture
def bundle(master: Path, tmp_path: Path) -> Path:
    """A copy, as bundles are copied."""
    return Path(shutil.copytree(master, tmp_path / "bundle"))


def edit(bundle: Path, change: Callable[[dict[str, Any]], Any], *, seal: bool = False) -> None:
    """Change the manifest; with ``seal``, so that its own digest is right again."""
    path = bundle / MANIFEST
    manifest = json.loads(path.read_text(encoding="utf-8"))
    change(manifest)
    if seal:
        content = {key: value for key, value in manifest.items() if key != "digest"}
        text = json.dumps(content, sort_keys=True)
        manifest["digest"] = hashlib.sha256(text.encode()).hexdigest()
    path.write_text(json.dumps(manifest), encoding="utf-8")


def refusal(bundle: Path) -> str:
    with pytest.raises(BundleError) as caught:
        load(bundle)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_a_bundle_gives_back_the_configuration(bundle: Path, master: Path) -> None:
    loaded, original = bundle_config(bundle), bundle_config(master)
    assert loaded.hash == original.hash
    assert loaded.model.path == str((bundle / "model.onnx").resolve())
    assert replace(loaded, model=original.model) == original


def test_what_lies_in_a_bundle(bundle: Path) -> None:
    assert {p.name for p in bundle.iterdir()} == {
        MANIFEST,
        "model.onnx",
        "labels.txt",
        "README.md",
    }
    assert (bundle / "labels.txt").read_text(encoding="utf-8").split() == list(CLASSES)
    manifest = read_manifest(bundle)
    assert manifest["schema_version"] == 1
    assert manifest["provenance"] == PROVENANCE
    assert manifest["versions"]["numpy"] == np.__version__
    assert "licence" in manifest["license"]["note"]
    assert set(manifest["files"]) == {"model.onnx", "labels.txt", "README.md"}


def test_a_bundle_finds_what_the_configuration_found(
    config: PipelineConfig, tmp_path: Path
) -> None:
    image = picture()
    with Pipeline(config) as pipeline:
        expected = pipeline(image)
    assert len(expected)
    path = write_bundle(config, {}, tmp_path / "bundle")
    Path(config.model.path).unlink()  # a bundle needs nothing outside it
    with saccade.load(path) as pipeline:
        found = pipeline(image)
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.class_ids, expected.class_ids)


def test_settings_can_be_overridden_at_load(bundle: Path) -> None:
    with load(bundle, score_threshold=0.001) as pipeline:
        assert pipeline.config.score_threshold == 0.001
    with pytest.raises(BundleError, match=r"Unknown setting in \['scoer'\]. Known: .*score_thresh"):
        load(bundle, scoer=0.1)


def test_a_run_folder_that_holds_a_bundle_loads_too(bundle: Path) -> None:
    with load(bundle.parent) as pipeline:
        assert pipeline.config.hash == bundle_config(bundle).hash


def test_changed_model_bytes_are_refused(bundle: Path) -> None:
    model = bundle / "model.onnx"
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    assert "'model.onnx' does not match its hash" in refusal(bundle)


@pytest.mark.parametrize("name", ["model.onnx", "labels.txt", "README.md"])
def test_a_missing_or_cut_file_is_refused(bundle: Path, name: str) -> None:
    content = (bundle / name).read_bytes()
    (bundle / name).write_bytes(content[:-1])
    assert f"'{name}' does not match its hash" in refusal(bundle)
    (bundle / name).unlink()
    assert f"incomplete: '{name}' is missing" in refusal(bundle)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["config"].update(score_threshold=0.9),
        lambda m: m["config"]["description"].update(decode="yolox"),
        lambda m: m["config"]["model"].update(path="/elsewhere/model.onnx"),
        lambda m: m["files"].pop("model.onnx"),
        lambda m: m["files"].update({"model.onnx": "0" * 64}),
        lambda m: m["versions"].update(numpy="0"),
        lambda m: m["provenance"].clear(),
        lambda m: m.update(more=1),
        lambda m: m.pop("digest"),
    ],
)
def test_a_changed_manifest_is_refused(bundle: Path, change: Callable[[Any], Any]) -> None:
    edit(bundle, change)
    assert "does not match its own digest" in refusal(bundle)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "a/b", "..", ".", ""])
def test_a_file_outside_the_bundle_is_refused(bundle: Path, name: str) -> None:
    (bundle.parent / "outside").write_text("x", encoding="utf-8")
    edit(bundle, lambda m: m["files"].update({name: "0" * 64}), seal=True)
    said = refusal(bundle)
    assert "outside the bundle" in said or "is missing" in said


@pytest.mark.parametrize("path", ["../tiny.onnx", "/etc/hostname", "other.onnx"])
def test_a_model_without_a_hash_is_refused(bundle: Path, path: str) -> None:
    edit(bundle, lambda m: m["config"]["model"].update(path=path), seal=True)
    assert "no hash for its model file" in refusal(bundle)


def test_a_newer_bundle_is_refused(bundle: Path) -> None:
    edit(bundle, lambda m: m.update(schema_version=2))
    assert "newer saccade" in refusal(bundle)
    edit(bundle, lambda m: m.update(schema_version=2), seal=True)
    assert "Upgrade saccade" in refusal(bundle)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'"x"', b"{}", b'{"files": 3, "schema_version": 1}', b"\xff\xfe"],
)
def test_a_damaged_manifest_is_refused(bundle: Path, content: bytes) -> None:
    (bundle / MANIFEST).write_bytes(content)
    assert "damaged" in refusal(bundle)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(config=None),
        lambda m: m["config"].pop("model"),
        lambda m: m["config"].update(unknown_setting=1),
        lambda m: m["config"].update(description=[]),
    ],
)
def test_damaged_settings_are_refused(bundle: Path, change: Callable[[Any], Any]) -> None:
    edit(bundle, change, seal=True)
    assert "settings" in refusal(bundle)


def test_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    assert "is not a bundle: it has no manifest.json" in refusal(tmp_path)
    assert "is not a bundle" in refusal(tmp_path / "absent")


def test_a_new_bundle_takes_the_place_of_the_old_one(config: PipelineConfig, bundle: Path) -> None:
    (bundle / "left-over").write_text("x", encoding="utf-8")
    write_bundle(replace(config, score_threshold=0.5), {}, bundle)
    assert bundle_config(bundle).score_threshold == 0.5
    assert not (bundle / "left-over").exists()
    assert {p.name for p in bundle.parent.iterdir()} == {
        "bundle", "bundle.previous", "tiny.onnx"
    }  # fmt: skip


def test_a_bundle_can_be_written_over_itself(bundle: Path) -> None:
    config = replace(bundle_config(bundle), score_threshold=0.5)
    write_bundle(config, {}, bundle)
    assert bundle_config(bundle).score_threshold == 0.5


@pytest.fixture
def failing_replace(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The new bundle cannot be moved to its place."""
    original = Path.replace

    def replace_or_fail(self: Path, target: Path) -> Path:
        if self.name.startswith(".bundle.") and not self.name.endswith(".old"):
            raise OSError(28, "No space left on device")
        return original(self, target)

    monkeypatch.setattr(Path, "replace", replace_or_fail)
    return None


@pytest.mark.usefixtures("failing_replace")
def test_a_failure_at_the_last_moment_leaves_the_old_bundle(
    config: PipelineConfig, bundle: Path
) -> None:
    with pytest.raises(StorageError, match="disk is full"):
        write_bundle(replace(config, score_threshold=0.5), {}, bundle)
    assert bundle_config(bundle).score_threshold == 0.25
    assert {p.name for p in bundle.parent.iterdir()} == {"bundle", "tiny.onnx"}


def test_a_failure_while_writing_leaves_nothing(config: PipelineConfig, tmp_path: Path) -> None:
    Path(config.model.path).unlink()
    with pytest.raises(Exception, match=r"tiny\.onnx"):
        write_bundle(config, {}, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_somebody_elses_is_not_replaced(config: PipelineConfig, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("x", encoding="utf-8")
    with pytest.raises(BundleError, match=r"is not a bundle. Nothing was changed"):
        write_bundle(config, {}, mine)
    assert (mine / "thesis.txt").read_text(encoding="utf-8") == "x"
    with pytest.raises(BundleError, match="is not a bundle"):
        write_bundle(config, {}, mine / "thesis.txt")


def test_openvino_weights_go_into_the_bundle(config: PipelineConfig, tmp_path: Path) -> None:
    ov = pytest.importorskip("openvino")
    source = tmp_path / "ir.xml"
    ov.save_model(ov.convert_model(config.model.path), str(source))
    identified = model_file(source)
    turned = replace(config, model=identified, runtime="openvino")
    bundle = write_bundle(turned, {}, tmp_path / "bundle")
    for path in (source, source.with_suffix(".bin")):
        path.unlink()
    image = picture()
    with load(bundle) as found, Pipeline(config) as expected:
        np.testing.assert_allclose(found(image).boxes, expected(image).boxes, atol=0.5)
    (bundle / "model.bin").write_bytes(b"x")
    assert "'model.bin' does not match its hash" in refusal(bundle)


def test_external_data_goes_into_the_one_file(tmp_path: Path) -> None:
    import onnx

    path = tmp_path / "split.onnx"
    onnx.save(tiny_yolo(), str(path), save_as_external_data=True, size_threshold=0, location="w")
    described = describe(path)
    config = PipelineConfig("detection", model_file(path), described, 64, 0.7)
    bundle = write_bundle(config, {}, tmp_path / "bundle")
    (tmp_path / "w").unlink()
    with load(bundle) as pipeline:
        assert len(pipeline(picture()))


def test_a_preprocessor_that_is_not_installed_is_named(
    config: PipelineConfig, tmp_path: Path
) -> None:
    path = write_bundle(replace(config, preprocessor="no_such_package:Mine"), {}, tmp_path / "b")
    with pytest.raises(SpecError, match=r"no_such_package:Mine.*cannot be imported.*PYTHONPATH"):
        load(path)


def test_the_model_is_known_by_content_not_by_place(config: PipelineConfig, bundle: Path) -> None:
    moved = ModelFile("elsewhere.onnx", config.model.sha256)
    assert replace(config, model=moved).hash == config.hash == bundle_config(bundle).hash
