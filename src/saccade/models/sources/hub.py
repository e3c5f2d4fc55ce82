"""What loading by name has in common: which weights, and what to say where there are none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from saccade.errors import ModelError
from saccade.models.sources.contract import SourceRequest
from saccade.models.torch_weights import load_weights
from saccade.suggest import did_you_mean


class WeightsError(ModelError):
    """The library's own weights cannot be had here."""


def choose_weights(
    request: SourceRequest, untrained: Callable[[], Any], trained: Callable[[], Any]
) -> tuple[Any, str]:
    """The module with the weights that were asked for, and words for them.

    Raises:
        WeightsError: they cannot be downloaded.
        ModelError: the weights do not fit.
    """
    if request.weights is not None:
        module = untrained()
        load_weights(module, request.weights)
        return module.eval(), f"weights from {request.weights.name}"
    if request.random_weights:
        return untrained().eval(), "random weights, as asked"
    try:
        return trained().eval(), "the library's own weights"
    except OSError as error:  # what a failed download raises, whatever the library
        raise WeightsError(
            f"The weights of {request.reference} cannot be downloaded ({error}). Give a state dict "
            "with 'weights', or ask for 'random_weights' to look at speed alone."
        ) from error


def refuse_random(request: SourceRequest) -> None:
    """Refuse to forget the weights that a file has.

    Raises:
        ModelError: random weights were asked for.
    """
    if request.random_weights:
        raise ModelError(
            f"'random_weights' was given, but {Path(request.reference).name} has weights of its "
            "own. Leave it out, or name the architecture as the model."
        )


def unknown_name(library: str, name: str, known: Sequence[str]) -> ModelError:
    """The error for a name that the library does not have."""
    hint = did_you_mean(name, known, most=3)
    return ModelError(f"{library} has no model '{name}'. {hint}".strip())
