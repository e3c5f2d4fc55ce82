"""Operator times of PyTorch sessions, from PyTorch's own profiler."""

from __future__ import annotations

from typing import Any

from saccade.errors import RuntimeFailure
from saccade.runtimes.contract import OperatorTime


class Profiling:
    """Profiles the inferences after the first, until the times are asked for.

    Args:
        wanted: as in `SessionRequest.profile`; without, nothing is done.
        device: ``"cpu"``, or ``"cuda"`` for the times that kernels take there.
    """

    def __init__(self, wanted: bool, device: str = "cpu") -> None:
        self._wanted = wanted
        self._on_gpu = device == "cuda"
        self._profiler: Any = None
        self._runs = 0
        self._operators: list[OperatorTime] | None = None

    def next_run(self) -> None:
        """Another inference begins. The first picks kernels; it says nothing about the others."""
        if self._wanted and self._profiler is None and self._runs > 0:
            self._start()
        self._runs += 1

    def _start(self) -> None:
        from torch import profiler

        activities = [profiler.ProfilerActivity.CPU]
        if self._on_gpu:
            activities.append(profiler.ProfilerActivity.CUDA)
        self._profiler = profiler.profile(activities=activities)
        self._profiler.start()
        self._runs = 0

    def operators(self) -> list[OperatorTime]:
        """Time in each kind of operator; ends the profiling.

        Raises:
            RuntimeFailure: none was wanted, or the model has not run twice.
        """
        from saccade.profile.torch_operators import parse_torch_profile

        if not self._wanted:
            raise RuntimeFailure("Operator times need a session that was opened with profile=True.")
        if self._operators is None:
            if self._profiler is None:
                raise RuntimeFailure(
                    "PyTorch's profile holds no run. Run the model at least twice before asking."
                )
            self._profiler.stop()
            averages = self._profiler.key_averages()
            self._operators = parse_torch_profile(averages, self._runs, on_gpu=self._on_gpu)
        return self._operators

    def stop(self) -> None:
        """End the profiling, if it goes on."""
        if self._profiler is not None and self._operators is None:
            self._profiler.stop()
            self._profiler = None
