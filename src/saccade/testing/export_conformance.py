"""What every export must do, as checks that need no test framework.

Each takes the export and a request, and raises an ``AssertionError`` that says which rule of
`saccade.deploy.exports.contract` was broken.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from saccade import plugins
from saccade.deploy.exports.contract import Export, ExportRequest
from saccade.deploy.kit.script.subject import output_error
from saccade.deploy.kit.write import outputs_here
from saccade.targets.read import rules_of

Check = Callable[[Any, ExportRequest], None]

# How far a file may be from the model it was made of. It catches a file of another model; what a
# precision costs in accuracy is judged with labels.
FAR = {"fp32": 0.01, "fp16": 0.1, "int8": 0.6}


def names_known_runtimes(export: type[Export], request: ExportRequest) -> None:
    """Every run is in a runtime that the targets know, in a precision, and has its stand-in."""
    for run in export.runs(request):
        rules_of(run.runtime)
        _expect(run.precision in ("fp32", "fp16", "bf16", "int8"), f"precision {run.precision!r}")
        known = ("", *plugins.names("exports"))
        _expect(run.judged_as in known, f"is judged as {run.judged_as!r}, which is no export")
        _expect(not run.flags or run.runtime == "tensorrt", f"flags for {run.runtime}")


def says_why_not(export: type[Export], request: ExportRequest) -> None:
    """A refusal is one line that can be shown."""
    reason = export.applies(request)
    _expect(reason is None or (bool(reason) and "\n" not in reason), f"refused with {reason!r}")


def writes_a_file_that_runs(export: type[Export], request: ExportRequest) -> None:
    """The file is in the work folder or the given one, and answers as the model does."""
    if export.applies(request) is not None:
        return
    model = export.write(request)
    given = request.config
    inside = model.path.startswith(str(request.work)) or model.path == given.model.path
    _expect(inside, f"{model.path} is outside of {request.work}")
    found = outputs_here(export.config(request, model), request)
    for got, expected in zip(found, outputs_here(given, request), strict=True):
        for one, other in zip(got, expected, strict=True):
            error = output_error(one, other)
            _expect(error <= FAR[export.precision], f"outputs are off by {error:.3g}")


def leaves_the_model_alone(export: type[Export], request: ExportRequest) -> None:
    """What was given is not written over."""
    from saccade.models.files import model_file

    if export.applies(request) is None:
        export.write(request)
    now = model_file(request.config.model.path).sha256
    _expect(now == request.config.model.sha256, "the given model was changed")


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise AssertionError(what)


CHECKS: tuple[Check, ...] = (
    names_known_runtimes,
    says_why_not,
    writes_a_file_that_runs,
    leaves_the_model_alone,
)
