"""`TrainingConfig`: a frozen value that says entirely how a job is trained, and its hash."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from saccade.pipeline.config import digest, library_versions

Cache = Literal["none", "memory", "disk"]
Decode = Literal["full", "scaled"]
DecodeLibrary = Literal["pillow", "opencv"]
Normalize = Literal["sample", "device"]
Precision = Literal["fp32", "bf16", "fp16"]
Allocator = Literal["default", "kept"]
Norms = Literal["torch", "fused"]
Strategy = Literal["single", "ddp", "fsdp"]


@dataclass(frozen=True)
class JobReference:
    """Which job it is: what the user named, and the hash of what that was.

    Attributes:
        name: a Python file, or what another kind of job is called by.
        kind: plug-in name of the kind of job.
        sha256: of the file's content, or of what else defines the job.
        settings: of kinds that need more than a name, such as ``data`` and ``task``.
    """

    name: str
    kind: str
    sha256: str
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LoaderSettings:
    """How samples become batches.

    Attributes:
        backend: plug-in name; who makes the batches.
        workers: processes (or threads, as the backend has it) that prepare samples; 0 prepares
            them in the training loop itself.
        prefetch: batches that each worker keeps ready.
        persistent: workers outlive the epoch.
        pinned: batches stand in page-locked memory, from which a GPU copies by itself.
        cache: where decoded samples are kept after they were read once.
        resized: they are kept after the resizing with which the transforms begin.
        decode: ``"scaled"`` decodes JPEGs no larger than the transforms need.
        normalize: ``"device"`` hands pixels over as uint8 and normalizes the whole batch.
        vectorized_collate: batches are written in place instead of stacked.
        decoder: library that decodes image files.
        shards: image files are read from an indexed copy in a few large files.
        store: folder where caches on disk and shards are kept; empty for a temporary one, which
            ends with the process. Where it is does not change how a job trains: no part of the
            hash.
    """

    backend: str = "torch"
    workers: int = 0
    prefetch: int = 2
    persistent: bool = False
    pinned: bool = False
    cache: Cache = "none"
    resized: bool = False
    decode: Decode = "full"
    normalize: Normalize = "sample"
    vectorized_collate: bool = False
    decoder: DecodeLibrary = "pillow"
    shards: bool = False
    store: str = ""


@dataclass(frozen=True)
class ComputeSettings:
    """How a step is computed.

    Attributes:
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
        precision: of autocast; ``"fp32"`` is without it.
        tf32: matrix products and convolutions of fp32 may use TF32 on GPUs that have it; off
            leaves what PyTorch and the job's file say, which is convolutions alone by default.
        channels_last: memory layout of weights and images.
        compile: mode of ``torch.compile``, empty for eager execution.
        fused_optimizer: the optimizer updates all parameters in one kernel.
        autotune: cuDNN tries its algorithms on the first step of each shape; off likewise.
        checkpointing: activations are computed again in the backward pass instead of kept.
        threads: of PyTorch's operators; None leaves its default.
        allocator: ``"kept"`` keeps the memory of freed tensors on the CPU in the process, see
            `saccade.pipeline.allocator`.
        norms: ``"fused"`` lets batch normalization and the ReLU behind it run in the kernels of
            `saccade.train.norms`, on the CPU.
    """

    device: str = "cpu"
    precision: Precision = "fp32"
    tf32: bool = False
    channels_last: bool = False
    compile: str = ""
    fused_optimizer: bool = False
    autotune: bool = False
    checkpointing: bool = False
    threads: int | None = None
    allocator: Allocator = "default"
    norms: Norms = "torch"


@dataclass(frozen=True)
class BatchSettings:
    """How many samples make a step.

    Attributes:
        size: samples of one forward pass.
        accumulation: forward passes of one optimizer step; the effective batch is the product.
        learning_rate_scale: factor on the job's learning rates.
    """

    size: int = 8
    accumulation: int = 1
    learning_rate_scale: float = 1.0

    @property
    def effective(self) -> int:
        """Samples of one optimizer step (on one process)."""
        return self.size * self.accumulation


@dataclass(frozen=True)
class ScaleSettings:
    """How many processes train, and how they share the model.

    Attributes:
        processes: on this machine.
        nodes: machines.
        strategy: ``"single"``, ``"ddp"`` (a copy each) or ``"fsdp"`` (a share each).
        offload: shares of ``"fsdp"`` rest in the CPU's memory while a GPU does not need them.
    """

    processes: int = 1
    nodes: int = 1
    strategy: Strategy = "single"
    offload: bool = False

    @property
    def world(self) -> int:
        """Processes in all."""
        return self.processes * self.nodes


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides how a job is trained.

    Attributes:
        model_change: plug-in name of a change of the architecture, empty for the job's own model.
        max_corrupt: share of the samples that may be unreadable before training is refused.
        seed: of the weights, of the order of samples and of their augmentation.
        deterministic: only operations that give the same bits every time.
    """

    job: JobReference
    loader: LoaderSettings = field(default_factory=LoaderSettings)
    compute: ComputeSettings = field(default_factory=ComputeSettings)
    batch: BatchSettings = field(default_factory=BatchSettings)
    scale: ScaleSettings = field(default_factory=ScaleSettings)
    model_change: str = ""
    max_corrupt: float = 0.01
    seed: int = 0
    deterministic: bool = False

    @property
    def hash(self) -> str:
        """Content hash: equal hash means equal behaviour."""
        document = self.to_dict()
        document["job"] = {"sha256": self.job.sha256, "settings": dict(self.job.settings)}
        del document["loader"]["store"]
        return digest({**document, "versions": library_versions()})

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready document; `from_dict` is its inverse."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> TrainingConfig:
        """The inverse of `to_dict`, also after a trip through JSON."""
        return cls(
            **{
                **document,
                "job": JobReference(**document["job"]),
                "loader": LoaderSettings(**document["loader"]),
                "compute": ComputeSettings(**document["compute"]),
                "batch": BatchSettings(**document["batch"]),
                "scale": ScaleSettings(**document["scale"]),
            }
        )

    def with_loader(self, **values: Any) -> TrainingConfig:
        """The same with other loader settings."""
        return dataclasses.replace(self, loader=dataclasses.replace(self.loader, **values))

    def with_compute(self, **values: Any) -> TrainingConfig:
        """The same with other compute settings."""
        return dataclasses.replace(self, compute=dataclasses.replace(self.compute, **values))

    def with_batch(self, **values: Any) -> TrainingConfig:
        """The same with other batch settings."""
        return dataclasses.replace(self, batch=dataclasses.replace(self.batch, **values))

    def with_scale(self, **values: Any) -> TrainingConfig:
        """The same with other scale settings."""
        return dataclasses.replace(self, scale=dataclasses.replace(self.scale, **values))
