"""`PipelineConfig`: a frozen value that says entirely how a system runs, and its hash."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from saccade.models.description import InputSpec, ModelDescription, Preprocessing

# A change of one of these can change outputs or speed, so they are part of every config's hash.
VERSIONED_PACKAGES = (
    "saccade",
    "numpy",
    "opencv-python-headless",
    "av",
    "onnxruntime",
    "openvino",
    "torch",
)

Shape = Literal["square", "rect"]
Execution = Literal["sequential", "overlapped"]
Resize = Literal["bgr", "planes", "swscale"]


@dataclass(frozen=True)
class ModelFile:
    """A model on disk.

    Attributes:
        format: ``"onnx"``, ``"openvino_ir"``, ``"torch_export"``; see `saccade.models.files`.
        weights: the second file of formats that have two (OpenVINO IR).
        dynamic: a converted model takes any height and width, also where the original did not.
        program: the exported PyTorch program that the file was made from, where it was: what
            changes weights changes that one and makes the file again.
    """

    path: str
    sha256: str
    format: str = "onnx"
    weights: str | None = None
    dynamic: bool = False
    program: str | None = None

    @property
    def size_mb(self) -> float:
        """Size on disk of all its files, in 10^6 bytes."""
        files = [self.path] + ([self.weights] if self.weights else [])
        return sum(Path(name).stat().st_size for name in files) / 1e6


@dataclass(frozen=True)
class RuntimeOptions:
    """How a runtime executes the model. ``None`` leaves the runtime's own default.

    Attributes:
        precision: arithmetic asked for; int8 is a property of the model file, not of this.
        threads: inference threads in all.
        streams: inferences the runtime runs at the same time.
        in_flight: requests submitted before the first is waited for (overlapped execution).
        graph_level: how much the runtime rewrites the graph; ``"default"``, for ONNX Runtime
            ``"all"``, ``"disable"``, ``"static"``, for PyTorch ``"torchscript"``, ``"compile"``.
        channels_last: PyTorch's memory layout with the channels of a pixel side by side.
    """

    precision: Literal["fp32", "bf16"] = "fp32"
    threads: int | None = None
    streams: int = 1
    in_flight: int = 1
    graph_level: str = "default"
    spinning: bool = True
    channels_last: bool = False


@dataclass(frozen=True)
class PipelineConfig:
    """Everything that decides how frames become results.

    Attributes:
        shape: ``"square"`` pads every frame to ``input_size`` × ``input_size``; ``"rect"`` pads
            only as far as the stride asks, keeping the longer side at ``input_size``.
        margin: border in pixels that ``"rect"`` leaves at least, where the square had one.
        reader: plug-in name; who decodes the video.
        decode_threads: threads of the video decoder; ``None`` leaves its default.
        skip_loop_filter: leave out H.264's in-loop deblocking (changes pixels).
        resize: where frames are scaled: ``"bgr"`` after conversion of the full frame, ``"planes"``
            on the decoder's YUV planes and converted when small, ``"swscale"`` in FFmpeg's scaler.
        preprocessor: plug-in name; who turns pixels into the input tensor.
        nms: ``"loop"`` (one box after the other, as commonly written) or ``"vectorized"``.
        execution: ``"sequential"`` or ``"overlapped"`` (stages run at the same time).
        queue_depth: decoded frames waiting at most, in overlapped execution.
        score_threshold: boxes below are dropped.
        iou_threshold: boxes of one class that overlap more are merged.
        max_detections: boxes kept per image.
    """

    task: str
    model: ModelFile
    description: ModelDescription
    input_size: int
    iou_threshold: float
    runtime: str = "onnxruntime"
    options: RuntimeOptions = field(default_factory=RuntimeOptions)
    shape: Shape = "square"
    margin: int = 0
    reader: str = "opencv"
    decode_threads: int | None = None
    skip_loop_filter: bool = False
    resize: Resize = "bgr"
    preprocessor: str = "numpy"
    nms: str = "loop"
    execution: Execution = "sequential"
    queue_depth: int = 2
    score_threshold: float = 0.25
    max_detections: int = 300

    @property
    def dynamic(self) -> bool:
        """Whether the model file takes any height and width as it is."""
        return self.description.input.dynamic or self.model.dynamic

    @property
    def hash(self) -> str:
        """Content hash: equal hash means equal behaviour.

        File paths are left out and file contents are in, so a moved model is the same model.
        """
        return digest({**_without_paths(dataclasses.asdict(self)), "versions": library_versions()})

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready document; `from_dict` is its inverse."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> PipelineConfig:
        """The inverse of `to_dict`, also after a trip through JSON."""
        data = dict(document)
        described = dict(data["description"])
        described["input"] = InputSpec(
            **{**described["input"], "shape": tuple(described["input"]["shape"])}
        )
        pre = dict(described["preprocessing"])
        described["preprocessing"] = Preprocessing(
            **{**pre, "mean": tuple(pre["mean"]), "std": tuple(pre["std"])}
        )
        described["class_names"] = tuple(described["class_names"])
        described["evidence"] = tuple(described["evidence"])
        hw = described.get("input_hw")
        described["input_hw"] = (hw[0], hw[1]) if hw else None
        data["model"] = ModelFile(**data["model"])
        data["description"] = ModelDescription(**described)
        data["options"] = RuntimeOptions(**data["options"])
        return cls(**data)


def digest(document: Any) -> str:
    """First 16 hex digits of the SHA-256 of a JSON-ready value in canonical form."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def library_versions() -> dict[str, str]:
    """Installed versions of the packages that decide behaviour and speed."""
    found = {}
    for package in VERSIONED_PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _without_paths(document: dict[str, Any]) -> dict[str, Any]:
    model = {key: value for key, value in document["model"].items() if key == "sha256"}
    described = {k: v for k, v in document["description"].items() if k not in ("evidence",)}
    return {**document, "model": model, "description": described}
