"""PyTorch on the CPU: eager, channels_last, autocast, frozen TorchScript, ``torch.compile``."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.errors import MissingExtraError, ModelError, RuntimeFailure
from saccade.models.description import Preprocessing
from saccade.models.torch_program import flat, read_program
from saccade.runtimes.contract import (
    Availability,
    OperatorTime,
    Runtime,
    Session,
    SessionRequest,
    first_line,
)
from saccade.runtimes.pooled import PooledSession, checked

FORMATS = ("torch_export",)
BF16_FLAGS = frozenset(("avx512_bf16", "amx_bf16", "bf16"))
GRAPH_LEVELS = ("default", "torchscript", "compile")
Forward = Callable[[Any], Any]


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

        fast = ("fp32", "bf16") if BF16_FLAGS & set(detect().isa_flags) else ("fp32",)
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
        try:
            import torch
        except ImportError as error:
            raise MissingExtraError("torch", "torch", "The PyTorch runtime") from error
        self._torch: Any = torch
        self._options = request.options
        self._pre = request.graph_preprocessing
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        self._forward: Forward | None = self._prepared(request)
        self._profiler: Any = None
        self._runs = 0
        self._operators: list[OperatorTime] | None = None

    def _prepared(self, request: SessionRequest) -> Forward:
        torch, options = self._torch, request.options
        if request.model.format not in FORMATS:
            raise RuntimeFailure(
                f"PyTorch cannot run a model in {request.model.format} format; it takes programs "
                "saved by torch.export (.pt2)."
            )
        try:
            program = read_program(request.model.path)
        except ModelError as error:
            raise RuntimeFailure(str(error)) from error
        # Guards look at values, which a trace would take for part of the model.
        module = program.module(check_guards=options.graph_level == "default")
        if options.channels_last:
            module = module.to(memory_format=torch.channels_last)
        try:
            return self._optimized(module, request.input_hw)
        except Exception as error:
            raise RuntimeFailure(
                f"PyTorch refused '{options.graph_level}': {first_line(error)}"
            ) from error

    def _optimized(self, module: Any, input_hw: tuple[int, int] | None) -> Forward:
        torch, level = self._torch, self._options.graph_level
        if level not in GRAPH_LEVELS:
            raise RuntimeFailure(f"unknown; known: {', '.join(GRAPH_LEVELS)}")
        if level == "compile":
            compiled: Forward = torch.compile(module)
            return compiled
        if level == "torchscript":
            if input_hw is None:
                raise RuntimeFailure("a trace is made for one input size, and none was given")
            return self._traced(module, torch.zeros(1, 3, *input_hw))
        forward: Forward = module
        return forward

    def _traced(self, module: Any, example: Any) -> Forward:
        """A trace whose weights are constants, which lets PyTorch fold and fuse."""
        torch = self._torch
        with torch.inference_mode(), self._autocast(), warnings.catch_warnings():
            # The program is traced for its one shape, which is what the warnings are about.
            warnings.simplefilter("ignore")
            traced = torch.jit.trace(module, self._laid_out(example), check_trace=False)
            frozen: Forward = torch.jit.optimize_for_inference(torch.jit.freeze(traced.eval()))
        return frozen

    def _autocast(self) -> Any:
        if self._options.precision == "fp32":
            return contextlib.nullcontext()
        # Cached casts outlive the trace and would be baked into it.
        return self._torch.autocast("cpu", self._torch.bfloat16, cache_enabled=False)

    def _laid_out(self, tensor: Any) -> Any:
        if not self._options.channels_last:
            return tensor
        return tensor.contiguous(memory_format=self._torch.channels_last)

    def _run(self, tensor: NDArray[Any]) -> list[NDArray[np.float32]]:
        assert self._forward is not None
        checked(tensor, self._pre, "PyTorch")
        self._start_profiling()
        self._runs += 1
        image = self._torch.from_numpy(tensor)
        if self._pre is not None:
            image = self._preprocessed(image, self._pre)
        try:
            with self._torch.inference_mode(), self._autocast():
                return flat(self._forward(self._laid_out(image)))
        except Exception as error:
            raise RuntimeFailure(f"PyTorch failed to run: {first_line(error)}") from error

    def _preprocessed(self, image: Any, pre: Preprocessing) -> Any:
        """``(1, 3, H, W)`` float32 of ``(1, H, W, 3)`` uint8, in the model's channel order."""
        planes = image.permute(0, 3, 1, 2).float()
        mean, std = (self._torch.tensor(v).view(1, 3, 1, 1) for v in (pre.mean, pre.std))
        return (planes * pre.scale - mean) / std

    def _start_profiling(self) -> None:
        """The first inference picks kernels; it says nothing about the next ones."""
        if not self._request.profile or self._profiler is not None or self._runs == 0:
            return
        profiler = self._torch.profiler
        self._profiler = profiler.profile(activities=[profiler.ProfilerActivity.CPU])
        self._profiler.start()
        self._runs = 0

    def operators(self) -> list[OperatorTime]:
        """Time in each kind of operator, from PyTorch's own profiler; ends the profiling."""
        from saccade.profile.torch_operators import parse_torch_profile

        if not self._request.profile:
            raise RuntimeFailure("Operator times need a session that was opened with profile=True.")
        if self._operators is None:
            if self._profiler is None:
                raise RuntimeFailure(
                    "PyTorch's profile holds no run. Run the model at least twice before asking."
                )
            self._profiler.stop()
            self._operators = parse_torch_profile(self._profiler.key_averages(), self._runs)
        return self._operators

    def _drop(self) -> None:
        self._forward = None
        if self._profiler is not None and self._operators is None:
            self._profiler.stop()
            self._profiler = None
