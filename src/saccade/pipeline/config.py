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

from saccade.models.description import BoxOutputs, InputSpec, ModelDescription, Preprocessing

# A change of one of these can change outputs or speed, so they are part of every config's hash.
VERSIONED_PACKAGES = (
    "saccade",
    "numpy",
    "opencv-python-headless",
    "av",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "nncf",
    "torch",
    "torchvision",
    "tensorrt",
    "trackers",
    "ai-edge-litert",
    "ncnn",
    "executorch",
)

# Formats whose files are made for one input size, whatever the model took that they were made from.
ONE_SIZE = ("tflite", "ncnn", "executorch")

Shape = Literal["square", "rect"]
Execution = Literal["sequential", "overlapped"]
Precision = Literal["fp32", "bf16", "fp16"]
Hint = Literal["none", "latency", "throughput"]
Stored = Literal["fp32", "fp16", "int8", "int8_weights"]
Resize = Literal["bgr", "planes", "swscale"]
Masks = Literal["whole", "cropped"]
Argmax = Literal["plain", "running"]
Allocator = Literal["default", "frugal"]


@dataclass(frozen=True)
class ModelFile:
    """A model on disk.

    Attributes:
        format: ``"onnx"``, ``"openvino_ir"``, ``"torch_export"``; see `saccade.models.files`.
        weights: the second file of formats that have two (OpenVINO IR, ncnn), and of ONNX models
            that keep their weights apart.
        dynamic: a converted model takes any height and width, also where the original did not.
        stored: what the weights are stored as; ``"int8"`` rounds activations too, and fits the
            runtime it was made for only.
        program: the exported PyTorch program that the file was made from, where it was: what
            changes weights changes that one and makes the file again.
        external_bytes: size of the files that an ONNX graph was given with and names by itself,
            where `weights` does not.
    """

    path: str
    sha256: str
    format: str = "onnx"
    weights: str | None = None
    dynamic: bool = False
    stored: Stored = "fp32"
    program: str | None = None
    external_bytes: int = 0

    @property
    def quantized(self) -> bool:
        """Whether arithmetic is in int8, as the file says."""
        return self.stored == "int8"

    @property
    def size_mb(self) -> float:
        """Size on disk of all its files, in 10^6 bytes."""
        files = [self.path] + ([self.weights] if self.weights else [])
        return (sum(Path(name).stat().st_size for name in files) + self.external_bytes) / 1e6


@dataclass(frozen=True)
class RuntimeOptions:
    """How a runtime executes the model. ``None`` leaves the runtime's own default.

    Attributes:
        precision: arithmetic asked for (fp16 on GPUs only); int8 is a property of the model file,
            not of this.
        threads: inference threads in all.
        streams: inferences the runtime runs at the same time.
        in_flight: requests submitted before the first is waited for (overlapped execution).
        graph_level: how much the runtime rewrites the graph; ``"default"``, for ONNX Runtime
            ``"disable"``, ``"basic"``, ``"extended"`` (all but another memory layout) or ``"all"``;
            ``"static"``, ``"static_basic"`` and ``"static_extended"`` fix the input's shape
            besides; for PyTorch ``"torchscript"``, ``"compile"``, on GPUs also
            ``"cuda_graph"``.
        channels_last: PyTorch's memory layout with the channels of a pixel side by side.
        arena: ONNX Runtime keeps memory that it once had; without, it holds less and asks more.
        hint: what OpenVINO plans for by itself. With ``"none"``, `streams` says how many
            inferences run at the same time; with ``"throughput"`` OpenVINO chooses, where more
            than one request is in flight.
    """

    precision: Precision = "fp32"
    threads: int | None = None
    streams: int = 1
    in_flight: int = 1
    graph_level: str = "default"
    spinning: bool = True
    channels_last: bool = False
    arena: bool = True
    hint: Hint = "none"


@dataclass(frozen=True)
class ResolutionPolicy:
    """Look small first, and at full size where that leaves a doubt.

    A frame is looked at again where the small look found a box whose score lies between the two
    limits, unless nothing has moved since a frame was last looked at in full: then what that look
    found is given again.

    Attributes:
        small_size: input size of the first look, pixels.
        doubt_above: boxes up to this score are taken for noise.
        sure_from: boxes from this score on are taken for certain.
        still_up_to: largest change of brightness of any part of the frame, from 0 to 1, that
            counts as nothing having moved. At 0 each frame is decided by itself, so that a video
            is treated as the single images that the policy was judged on.
    """

    small_size: int
    doubt_above: float
    sure_from: float
    still_up_to: float = 0.0


@dataclass(frozen=True)
class TrackerOptions:
    """How objects are followed from frame to frame, by ByteTrack.

    Attributes:
        high_score: boxes from here on are matched first; those below only continue tracks.
        new_track_score: a box that belongs to no track begins one from here on.
        match_iou: a box and a track's predicted box that overlap less are not matched.
        lost_frames: frames after which a track that was not seen ends.
        confirm_hits: detections in a row after which an object gets its id.
    """

    high_score: float = 0.6
    new_track_score: float = 0.7
    match_iou: float = 0.1
    lost_frames: int = 30
    confirm_hits: int = 2


@dataclass(frozen=True)
class PipelineConfig:
    """Everything that decides how frames become results.

    Attributes:
        shape: ``"square"`` pads every frame to ``input_size`` × ``input_size``; ``"rect"`` pads
            only as far as the stride asks, keeping the longer side at ``input_size``.
        margin: border in pixels that ``"rect"`` leaves at least, where the square had one.
        squeeze: factor on the longer side beyond ``input_size``; below 1 the aspect is changed.
        dynamic_resolution: when a frame is looked at in which size; None looks at all of them in
            ``input_size``.
        reader: plug-in name; who decodes the video.
        decode_threads: threads of the video decoder; ``None`` leaves its default.
        skip_loop_filter: leave out H.264's in-loop deblocking (changes pixels).
        resize: where frames are scaled: ``"bgr"`` after conversion of the full frame, ``"planes"``
            on the decoder's YUV planes and converted when small, ``"swscale"`` in FFmpeg's scaler.
        preprocessor: plug-in name; who turns pixels into the input tensor.
        nms: ``"loop"`` (one box after the other, as commonly written), ``"vectorized"``,
            ``"top_k"`` (the best candidates first, and more of them only as far as needed) or
            ``"graph"`` (a part of the model).
        masks: ``"whole"`` (every mask at the size of the frame, then cut off at its box, as
            commonly written) or ``"cropped"`` (only what lies in the box).
        argmax: how a segmenter's planes become class ids: ``"plain"`` (NumPy's argmax, as commonly
            written) or ``"running"`` (a running maximum, the same ids faster).
        execution: ``"sequential"`` or ``"overlapped"`` (stages run at the same time).
        queue_depth: decoded frames waiting at most, in overlapped execution.
        score_threshold: boxes below are dropped.
        iou_threshold: boxes of one class that overlap more are merged.
        max_detections: boxes kept per image.
        classes: ids of the classes that count; empty for all of them.
        tracker: how objects are followed from frame to frame; None where they are not.
        detect_every: the model looks at every so-manieth frame of a stream, and the tracker
            predicts the others.
        allocator: ``"frugal"`` tells the process's allocator to give memory back early, see
            `saccade.pipeline.allocator`.
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
    squeeze: float = 1.0
    dynamic_resolution: ResolutionPolicy | None = None
    reader: str = "opencv"
    decode_threads: int | None = None
    skip_loop_filter: bool = False
    resize: Resize = "bgr"
    preprocessor: str = "numpy"
    nms: str = "loop"
    masks: Masks = "whole"
    argmax: Argmax = "plain"
    execution: Execution = "sequential"
    queue_depth: int = 2
    score_threshold: float = 0.25
    max_detections: int = 300
    classes: tuple[int, ...] = ()
    tracker: TrackerOptions | None = None
    detect_every: int = 1
    allocator: Allocator = "default"

    @property
    def dynamic(self) -> bool:
        """Whether the model file takes any height and width as it is."""
        if self.model.format in ONE_SIZE:
            return False
        return self.description.input.dynamic or self.model.dynamic

    @property
    def model_mb(self) -> float:
        """Size on disk of the model, in 10^6 bytes."""
        return self.model.size_mb

    @property
    def slots(self) -> int:
        """Frames that overlapped execution works on at the same time, those in the queue too."""
        return max(2, self.options.in_flight + self.queue_depth)

    @property
    def frames_ahead(self) -> int:
        """Frames that may be under way behind the one that comes out; 0 in sequential execution."""
        # Those that the model does not look at take no slot.
        return self.slots * self.detect_every if self.execution == "overlapped" else 0

    @property
    def in_step(self) -> int:
        """Inferences that run at the same time, whose results may come out all at once."""
        return max(1, self.options.streams) if self.execution == "overlapped" else 1

    @property
    def hash(self) -> str:
        """Content hash: equal hash means equal behaviour.

        File paths are left out and file contents are in, so a moved model is the same model. How
        its weights are stored is in as well: runtimes go by that, and not by what they read.
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
        outputs = described.get("outputs")
        described["outputs"] = BoxOutputs(**outputs) if outputs else None
        data["model"] = ModelFile(**data["model"])
        data["description"] = ModelDescription(**described)
        data["options"] = RuntimeOptions(**data["options"])
        policy = data.get("dynamic_resolution")
        data["dynamic_resolution"] = ResolutionPolicy(**policy) if policy else None
        data["classes"] = tuple(data.get("classes", ()))
        tracker = data.get("tracker")
        data["tracker"] = TrackerOptions(**tracker) if tracker else None
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
    model = {key: document["model"][key] for key in ("sha256", "stored")}
    described = {k: v for k, v in document["description"].items() if k not in ("evidence",)}
    return {**document, "model": model, "description": described}
