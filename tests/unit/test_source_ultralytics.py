"""ultralytics' loader, where it is installed (AGPL-3.0, so saccade does not bring it along)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from saccade import plugins
from saccade.errors import MissingExtraError, ModelError
from saccade.models.description import ModelDescription
from saccade.models.sources.contract import ResolvedModel, SourceRequest
from saccade.models.sources.resolve import resolve_model
from saccade.tasks.detection import DetectionTask

SIDE = 64


def resolved(reference: str, folder: Path, **asked: object) -> ResolvedModel:
    request = SourceRequest(reference, folder, usual_size=SIDE, **asked)  # type: ignore[arg-type]
    return resolve_model(request)


def test_a_prefix_comes_before_an_ending(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """``ultralytics:best.pt`` is no TorchScript file of that name."""
    monkeypatch.setitem(sys.modules, "ultralytics", None)
    with pytest.raises(MissingExtraError, match=r"saccade\[ultralytics\]"):
        resolved("ultralytics:best.pt", tmp_path)
    prefixed = [n for n in plugins.names("sources") if n in ("torchvision", "timm", "ultralytics")]
    names = plugins.names("sources")
    assert max(map(names.index, prefixed)) < names.index("torchscript")


class TestForReal:
    @pytest.fixture(autouse=True)
    def installed(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path))
        monkeypatch.setenv("YOLO_AUTOINSTALL", "false")
        pytest.importorskip("ultralytics")

    @staticmethod
    def described(found: ResolvedModel) -> ModelDescription:
        return DetectionTask.describe(found.graph, dict(found.hints))

    def test_an_architecture_with_random_weights(self, tmp_path: Path) -> None:
        found = resolved("ultralytics:yolo11n", tmp_path / "run", random_weights=True)
        assert not found.trained
        # "0", "1" and so on, as its descriptions have them, are no names.
        assert "class_names" not in found.hints
        assert self.described(found).decode == "yolov8"

    def test_a_checkpoint_of_ones_own(self, tmp_path: Path) -> None:
        from ultralytics import YOLO

        model = YOLO("yolo11n.yaml")
        model.model.names = {index: f"thing {index}" for index in range(80)}
        model.save(str(tmp_path / "best.pt"))
        found = resolved(f"ultralytics:{tmp_path / 'best.pt'}", tmp_path / "run")
        assert found.trained
        assert found.hints["class_names"][:2] == ("thing 0", "thing 1")
        assert self.described(found).class_names[79] == "thing 79"

    def test_a_name_that_it_does_not_have(self, tmp_path: Path) -> None:
        for asked in ({}, {"random_weights": True}):
            with pytest.raises(ModelError, match=r"no model 'yolo11q'\. Did you"):
                resolved("ultralytics:yolo11q", tmp_path / "run", **asked)

    def test_a_checkpoint_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="does not exist"):
            resolved(f"ultralytics:{tmp_path / 'none.pt'}", tmp_path / "run")

    def test_a_file_that_is_no_checkpoint(self, tmp_path: Path) -> None:
        (tmp_path / "other.pt").write_bytes(b"no model")
        with pytest.raises(ModelError, match=r"ultralytics cannot load other.pt"):
            resolved(f"ultralytics:{tmp_path / 'other.pt'}", tmp_path / "run")
