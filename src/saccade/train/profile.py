"""`TrainingProfile`: where a step's time goes. Pure values, made by `saccade.profile.training`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from saccade.runtimes.contract import OperatorTime
from saccade.train.config import TrainingConfig
from saccade.train.records import LoaderBlock, TrainingBlock
from saccade.train.samples import Corrupt

# How a `Synchronisation` names a call that prints.
PRINT = "print"


@dataclass(frozen=True)
class SampleFacts:
    """What samples are made of, from a look at a few of them.

    Attributes:
        samples: in the training split.
        jpeg: share 0-1 of the image files in them that are JPEGs.
        file_kb: mean size of a sample's files, 10^3 bytes.
        decoded_mb: mean size of a decoded sample, 10^6 bytes.
        resized_mb: the same after the resizing with which the transforms begin.
        source_hw: median height and width of the images, pixels; None without images.
        input_hw: height and width of what the transforms make of them; None where it has none.
        scalable: how much smaller, 1/2, 1/4 or 1/8, images may be decoded and still be no smaller
            than what the transforms take of them; 1.0 where they must be decoded whole.
        refusals: change of how data is loaded → why the job's samples or transforms do not allow
            it; found by trying it on a few samples.
    """

    samples: int
    jpeg: float = 0.0
    file_kb: float = 0.0
    decoded_mb: float = 0.0
    resized_mb: float = 0.0
    source_hw: tuple[int, int] | None = None
    input_hw: tuple[int, int] | None = None
    scalable: float = 1.0
    refusals: Mapping[str, str] = field(default_factory=dict)

    @property
    def cache_mb(self) -> float:
        """All decoded samples together."""
        return self.decoded_mb * self.samples


@dataclass(frozen=True)
class ModelFacts:
    """What a model and its optimizer are made of; None where nobody has looked.

    Attributes:
        optimizer: class name.
        fusable: the optimizer has a fused form that it does not use yet.
        layers: modules with weights of their own.
        dense_convolutions: 2D convolutions of 3×3 and more that mix all channels.
        batch_norm: something normalizes over the batch.
        blocks: parts whose activations can be computed again instead of being kept.
    """

    optimizer: str | None = None
    fusable: bool | None = None
    layers: int | None = None
    dense_convolutions: int | None = None
    batch_norm: bool | None = None
    blocks: int | None = None


@dataclass(frozen=True)
class Synchronisation:
    """A place where Python asks for a value and waits for the device to have it, or prints.

    Attributes:
        operator: what was called, such as ``Tensor.item`` or ``print``.
        where: file and line in the user's code, empty where unknown.
        per_step: calls of it in a step; in the loader and the metric, for one batch.
        function: name of the user's function that calls it.
        wait_ms: a step waits in it, as far as the watched steps tell.
        device: device of the tensor, ``"cpu"`` where nothing has to be waited for.
        part: where it was seen: in a ``"step"``, in the ``"loader"``, or in the ``"metric"``.
        within_output: it was asked for by printing or logging, whose time it is a part of.
    """

    operator: str
    where: str
    per_step: float
    function: str = ""
    wait_ms: float = 0.0
    device: str = "cpu"
    part: str = "step"
    within_output: bool = False

    @property
    def prints(self) -> bool:
        """Whether it is a print, which reads no value by itself."""
        return self.operator == PRINT


@dataclass(frozen=True)
class SampleScan:
    """Samples that were looked at for being readable, in random order.

    Attributes:
        scanned: how many.
        broken: those that cannot be read.
    """

    scanned: int
    broken: tuple[Corrupt, ...] = ()


@dataclass(frozen=True)
class BusyMoment:
    """How busy the machine was at one moment.

    Attributes:
        t_s: seconds since the watching began.
        cpu: share 0-1 of the usable cores' time, all processes.
        gpu: share 0-1 of the GPU's; None without one.
    """

    t_s: float
    cpu: float
    gpu: float | None = None


@dataclass(frozen=True)
class TrainingProfile:
    """Where the time of a training goes.

    Attributes:
        config_hash: of the configuration that was profiled.
        block: steady steps, measured without any profiler.
        synthetic: the same on one cached batch: compute without loading.
        loader: the loader alone: loading without compute.
        facts: what samples are made of.
        operators: of one step, slowest first: on a GPU its kernels, else calls into PyTorch.
        syncs: where the loop waits for single values.
        recompilations: of ``torch.compile`` after the warm-up.
        memory_mb: category → 10^6 bytes: ``parameters``, ``gradients``, ``optimizer``,
            ``activations``, ``batch``.
        ranks_ms: of each process that trains, where there are several, mean time of a step
            without the backward pass, in which it waits for the others.
        overhead: share by which profiled steps were slower than unprofiled ones.
        effective_cores: cores that the process may use.
        config: the configuration; None where it is not known.
        warmup: steps before ``block``, kept apart.
        graph_breaks: of ``torch.compile``, in the whole model.
        launches: operators (on a GPU kernels) that one step starts.
        operators_share: share 0-1 of profiled steps in which any of ``operators`` ran.
        device_ms: the GPU runs kernels in one step; None without one.
        scaled_ms: batch size → fastest of a few steps on that many samples, without loading.
        memory_limit_mb: of the device that trains, 10^6 bytes; 0 where it is not known.
        scan: of the samples; None where none was made.
        busy: of the machine, over time.
        missing: passes that could not be made → why.
        model: what the model is made of, from `TrainingSubject.model_facts`.
    """

    config_hash: str
    block: TrainingBlock
    synthetic: TrainingBlock
    loader: LoaderBlock | None
    facts: SampleFacts
    operators: tuple[OperatorTime, ...] = ()
    syncs: tuple[Synchronisation, ...] = ()
    recompilations: int = 0
    memory_mb: Mapping[str, float] = field(default_factory=dict)
    ranks_ms: tuple[float, ...] = ()
    overhead: float | None = None
    effective_cores: int = 1
    config: TrainingConfig | None = None
    warmup: TrainingBlock | None = None
    graph_breaks: int = 0
    launches: float = 0.0
    operators_share: float = 0.0
    device_ms: float | None = None
    scaled_ms: Mapping[int, float] = field(default_factory=dict)
    memory_limit_mb: float = 0.0
    scan: SampleScan | None = None
    busy: tuple[BusyMoment, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)
    model: ModelFacts = field(default_factory=ModelFacts)

    @property
    def data_share(self) -> float:
        """Share 0-1 of a step that waits for its batch."""
        return self.block.share("data")

    @property
    def loading_bound(self) -> float:
        """How many times faster steps would be if batches were always there."""
        per_sample = self.block.wall_s / self.block.samples
        ideal = self.synthetic.wall_s / self.synthetic.samples
        return max(1.0, per_sample / ideal)
