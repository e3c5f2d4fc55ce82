"""What is known of a target: figures with their sources, its runtimes and their limits. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

# The two targets that are machines at hand: this one, and its NVIDIA GPU.
HERE = "cpu"
GPU_HERE = "cuda"

# What estimates know the size of.
Precision = Literal["fp32", "fp16", "bf16", "int8"]

# A key that is misspelt in a file must not be left out silently.
_STRICT: dict[str, Any] = {"extra": "forbid"}


@dataclass(frozen=True)
class Figure:
    """A number about hardware that somebody else has published.

    Attributes:
        value: in the unit that the field it stands in names.
        source: the document.
        derived: the arithmetic, where the document does not state the number itself.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    value: float
    source: str
    derived: str = ""

    def __post_init__(self) -> None:
        """Refuse what no hardware has, and what nobody has said.

        Raises:
            ValueError: the value is not above zero, or there is no source.
        """
        if not self.source.strip():
            raise ValueError("a figure needs the source that it is from")
        if not self.value > 0:
            raise ValueError(f"a figure must be above zero, got {self.value}")


@dataclass(frozen=True)
class Processor:
    """A part of a target that models run on.

    Attributes:
        model: what it is, for people.
        isa: instruction sets, or the compute capability.
        peak_gops: precision → 10^9 operations per second, dense; a multiply-accumulate is two.
        bandwidth_gbs: between it and the memory that holds the model, 10^9 bytes per second.
        cache_mb: on-chip memory in which weights may stay from one inference to the next, 10^6
            bytes.
        link: inputs and outputs also pass over ``bandwidth_gbs`` (an accelerator on a bus).
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    model: str
    isa: tuple[str, ...]
    peak_gops: Mapping[str, Figure]
    bandwidth_gbs: Figure
    cache_mb: Figure
    link: bool = False


@dataclass(frozen=True)
class RuntimeThere:
    """An inference runtime on a target.

    Attributes:
        processor: name of the processor it runs on.
        precisions: what it executes there.
        note: what to know about it there.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    processor: str
    precisions: tuple[Precision, ...]
    note: str = ""


@dataclass(frozen=True)
class RuntimeRules:
    """What a runtime takes, from its documentation.

    Attributes:
        title: its name for people.
        source: the document.
        formats: model formats it loads or converts from.
        dynamic_shapes: ``yes…`` or ``no…``, with what to know.
        refuses: ONNX operators it does not take.
        only: where not empty, the only ONNX operators it takes, and what they become.
        only_tflite: the same list in the names of ``.tflite`` files, where it has one.
        host_takes_the_rest: operators outside ``only`` run on the host instead.
        asymmetric_int8: why it refuses int8 with a zero point, empty where it does not.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    title: str
    source: str
    formats: tuple[str, ...]
    dynamic_shapes: str
    refuses: frozenset[str] = frozenset()
    only: Mapping[str, str] = field(default_factory=dict)
    only_tflite: frozenset[str] = frozenset()
    host_takes_the_rest: bool = False
    asymmetric_int8: str = ""


@dataclass(frozen=True)
class Target:
    """A machine that a system is made for, as far as documents describe it.

    Attributes:
        name: as it is written in a spec.
        title: what it is, for people.
        memory_mb: memory that holds the model, 10^6 bytes.
        shared_memory: the CPU and its system live in the same memory.
        memory_is_cache: the model may be larger, what does not fit is streamed.
        host_runtimes: runtimes of the machine that an accelerator is plugged into. Nothing is known
            of it, so they are measured beside the accelerator's and never estimated.
        processors: by name.
        runtimes: by name.
        refused_precisions: precision → why it makes no sense there.
        constraints: sentences for people.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    name: str
    title: str
    memory_mb: Figure
    shared_memory: bool
    processors: Mapping[str, Processor]
    runtimes: Mapping[str, RuntimeThere]
    refused_precisions: Mapping[Precision, str] = field(default_factory=dict)
    constraints: tuple[str, ...] = ()
    memory_is_cache: bool = False
    host_runtimes: tuple[str, ...] = ()

    def processor_of(self, runtime: str) -> Processor:
        """The processor that a runtime uses there."""
        return self.processors[self.runtimes[runtime].processor]
