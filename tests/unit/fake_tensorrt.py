"""A stand-in for the ``tensorrt`` package, of any version: it doubles what it is given.

What it has and what it lacks follows NVIDIA's API references: tensors have names since 8.5, and
11 has neither precision flags nor calibrators.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

SHAPE = (1, 3, 4, 4)
PREFIX = b"engine "
NAMES = ("images", "output0")


class FakeEngine:
    """Input and output of one shape; tensors by name or by number."""

    def __init__(self, named: bool) -> None:
        if named:
            self.num_io_tensors = len(NAMES)
            self.get_tensor_name = NAMES.__getitem__
            self.get_tensor_mode = lambda n: f"TensorIOMode.{'INPUT' if n == 'images' else 'OUT'}"
            self.get_tensor_dtype = lambda name: "DataType.FLOAT"
            self.get_tensor_shape = lambda name: SHAPE
        else:
            self.num_bindings = len(NAMES)
            self.get_binding_name = NAMES.__getitem__
            self.binding_is_input = lambda index: index == 0
            self.get_binding_dtype = lambda index: "DataType.FLOAT"
            self.get_binding_shape = lambda index: SHAPE
        self.named = named

    def create_execution_context(self) -> Any:
        """What runs it."""
        return FakeContext(self.named)


class FakeContext:
    """Doubles the input in memory that it was told the place of."""

    def __init__(self, named: bool) -> None:
        self.places: dict[str, int] = {}
        if named:
            self.set_tensor_address = self.places.__setitem__
            self.execute_async_v3 = lambda stream: self._double(self.places)
        else:
            self.execute_async_v2 = lambda bindings, stream: self._double(
                dict(zip(NAMES, bindings, strict=True))
            )

    @staticmethod
    def _double(places: dict[str, int]) -> bool:
        size = int(np.prod(SHAPE))
        given, made = (
            np.ctypeslib.as_array((ctypes.c_float * size).from_address(places[name]))
            for name in NAMES
        )
        made[:] = 2 * given
        return True


class FakeCuda:
    """The CUDA runtime library, with the machine's own memory in the place of the GPU's."""

    def __init__(self) -> None:
        self.held: list[Any] = []

    def cudaStreamCreate(self, stream: Any) -> int:  # noqa: N802 - CUDA's name
        """No stream is needed."""
        return 0

    def cudaStreamSynchronize(self, stream: Any) -> int:  # noqa: N802 - CUDA's name
        """Nothing to wait for."""
        return 0

    def cudaMalloc(self, place: Any, size: Any) -> int:  # noqa: N802 - CUDA's name
        """Memory that is held as long as this is."""
        self.held.append(ctypes.create_string_buffer(size.value))
        place._obj.value = ctypes.addressof(self.held[-1])
        return 0

    def cudaMemcpy(self, target: Any, source: Any, size: Any, kind: int) -> int:  # noqa: N802
        """A copy."""
        ctypes.memmove(target, source, size.value)
        return 0


class FakeConfig:
    """Notes what was asked for."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self.flags: list[str] = []
        self.timings: bytes | None = None
        self.set_flag = self.flags.append
        if module.workspace_pools:
            self.set_memory_pool_limit = lambda pool, size: module.log.append(("pool", size))

    def create_timing_cache(self, content: bytes) -> Any:
        """None for what is no cache, as TensorRT does."""
        broken = content and not content.startswith(b"timings")
        return None if broken else SimpleNamespace(content=content)

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        """Takes any."""
        self.timings = cache.content
        return True

    def get_timing_cache(self) -> Any:
        """With one kernel more."""
        return SimpleNamespace(serialize=lambda: b"timings" + (self.timings or b"")[7:] + b"+")

    def add_optimization_profile(self, profile: Any) -> None:
        """Notes its shapes."""
        self._module.log.append(("profile", profile.shapes))


def fake_tensorrt(
    version: str = "10.3.0",
    *,
    named: bool = True,
    workspace_pools: bool = True,
    flags: tuple[str, ...] = ("FP16", "INT8"),
    refuses: str = "",
    builds: bool = True,
    shape: tuple[int, ...] = SHAPE,
) -> Any:
    """The module.

    Args:
        version: its version.
        named: tensors have names.
        workspace_pools: memory is limited by pools.
        flags: precisions that can be asked for.
        refuses: what the parser says of every model, empty where it takes it.
        builds: whether the builder makes an engine.
        shape: of a model's input.
    """
    module: Any = ModuleType("tensorrt")
    module.__version__, module.workspace_pools, module.log = version, workspace_pools, []
    module.Logger = lambda level: None
    module.Logger.ERROR = module.Logger.WARNING = 1  # type: ignore[attr-defined]
    module.MemoryPoolType = SimpleNamespace(WORKSPACE="workspace")
    module.BuilderFlag = SimpleNamespace(**{flag: flag for flag in flags})
    module.NetworkDefinitionCreationFlag = SimpleNamespace(EXPLICIT_BATCH=0)
    module.IInt8EntropyCalibrator2 = object

    class Builder:
        def __init__(self, logger: Any) -> None:
            self.configs: list[FakeConfig] = []

        def create_network(self, flags: int) -> Any:
            return SimpleNamespace(get_input=lambda index: SimpleNamespace(shape=shape))

        def create_builder_config(self) -> FakeConfig:
            return FakeConfig(module)

        def create_optimization_profile(self) -> Any:
            profile = SimpleNamespace(shapes=None)
            profile.set_shape = lambda *shapes: setattr(profile, "shapes", shapes)
            return profile

        def build_serialized_network(self, network: Any, config: FakeConfig) -> bytes | None:
            module.log.append(("build", tuple(config.flags), config.timings))
            module.config = config
            return PREFIX + "+".join(config.flags).encode() if builds else None

    class OnnxParser:
        num_errors = 1

        def __init__(self, network: Any, logger: Any) -> None:
            pass

        def parse_from_file(self, path: str) -> bool:
            return Path(path).is_file() and not refuses

        def parse(self, content: bytes) -> bool:
            return not refuses

        def get_error(self, index: int) -> str:
            return refuses

    class Runtime:
        def __init__(self, logger: Any) -> None:
            pass

        def deserialize_cuda_engine(self, content: bytes) -> FakeEngine | None:
            return FakeEngine(named) if content.startswith(PREFIX) else None

    module.Builder, module.OnnxParser, module.Runtime = Builder, OnnxParser, Runtime
    return module
