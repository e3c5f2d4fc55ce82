"""What is wrong with a spec, in one sentence that says what to do."""

from __future__ import annotations

from pydantic import BaseModel, ValidationError

from saccade.label_settings import LabelSettings
from saccade.suggest import did_you_mean
from saccade.system_settings import (
    AlsoSystem,
    CandidateModel,
    ModelOverrides,
    StudentModel,
    TrackerSettings,
)

# Longest input that an error message repeats.
_SHOWN = 60


def _owner(location: tuple[int | str, ...], whole: type[BaseModel]) -> type[BaseModel]:
    """Whose setting lies at a location."""
    if "overrides" in location:
        return ModelOverrides
    if "labels" in location:
        return LabelSettings
    owners: dict[object, type[BaseModel]] = {
        "candidates": CandidateModel,
        "students": StudentModel,
        "also": AlsoSystem,
        "tracker": TrackerSettings,
    }
    return owners.get(location[0], whole)


def explain(error: ValidationError, whole: type[BaseModel]) -> str:
    """One sentence for the first problem."""
    # An unknown key may be the reason why another is missing.
    problem = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        owner = _owner(problem["loc"], whole)
        key = str(problem["loc"][-1])
        if owner is whole and key in ModelOverrides.model_fields:
            return f"The setting '{key}' is in the wrong place. Put it under 'overrides'."
        fields = owner.model_fields
        hint = did_you_mean(key, fields) or f"Known: {', '.join(fields)}."
        return f"Unknown setting '{where}'. {hint.strip()}"
    if problem["type"] == "missing" and where in whole.model_fields:
        wanted = whole.model_fields[where].description or "see the documentation"
        return f"The setting '{where}' is missing. Expected: {wanted}."
    message = problem["msg"].removeprefix("Value error, ")
    if not where:
        return f"The settings do not go together: {message}."
    got = repr(problem.get("input"))
    got = got if len(got) <= _SHOWN else f"{got[:_SHOWN]}…"
    return f"The setting '{where}' is wrong: {message} (got {got})."
