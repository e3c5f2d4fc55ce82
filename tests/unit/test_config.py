"""A configuration is a value: its hash says what it does, and it survives being written down."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields, replace
from importlib.metadata import PackageNotFoundError
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade.models.description import BoxOutputs, InputSpec, ModelDescription, Preprocessing
from saccade.pipeline import config as module
from saccade.pipeline.config import (
    ModelFile,
    PipelineConfig,
    ResolutionPolicy,
    RuntimeOptions,
    TrackerOptions,
    digest,
)

MODEL = ModelFile("models/a.onnx", "ab" * 32)
DESCRIPTION = ModelDescription(
    input=InputSpec("images", "NCHW", (1, 3, None, 640), "float32"),
    preprocessing=Preprocessing(),
    decode="yolov8",
    input_size=640,
    stride=32,
    class_names=("cat", "dog"),
    outputs=BoxOutputs(),
)
BASE = PipelineConfig("detection", MODEL, DESCRIPTION, 640, 0.7, tracker=TrackerOptions())

# Where a value lives on disk, in which container, and why we believe it change no behaviour.
SILENT = {"path", "weights", "format", "dynamic", "evidence", "program", "external_bytes"}
OTHER: dict[type, dict[str, Any]] = {
    PipelineConfig: {
        "task": "segmentation",
        "model": replace(MODEL, sha256="cd" * 32),
        "description": replace(DESCRIPTION, stride=16),
        "input_size": 512,
        "iou_threshold": 0.65,
        "runtime": "openvino",
        "options": RuntimeOptions(streams=2),
        "shape": "rect",
        "margin": 32,
        "squeeze": 0.8,
        "dynamic_resolution": ResolutionPolicy(320, 0.1, 0.5),
        "reader": "pyav",
        "decode_threads": 1,
        "skip_loop_filter": True,
        "resize": "planes",
        "preprocessor": "fused",
        "nms": "vectorized",
        "masks": "cropped",
        "argmax": "running",
        "execution": "overlapped",
        "queue_depth": 3,
        "score_threshold": 0.001,
        "max_detections": 100,
        "classes": (1,),
        "tracker": None,
        "detect_every": 2,
        "allocator": "frugal",
    },
    RuntimeOptions: {
        "precision": "bf16",
        "threads": 2,
        "streams": 2,
        "in_flight": 2,
        "graph_level": "static",
        "spinning": False,
        "channels_last": True,
        "arena": False,
        "hint": "latency",
    },
    TrackerOptions: {
        "high_score": 0.5,
        "new_track_score": 0.5,
        "match_iou": 0.3,
        "lost_frames": 10,
        "confirm_hits": 3,
    },
    ModelDescription: {
        "input": replace(DESCRIPTION.input, name="x"),
        "preprocessing": Preprocessing("bgr"),
        "decode": "yolox",
        "input_size": 416,
        "stride": 8,
        "class_names": ("cat",),
        "iou_threshold": 0.5,
        "license": "MIT",
        "transposed": True,
        "input_hw": (360, 480),
        "outputs": None,
    },
    BoxOutputs: {
        "boxes": 1,
        "scores": 0,
        "labels": 2,
        "count": 3,
        "box_format": "yxyx",
        "box_unit": "normalized",
        "scores_as": "softmax",
        "background": "first",
        "multi_label": True,
        "first_label": 1,
        "row": "batch_box_label_score",
    },
    Preprocessing: {
        "channel_order": "bgr",
        "scale": 1.0,
        "mean": (1.0, 2.0, 3.0),
        "std": (4.0, 5.0, 6.0),
        "anchor": "top_left",
        "pad_value": 0,
        "fit": "stretch",
        "crop_share": 1.0,
    },
    InputSpec: {
        "name": "x",
        "layout": "NHWC",
        "shape": (1, 3, None, None),
        "dtype": "uint8",
    },
    ResolutionPolicy: {
        "small_size": 256,
        "doubt_above": 0.2,
        "sure_from": 0.6,
        "still_up_to": 0.02,
    },
    ModelFile: {"sha256": "cd" * 32, "stored": "int8"},
}


def within(value: Any) -> PipelineConfig:
    """A configuration that holds ``value`` in its place."""
    if isinstance(value, PipelineConfig):
        return value
    if isinstance(value, ResolutionPolicy):
        return replace(BASE, dynamic_resolution=value)
    if isinstance(value, RuntimeOptions):
        return replace(BASE, options=value)
    if isinstance(value, TrackerOptions):
        return replace(BASE, tracker=value)
    if isinstance(value, ModelFile):
        return replace(BASE, model=value)
    if isinstance(value, Preprocessing):
        value = replace(DESCRIPTION, preprocessing=value)
    if isinstance(value, InputSpec):
        value = replace(DESCRIPTION, input=value)
    if isinstance(value, BoxOutputs):
        value = replace(DESCRIPTION, outputs=value)
    return replace(BASE, description=value)


ORIGINALS = (
    BASE,
    BASE.options,
    DESCRIPTION,
    DESCRIPTION.preprocessing,
    DESCRIPTION.input,
    DESCRIPTION.outputs,
    MODEL,
    ResolutionPolicy(320, 0.1, 0.5),
    TrackerOptions(),
)
FIELDS = [(value, field.name) for value in ORIGINALS for field in fields(value)]


@pytest.mark.parametrize(
    ("value", "name"), FIELDS, ids=[f"{type(v).__name__}.{name}" for v, name in FIELDS]
)
def test_the_hash_changes_with_every_field_that_matters(value: Any, name: str) -> None:
    """A new field that is in neither table fails here, so that nobody forgets the cache key."""
    if name in SILENT:
        changed = replace(value, **{name: ("other",) if name == "evidence" else "other"})
        assert within(changed).hash == BASE.hash
    else:
        changed = replace(value, **{name: OTHER[type(value)][name]})
        assert within(changed).hash != BASE.hash


def test_a_moved_model_is_the_same_model() -> None:
    moved = replace(BASE, model=replace(MODEL, path="elsewhere/b.onnx"))
    assert moved.hash == BASE.hash


def test_the_hash_is_the_same_in_another_process() -> None:
    code = (
        "import json, sys; from saccade.pipeline.config import PipelineConfig; "
        "print(PipelineConfig.from_dict(json.load(sys.stdin)).hash)"
    )
    said = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(BASE.to_dict()),
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == BASE.hash


def test_an_upgraded_library_is_another_system_and_an_absent_one_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installed = {"onnxruntime-gpu": "1.20", "tensorrt": "10.1", "torchvision": "0.24", "nncf": "3"}

    def version(name: str) -> str:
        if name not in installed:
            raise PackageNotFoundError(name)
        return installed[name]

    def hash_now() -> str:
        module.library_versions.cache_clear()
        return BASE.hash

    monkeypatch.setattr(module, "version", version)
    try:
        before = hash_now()
        for name in list(installed):
            monkeypatch.setitem(installed, name, "99")
            assert hash_now() != before
            before = hash_now()
        monkeypatch.setattr(module, "VERSIONED_PACKAGES", (*module.VERSIONED_PACKAGES, "absent"))
        assert hash_now() == before
    finally:
        module.library_versions.cache_clear()


def test_options_of_older_bundles_are_read() -> None:
    document = BASE.to_dict()
    del document["options"]["hint"]
    assert PipelineConfig.from_dict(document) == BASE


def test_other_libraries_are_another_system(monkeypatch: pytest.MonkeyPatch) -> None:
    before = BASE.hash
    monkeypatch.setattr(module, "library_versions", lambda: {"onnxruntime": "0.0"})
    assert BASE.hash != before


numbers = st.floats(-1e6, 1e6)
triples = st.tuples(numbers, numbers, numbers)
dims = st.none() | st.integers(1, 4096)
configs = st.builds(
    PipelineConfig,
    task=st.text(max_size=9),
    input_size=st.integers(1, 4096),
    iou_threshold=numbers,
    model=st.builds(
        ModelFile,
        path=st.text(max_size=9),
        sha256=st.text("0123456789abcdef", min_size=8, max_size=8),
        format=st.sampled_from(["onnx", "openvino_ir"]),
        weights=st.none() | st.text(max_size=9),
    ),
    description=st.builds(
        ModelDescription,
        input=st.builds(
            InputSpec,
            name=st.text(max_size=9),
            layout=st.sampled_from(["NCHW", "NHWC"]),
            shape=st.tuples(dims, dims, dims, dims),
            dtype=st.sampled_from(["float32", "uint8"]),
        ),
        preprocessing=st.builds(Preprocessing, scale=numbers, mean=triples, std=triples),
        class_names=st.lists(st.text(max_size=5), max_size=4).map(tuple),
        evidence=st.lists(st.text(max_size=5), max_size=4).map(tuple),
        iou_threshold=numbers,
        license=st.text(max_size=5),
        transposed=st.booleans(),
        outputs=st.none() | st.builds(BoxOutputs, labels=st.none() | st.integers(0, 9)),
    ),
    options=st.builds(RuntimeOptions, threads=st.none() | st.integers(), spinning=st.booleans()),
    decode_threads=st.none() | st.integers(0, 64),
    score_threshold=numbers,
    classes=st.lists(st.integers(0, 79), max_size=3).map(tuple),
    tracker=st.none() | st.builds(TrackerOptions, lost_frames=st.integers(0, 99)),
    detect_every=st.integers(1, 4),
)


@given(configs)
def test_a_configuration_survives_json(config: PipelineConfig) -> None:
    again = PipelineConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config
    assert again.hash == config.hash


@given(configs, st.text(max_size=9))
def test_places_and_reasons_are_not_behaviour(config: PipelineConfig, other: str) -> None:
    model = replace(config.model, path=other, weights=other)
    description = replace(config.description, evidence=(other,))
    moved = replace(config, model=model, description=description)
    assert moved.hash == config.hash


def test_the_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    assert len(digest({})) == 16
