"""``torch.compile`` in a training: where it keeps its work, and what it needs."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from saccade.errors import RuntimeFailure
from saccade.train.config import ComputeSettings

FOLDER = "compiled"
# Modes that record a step as a CUDA graph, and the same without one.
WITHOUT_GRAPHS = {"reduce-overhead": "default", "max-autotune": "max-autotune-no-cudagraphs"}
# The one that Inductor calls where $CXX names none.
COMPILER = "clang++" if sys.platform == "darwin" else "g++"


def compiler_environment(folder: Path) -> dict[str, str]:
    """Variables of a worker process with which it finds what earlier workers compiled.

    Args:
        folder: of the run.
    """
    return {"TORCHINDUCTOR_CACHE_DIR": str(folder / FOLDER)}


def is_warm(folder: Path) -> bool:
    """Whether something was compiled in this run before."""
    place = folder / FOLDER
    return place.is_dir() and any(place.iterdir())


def why_not_compiled(device: str) -> str | None:
    """None where ``torch.compile`` finds what it needs on this machine, else what is missing."""
    wanted = os.environ.get("CXX") or COMPILER
    if shutil.which(wanted) is None:
        return f"no C++ compiler: {wanted} not found (Debian, Ubuntu: apt-get install g++)"
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").is_file():
        return "Python's headers are missing (Debian, Ubuntu: apt-get install python3-dev)"
    if device.startswith("cuda"):
        from importlib.util import find_spec

        if find_spec("triton") is None:
            return "Triton is not installed (pip install triton)"
    return None


def compiled(model: Any, settings: ComputeSettings) -> Any:
    """What is called in a step: the model, or its compiled form (which shares its weights)."""
    import torch

    if not settings.compile:
        return model
    return torch.compile(model, mode=None if settings.compile == "default" else settings.compile)


class CompiledLoss:
    """A job's loss as one compiled graph, or as it is where it is none.

    A loss that prints, counts its calls or reads a value cannot be one graph. Nothing of it has
    been executed by the time that is found.
    """

    def __init__(self, loss: Callable[[Any, Any], Any], settings: ComputeSettings) -> None:
        import torch

        # The graph of a step would write over the loss before it is read.
        mode = WITHOUT_GRAPHS.get(settings.compile, settings.compile)
        self._plain = loss
        self._loss = torch.compile(loss, fullgraph=True, mode=None if mode == "default" else mode)

    def __call__(self, output: Any, target: Any) -> Any:
        """The loss of a batch."""
        from torch._dynamo.exc import TorchDynamoException
        from torch._inductor.exc import InductorError

        if self._loss is self._plain:
            return self._plain(output, target)
        try:
            return self._loss(output, target)
        except (TorchDynamoException, InductorError):
            self._loss = self._plain
            return self._plain(output, target)


def loss_of(loss: Callable[[Any, Any], Any], settings: ComputeSettings) -> Callable[..., Any]:
    """What is called in a step: the job's loss, compiled where the model is."""
    return CompiledLoss(loss, settings) if settings.compile else loss


@contextlib.contextmanager
def compile_errors(settings: ComputeSettings) -> Iterator[None]:
    """Errors of the compiler as a refusal in plain words; all others pass.

    Raises:
        RuntimeFailure: the model cannot be compiled.
    """
    if not settings.compile:
        yield
        return
    from torch._dynamo.exc import TorchDynamoException
    from torch._inductor.exc import InductorError

    try:
        yield
    except (TorchDynamoException, InductorError) as error:
        # The first line names who raised it, the second what it said.
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        said = " ".join(lines[:2])
        raise RuntimeFailure(
            f"torch.compile cannot compile this model: {type(error).__name__}: {said[:300]}. Train "
            "without it, or change the code that it names."
        ) from error


def begin_pass(settings: ComputeSettings) -> None:
    """Tell CUDA graphs that what the last pass answered is not needed any more."""
    if settings.compile in WITHOUT_GRAPHS:
        import torch

        torch.compiler.cudagraph_mark_step_begin()
