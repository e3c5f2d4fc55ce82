"""Find the source of a model reference."""

from __future__ import annotations

from pathlib import Path

from saccade import plugins
from saccade.errors import ModelError
from saccade.models.sources.contract import ModelSource, ResolvedModel, SourceRequest
from saccade.models.sources.onnx import OnnxSource


def resolve_model(request: SourceRequest) -> ResolvedModel:
    """The model that a reference stands for.

    Raises:
        ModelError: no source knows the reference, or the one that does cannot load it.
        MissingExtraError: it needs a library that is not installed.
    """
    sources: list[ModelSource] = [
        plugins.load("sources", name) for name in plugins.names("sources")
    ]
    for source in sources:
        if source.recognizes(request.reference):
            return source.resolve(request)
    if Path(request.reference).is_file():
        return OnnxSource.resolve(request)
    known = "; ".join(source.looks_for for source in sources)
    raise ModelError(
        f"There is no model file at {request.reference}, and it is no name of a model. Check the "
        f"path, or give one of: {known}."
    )
