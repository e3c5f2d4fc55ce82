"""Exported PyTorch programs to ExecuTorch's format, lowered to XNNPACK."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterator
from typing import Any

from saccade.errors import MissingExtraError, ModelError

# ExecuTorch names an operator that has no kernel on devices in a set of "missing out variants", or
# as one outside of its core set.
_MISSING = re.compile(r"Missing out variants: \{([^}]*)\}|Operator (?:torch\._ops\.)?(aten[\w.]+)")


def lowered(program: Any, name: str) -> bytes:
    """The bytes of a ``.pte`` file; what XNNPACK cannot run stays with ExecuTorch's own kernels.

    Args:
        program: a ``torch.export.ExportedProgram`` of fixed input size.
        name: of the model, for messages.

    Raises:
        ModelError: it cannot be lowered; the operator is named.
        MissingExtraError: executorch is not installed.
    """
    try:
        with quiet():
            from executorch.backends.xnnpack.partition.xnnpack_partitioner import (
                XnnpackPartitioner,
            )
            from executorch.exir import to_edge_transform_and_lower
    except ImportError as error:
        raise MissingExtraError(
            "executorch", "executorch", "Making an ExecuTorch program"
        ) from error
    try:
        with quiet():
            edge = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
            return bytes(edge.to_executorch().buffer)
    except Exception as error:
        raise ModelError(_refusal(name, str(error), type(error).__name__)) from error


def _refusal(name: str, said: str, kind: str) -> str:
    found = _MISSING.search(said)
    lines = said.strip().splitlines() or [kind]
    cause = f"it has no kernel for {found[1] or found[2]}" if found else lines[0][:300]
    return (
        f"{name} cannot be made into an ExecuTorch program: {cause}. It still runs in PyTorch; "
        "replace that operator, or use another runtime."
    )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What the libraries say about their own insides helps nobody who converts a model."""
    logging.getLogger("torch").setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
