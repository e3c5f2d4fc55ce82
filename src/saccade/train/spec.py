"""`TrainingSpec`: what the user asks of a training. Untrusted input is validated here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from saccade.duration import parse_duration
from saccade.errors import GoalError, SpecError
from saccade.goals import TRAINING_METRICS, Goal, parse_goal
from saccade.suggest import did_you_mean
from saccade.train.change import Scaling
from saccade.train.recipe import joined
from saccade.train.run_file import absolute_name

Allowed = Literal["batch", "model", "scale"]


class TrainingSpec(BaseModel):
    """A whole request. Field descriptions are what messages say is expected."""

    model_config = ConfigDict(extra="forbid")

    job: str = Field(min_length=1, description="a job.py, or another kind of training job")
    task: str | None = Field(None, description="what the model does, where the job does not say")
    data: Path | None = Field(None, description="labelled data, where the job does not say")
    weights: Path | None = Field(None, description="state dict that the training starts from")
    recipe: tuple[str, ...] = Field(
        (), description="fine-tunings, each such as prune=0.3, quantize or distill"
    )
    goals: tuple[str, ...] = Field((), description="each 'metric<=number' or 'metric>=number'")
    budget: Annotated[float, BeforeValidator(parse_duration)] = Field(
        600.0, gt=0, allow_inf_nan=False, description="time for the search, such as 10m"
    )
    seeds: int = Field(3, ge=2, le=20, description="trainings that loss curves are compared on")
    steps: int | None = Field(None, ge=4, description="of each of those; by default as time allows")
    device: str | None = Field(None, description="cpu or cuda; by default a GPU where there is one")
    allow: tuple[Allowed, ...] = Field(
        (), description="changes of the recipe that may be tried: batch, model, scale"
    )
    lr_scaling: Scaling | None = Field(
        None, description="linear, sqrt or none; by default sqrt for Adam's kind, linear for SGD"
    )
    max_corrupt: float | None = Field(None, ge=0, le=1, description="share of unreadable samples")
    seed: int = Field(0, description="of weights, order and augmentation")

    @field_validator("goals", "allow", "recipe", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    def parsed_goals(self) -> tuple[Goal, ...]:
        """The goals.

        Raises:
            GoalError: one of them cannot be read, met or told apart.
        """
        goals = tuple(parse_goal(text, TRAINING_METRICS) for text in self.goals)
        names = [goal.metric for goal in goals]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise GoalError(f"There are two goals for {twice[0]}. Keep one of them.")
        return goals

    @property
    def settings(self) -> dict[str, str]:
        """What the kind of job may need beside its name."""
        given = {
            "task": self.task,
            "data": self.data,
            "weights": self.weights,
            "recipe": joined(self.recipe),
        }
        return {key: str(value) for key, value in given.items() if value is not None}

    def document(self) -> dict[str, Any]:
        """A JSON- and YAML-ready document that `make_training_spec` reads back."""
        return {"kind": "training", **self.model_dump(mode="json", exclude_none=True)}


def make_training_spec(values: dict[str, Any]) -> TrainingSpec:
    """Validate a document. Paths of files become absolute.

    Raises:
        SpecError: an unknown key (the nearest known one is named) or an invalid value.
        GoalError: an invalid goal.
    """
    given = {key: value for key, value in values.items() if key != "kind"}
    if isinstance(given.get("job"), str):
        given["job"] = absolute_name(given["job"], Path())
    for key in ("data", "weights"):
        if key in given and Path(str(given[key])).exists():
            given[key] = str(Path(str(given[key])).absolute())
    try:
        spec = TrainingSpec.model_validate(given)
    except ValidationError as error:
        raise SpecError(_explain(error)) from None
    spec.parsed_goals()
    joined(spec.recipe)
    return spec


def _explain(error: ValidationError) -> str:
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    fields = TrainingSpec.model_fields
    if problem["type"] == "extra_forbidden":
        hint = did_you_mean(where, fields) or f"Known: {', '.join(fields)}."
        return f"Unknown setting '{where}'. {hint.strip()}"
    key = str(problem["loc"][0])
    wanted = fields[key].description if key in fields else "see the documentation"
    if problem["type"] == "missing":
        return f"The setting '{where}' is missing. Expected: {wanted}."
    message = problem["msg"].removeprefix("Value error, ")
    return f"The setting '{where}' is wrong: {message}. Expected: {wanted}."
