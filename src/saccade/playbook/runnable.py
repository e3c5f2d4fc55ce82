"""Whether a model's own runtime takes it, asked before anything is prepared or measured."""

from __future__ import annotations

from collections.abc import Iterator

from saccade import plugins
from saccade.errors import ModelError, RuntimeFailure
from saccade.models.ort_support import check_supported
from saccade.pipeline.config import ModelFile, RuntimeOptions
from saccade.runtimes.contract import SessionRequest
from saccade.targets.target import HERE

# Of a file in this format the baseline is this runtime's.
FORMAT, RUNTIME = "onnx", "onnxruntime"


def check_runs(model: ModelFile) -> None:
    """Refuse an ONNX model that ONNX Runtime, which runs its baseline, does not take.

    Models in other formats pass: they ran when they were compared with the ONNX made from them.

    Raises:
        ModelError: as said; it names what is missing, what to do, and other runtimes that are
            installed and take the model.
    """
    if model.format != FORMAT:
        return
    try:
        check_supported(model.path)
    except ModelError as error:
        others = ", ".join(_takers(model))
        if not others:
            raise
        raise ModelError(
            f"{error} (Installed here and taking the model as it is: {others}; but what is "
            f"improved is compared with the model in {RUNTIME}.)"
        ) from error


def _takers(model: ModelFile) -> Iterator[str]:
    """Other runtimes on the CPU that take it."""
    for name in plugins.names("runtimes"):
        runtime = plugins.load("runtimes", name)
        found = runtime.availability()
        if name == RUNTIME or not found.ok:
            continue
        if FORMAT not in found.formats or HERE not in found.devices:
            continue
        try:
            runtime.open(SessionRequest(model, None, RuntimeOptions(), "")).close()
        except RuntimeFailure:  # it does not take it either
            continue
        yield name
