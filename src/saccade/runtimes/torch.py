"""PyTorch on the CPU: eager, channels_last, autocast, frozen TorchScript, ``torch.compile``."""

from __future__ import annotations

import contextlib
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.errors import MissingExtraError, RuntimeFailure, first_line
from saccade.models.torch_nms import suppressed
from saccade.models.torch_program import flat, leaves
from saccade.runtimes.contract import (
    Availability,
    OperatorTime,
    Runtime,
    Session,
    SessionRequest,
    check_precision,
)
from saccade.runtimes.pooled import PooledSession, checked
from saccade.runtimes.torch_int8 import compiled_int8
from saccade.runtimes.torch_loading import (
    FORMATS,
    Forward,
    Preparation,
    import_torch,
    load,
    optimized,
)
from saccade.runtimes.torch_profiling import Profiling

PRECISIONS = ("fp32", "bf16")
BF16_FLAGS = frozenset(("avx512_bf16", "amx_bf16", "bf16"))


class Torch(Runtime):
    """PyTorch's CPU backend."""

    name = "torch"

    @staticmethod
    def availability() -> Availability:
        """Whether the package is installed; does not load it, which takes seconds."""
        try:
            installed = version("torch")
        except PackageNotFoundError:
            return Availability(False, detail="not installed", extra="torch", formats=FORMATS)
        from saccade.environment import detect

        fast = PRECISIONS if BF16_FLAGS & set(detect().isa_flags) else ("fp32",)
        return Availability(True, installed, f"CPU, {', '.join(fast)}", "torch", fast, FORMATS)

    @staticmethod
    def open(request: SessionRequest) -> Session:
        """Load an exported program.

        Raises:
            MissingExtraError: torch is not installed.
            RuntimeFailure: the program or the options were refused.
        """
        return TorchSession(request)


class TorchSession(PooledSession):
    """A module, called from the pool's threads."""

    def __init__(self, request: SessionRequest) -> None:
        super().__init__(request, "PyTorch")
        check_precision(request.options, PRECISIONS, "PyTorch on the CPU")
        self._torch: Any = import_torch("The PyTorch runtime")
        self._options = request.options
        self._pre = request.graph_preprocessing
        if self.threads is not None:
            self._torch.set_num_threads(self.threads)
        self._prepare = Preparation(self._pre, request.options.channels_last)
        loaded = load(request)
        self._suppression = loaded.suppression
        self._forward: Forward | None = self._optimized(loaded.module, request.input_hw)
        self._profiling = Profiling(request.profile)

    def _optimized(self, module: Any, input_hw: tuple[int, int] | None) -> Forward:
        level = self._options.graph_level
        try:
            if level == "compile" and self._request.model.quantized:
                return compiled_int8(module, self._prepared(input_hw), self._autocast)
            return optimized(module, level, self._example(input_hw), self._autocast)
        except MissingExtraError:
            raise
        except Exception as error:
            raise RuntimeFailure(f"PyTorch refused '{level}': {first_line(error)}") from error

    def _example(self, input_hw: tuple[int, int] | None) -> Any:
        if input_hw is None:
            return None
        plain = Preparation(None, self._options.channels_last)
        return plain(self._torch.zeros(1, 3, *input_hw))

    def _prepared(self, input_hw: tuple[int, int] | None) -> Any:
        """An example made as inputs are: what is compiled for it is compiled for them."""
        if input_hw is None:
            return None
        image = (1, 3, *input_hw) if self._pre is None else (1, *input_hw, 3)
        pixels = np.zeros(image, np.float32 if self._pre is None else np.uint8)
        tensor = self._torch.from_numpy(pixels)
        with self._torch.inference_mode():
            return self._prepare(tensor)

    def _autocast(self) -> Any:
        if self._options.precision == "fp32":
            return contextlib.nullcontext()
        # Cached casts outlive the trace and would be baked into it.
        return self._torch.autocast("cpu", self._torch.bfloat16, cache_enabled=False)

    def _run(self, tensor: NDArray[Any]) -> list[NDArray[np.float32]]:
        assert self._forward is not None
        checked(tensor, self._pre, "PyTorch")
        self._profiling.next_run()
        image = self._torch.from_numpy(tensor)
        try:
            with self._torch.inference_mode():
                prepared = self._prepare(image)
                with self._autocast():
                    outputs = leaves(self._forward(prepared))
                if self._suppression is not None:
                    outputs = [suppressed(outputs, self._suppression)]
                return flat(outputs)
        except Exception as error:
            raise RuntimeFailure(f"PyTorch failed to run: {first_line(error)}") from error

    def operators(self) -> list[OperatorTime]:
        """Time in each kind of operator, from PyTorch's own profiler; ends the profiling."""
        return self._profiling.operators()

    def _drop(self) -> None:
        self._forward = None
        self._profiling.stop()
