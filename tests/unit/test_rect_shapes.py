"""The rectangular letterbox on folders whose images differ in shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from saccade import plugins
from saccade.data.frame_shapes import frame_shapes
from saccade.optimize.change import PlanContext
from saccade.optimize.changes.rect_letterbox import RectLetterbox
from saccade.pipeline.config import PipelineConfig
from saccade.pipeline.pipeline import Pipeline
from saccade.pipeline.sessions import KEPT_SESSIONS
from saccade.testing.optimization_conformance import example_contexts

WIDE = [(36, 128), (64, 128), (96, 128), (100, 128), (128, 96), (128, 64), (128, 36)]


def folder_of(folder: Path, sizes: Sequence[tuple[int, int]]) -> str:
    folder.mkdir()
    for index, (height, width) in enumerate(sizes):
        cv2.imwrite(str(folder / f"{index}.png"), np.zeros((height, width, 3), np.uint8))
    (folder / "broken.png").write_bytes(b"no image")
    return str(folder)


def context_of(tmp_path: Path, sizes: Sequence[tuple[int, int]]) -> PlanContext:
    (tmp_path / "model").mkdir()
    naive = next(example_contexts(tmp_path / "model"))
    config = replace(naive.config, input_size=256)
    source = folder_of(tmp_path / "images", sizes)
    return replace(naive, config=config, video=False, source=source)


def test_shapes_are_read_from_headers(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "images", [(20, 30), (20, 30), (40, 10)])
    assert frame_shapes(source) == (((20, 30), 2), ((40, 10), 1))
    assert frame_shapes(str(tmp_path / "absent")) == ()


def test_more_shapes_than_sessions_are_refused(tmp_path: Path) -> None:
    reason = RectLetterbox().applies(context_of(tmp_path, WIDE))
    assert reason is not None
    assert f"{KEPT_SESSIONS} can be kept ready" in reason


def test_few_shapes_are_predicted_by_their_mean(tmp_path: Path) -> None:
    context = context_of(tmp_path, [(64, 128)] * 3 + [(128, 128)])
    assert RectLetterbox().applies(context) is None
    mixed = RectLetterbox().predict(context)
    assert "128x256 of 256² most often, 2 shapes" in mixed.basis
    (tmp_path / "alone").mkdir()
    alone = RectLetterbox().predict(context_of(tmp_path / "alone", [(64, 128)]))
    assert 1 < mixed.gain < alone.gain


def test_a_video_is_judged_by_its_frames(tmp_path: Path) -> None:
    context = replace(context_of(tmp_path, WIDE), video=True, frame_hw=(64, 128))
    assert RectLetterbox().applies(context) is None


def test_the_pool_compiles_again_what_it_could_not_keep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason for the refusal: in turns, every frame of one shape too many opens a session."""
    runtime = plugins.load("runtimes", "onnxruntime")
    opened: list[tuple[int, int] | None] = []
    real = runtime.open
    monkeypatch.setattr(
        runtime, "open", lambda request: opened.append(request.input_hw) or real(request)
    )
    naive = next(example_contexts(tmp_path)).config
    for count in (KEPT_SESSIONS, KEPT_SESSIONS + 1):
        opened.clear()
        frames = [(32 * k, 128) for k in range(1, count + 1)] * 3
        stream(replace(naive, shape="rect", input_size=512), frames)
        assert len(opened) == (count if count <= KEPT_SESSIONS else len(frames))


def stream(config: PipelineConfig, shapes: Sequence[tuple[int, int]]) -> None:
    with Pipeline(config) as pipeline:
        for hw in shapes:
            pipeline.stream_session(hw)
