"""Conversions in a process of their own: converters and young runtimes crash on odd graphs."""

from __future__ import annotations

from collections.abc import Collection

from saccade.errors import ModelError, WorkerFailure
from saccade.models.conversions.contract import ConversionRequest, start_of, way_from
from saccade.optimize.workshop import workshop
from saccade.pipeline.config import ModelFile

TIMEOUT_S = 1200.0


def converted(model: ModelFile, targets: Collection[str], request: ConversionRequest) -> ModelFile:
    """The model in one of the formats ``targets``, made here or by an earlier call.

    Raises:
        ModelError: it cannot be converted, answers differently, or the process died over it.
        MissingExtraError: a library is not installed.
        MissingEnvironmentError: a tool environment is not.
    """
    try:
        with workshop("saccade.optimize.converting:Converter", model.format) as worker:
            made: ModelFile = worker.call(
                "convert", model, tuple(targets), request, timeout_s=TIMEOUT_S
            )
            return made
    except WorkerFailure as error:
        raise ModelError(
            f"The model cannot be converted from {model.format} to {' or '.join(targets)}: "
            f"{str(error).rstrip('.')}. An operator that the runtime gets wrong is the usual "
            "reason. Use another runtime."
        ) from error


class Converter:
    """Converts. Lives in a worker process."""

    def convert(
        self, model: ModelFile, targets: tuple[str, ...], request: ConversionRequest
    ) -> ModelFile:
        """By the best way there is."""
        way = way_from(model, targets)
        if way is None:
            raise ModelError(
                f"There is no way from {model.format} to {' or '.join(targets)}. Give the model "
                "that it was made from."
            )
        return way.convert(start_of(model, way), request)
