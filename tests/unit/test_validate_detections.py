"""Detections keep their shape and survive their file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from detection_scenes import scene
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade.errors import DataError, StorageError
from saccade.tasks.detections import Detections


def _same(a: Detections, b: Detections) -> bool:
    return len(a) == len(b) and all(
        left.dtype == right.dtype and left.shape == right.shape and (left == right).all()
        for x, y in ((a.boxes, b.boxes), (a.scores, b.scores), (a.class_ids, b.class_ids))
        for left, right in zip(x, y, strict=True)
    )


@given(counts=st.lists(st.integers(0, 5), max_size=6), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, counts: list[int], seed: int) -> None:
    generator = np.random.default_rng(seed)
    before = Detections.of(
        (generator.random((n, 4)), generator.random(n), generator.integers(0, 80, n))
        for n in counts
    )
    path = tmp_path_factory.mktemp("round") / "détections.npz"
    before.save(path)
    assert _same(before, Detections.load(path))
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    path.write_text("mine")
    with pytest.raises(StorageError, match="exists already"):
        scene(0)[1].save(path)
    assert path.read_text() == "mine"


def test_a_missing_folder_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be written"):
        scene(0)[1].save(tmp_path / "none" / "d.npz")


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 cut short"])
def test_an_unreadable_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "d.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"d\.npz cannot be read as detections"):
        Detections.load(path)
    with pytest.raises(DataError, match="cannot be read"):
        Detections.load(tmp_path / "absent.npz")


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    scene(0)[1].save(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError):
        Detections.load(path)


def test_other_npz_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    np.savez(path, version=np.int64(1), other=np.zeros(3))
    with pytest.raises(DataError, match="counts"):
        Detections.load(path)


def test_above_keeps_the_confident() -> None:
    before = Detections.of([(np.zeros((2, 4)), [0.25, 0.2], [1, 2]), (np.zeros((0, 4)), [], [])])
    after = before.above(0.25)
    assert [s.tolist() for s in after.scores] == [[0.25], []]
    assert after.class_ids[0].tolist() == [1]


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="expected"):
        Detections.of([(np.zeros((2, 4)), [0.5], [1, 2])])
    with pytest.raises(ValueError, match="per image"):
        Detections((np.zeros((0, 4), np.float32),), (), ())
