"""Compare a converted model, run by the runtime that it is for, with the original."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.errors import ModelError, RuntimeFailure
from saccade.models.equivalence import TOLERANCE, check_same
from saccade.pipeline.config import ModelFile, RuntimeOptions
from saccade.runtimes.contract import Runtime, SessionRequest

# All outputs of a model on one input ``(1, 3, H, W)``.
Forward = Callable[[NDArray[np.float32]], Sequence[NDArray[Any]]]
# A sentence on the layers that differ on such an input.
Where = Callable[[NDArray[np.float32]], str]


def check_converted(
    original: Forward,
    converted: ModelFile,
    runtime: type[Runtime],
    inputs: NDArray[np.float32],
    where: Where | None = None,
    tolerance: float = TOLERANCE,
) -> None:
    """Refuse a converted model that does not run, or answers differently.

    Args:
        original: runs the original.
        converted: the file that was made.
        runtime: what the file is for.
        inputs: real inputs ``(N, 3, H, W)``.
        where: finds the layers that differ; asked only where the outputs do.
        tolerance: largest difference, as a share of the output's largest value.

    Raises:
        ModelError: as said; the message has the numbers.
    """
    what = f"The {converted.format} model made from it"
    height, width = inputs.shape[2:]
    request = SessionRequest(converted, (height, width), RuntimeOptions(), "images")
    try:
        session = runtime.open(request)
    except RuntimeFailure as error:
        raise ModelError(f"{what} cannot be loaded: {error}") from error
    try:
        for tensor in inputs:
            image = np.ascontiguousarray(tensor[None])
            check_same(
                original(image),
                session.infer(image),
                what,
                None if where is None else lambda image=image: where(image),  # type: ignore[misc]
                tolerance,
            )
    except RuntimeFailure as error:
        raise ModelError(f"{what} cannot be run: {error}") from error
    finally:
        session.close()
