"""`Spec`: what the user asks. The one place where untrusted input is validated."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from saccade.duration import parse_duration
from saccade.errors import GoalError, SpecError
from saccade.goals import Goal, parse_goal
from saccade.label_settings import LabelSettings
from saccade.model_reference import file_of_word, is_word, path_in
from saccade.spec_problems import explain
from saccade.stream_address import without_password
from saccade.system_settings import (
    AlsoSystem,
    CandidateModel,
    ModelOverrides,
    StudentModel,
    TrackerSettings,
)
from saccade.targets.read import check_name

# The settings that name something on disk.
_PATHS = ("model", "weights", "data", "video", "target")
# The settings that list other models.
_MODEL_LISTS = ("candidates", "students")
_ALSO = "also"
_LABELS = "labels"
# Settings that are written down only where they say something.
_LATER = (*_MODEL_LISTS, _LABELS, "scenario")
# What a second system's own spec file says of a run; the first one's holds for both.
_OF_THE_RUN = ("target", "runtimes", "scenario", "budget", "seed", "candidates", "students")
# Tasks whose results depend on the frames before, and are judged on frames in a row.
_IN_A_ROW = ("tracking",)


class Spec(BaseModel):
    """A whole request. Field descriptions are the comments of the file that `init` writes."""

    model_config = ConfigDict(extra="forbid")

    task: str = Field("detection", description="what the model does")
    model: str = Field(
        description="an .onnx, .pt2 or TorchScript file, package.module:factory, or a name such as "
        "torchvision:resnet50"
    )
    weights: Path | None = Field(None, description="state dict of the module that the model names")
    random_weights: bool = Field(
        False, description="build the named model untrained, to look at speed or at chance"
    )
    data: Path | None = Field(
        None, description="labelled images: YOLO data.yaml, COCO JSON, or a folder of images"
    )
    video: str | None = Field(
        None, description="what it runs on: a video, a folder of images, a stream URL or a camera"
    )
    target: str = Field(
        "cpu", description="where it will run: cpu (this machine), cuda, or one that is named"
    )
    runtimes: tuple[str, ...] = Field(
        (), description="tried beside the model's own, such as litert; by default all there are"
    )
    goals: tuple[str, ...] = Field((), description="each 'metric<=number' or 'metric>=number'")
    scenario: Literal["", "throughput", "latency"] = Field(
        "", description="what is to be fast, many frames or each one; by default as goals say"
    )
    budget: Annotated[float, BeforeValidator(parse_duration)] = Field(
        300.0, gt=0, allow_inf_nan=False, description="time for the search, such as 5m"
    )
    score_threshold: float = Field(0.25, ge=0, lt=1, description="boxes below are dropped")
    max_detections: int = Field(300, ge=1, description="boxes kept per image")
    overrides: ModelOverrides = Field(
        default_factory=lambda: ModelOverrides(),
        description="corrections of what the model file says",
    )
    labels: LabelSettings = Field(
        default_factory=lambda: LabelSettings(),
        description="how the labels of the data are meant",
    )
    classes: tuple[str, ...] = Field(
        (), description="the classes that count, by name; by default all, or those with tracks"
    )
    tracker: TrackerSettings = Field(
        default_factory=lambda: TrackerSettings(),
        description="how objects are followed, where the task is tracking",
    )
    preprocessor: str | None = Field(
        None, description="your own preprocessing, as package.module:Class"
    )
    candidates: tuple[CandidateModel, ...] = Field(
        (), description="other models of the same task, tried in the model's place"
    )
    students: tuple[StudentModel, ...] = Field(
        (), description="smaller torch models, taught by the model and tried in its place"
    )
    also: AlsoSystem | None = Field(
        None, description="a second model on the same frames, for another task"
    )
    seed: int = Field(0, description="of splits, bootstrap and search")

    @field_validator("video", mode="before")
    @classmethod
    def _camera_index_is_text(cls, value: object) -> object:
        return str(value) if type(value) is int else value

    @field_validator("model", mode="before")
    @classmethod
    def _a_path_is_text(cls, value: object) -> object:
        return str(value) if isinstance(value, Path) else value

    @field_validator(*_MODEL_LISTS, mode="before")
    @classmethod
    def _a_path_is_a_model(cls, value: object) -> object:
        listed = [value] if isinstance(value, str | Path | dict) else value
        if not isinstance(listed, list | tuple):
            return value
        return [{"model": str(v)} if isinstance(v, str | Path) else v for v in listed]

    @field_validator("goals", "classes", "runtimes", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _two_systems_go_together(self) -> Spec:
        if self.also is not None:
            check_together(self, self.also)
        return self

    def parsed_goals(self) -> tuple[Goal, ...]:
        """The goals.

        Raises:
            GoalError: one of them cannot be read, met or told apart; or one of a second system's
                own is about speed, which is that of both together.
        """
        _check_own(self.also.goals if self.also is not None else ())
        goals = tuple(parse_goal(text) for text in self.goals)
        names = [(goal.metric, goal.op) for goal in goals]
        twice = {metric for metric, _ in names if names.count((metric, _)) > 1}
        if twice:
            raise GoalError(f"There are two goals for {sorted(twice)[0]}. Keep one of them.")
        return goals

    def document(self) -> dict[str, Any]:
        """A JSON- and YAML-ready document that `make_spec` reads back."""
        document = self.model_dump(mode="json", exclude_none=True)
        # A run folder of a version without these settings is still of the same job.
        if document.get(_ALSO, {}).get(_LABELS) == {}:
            del document[_ALSO][_LABELS]
        return {k: v for k, v in document.items() if v or k not in _LATER}

    def published(self) -> dict[str, Any]:
        """`document` for results and reports, which are passed on: no password of a stream."""
        document = self.document()
        for system in (document, document.get(_ALSO, {})):
            if "video" in system:
                system["video"] = without_password(system["video"])
        return document


def _check_own(goals: tuple[str, ...]) -> None:
    for text in goals:
        if not parse_goal(text).is_accuracy:
            raise GoalError(
                f"The goal '{text}' of 'also' is not about accuracy. Speed and size are those of "
                "both systems together; give such goals beside 'also', not within it."
            )


def check_together(spec: Spec, also: AlsoSystem) -> None:
    """Refuse two systems that cannot run on the same frames.

    Raises:
        ValueError: as pydantic wants it; the message says what to change.
    """
    if also.task == spec.task:
        raise ValueError(
            f"both systems are for {spec.task}, and results are told apart by task. Give 'also' a "
            "model of another task, or try this one in the first one's place with 'candidates'"
        )
    for task in (spec.task, also.task):
        if task in _IN_A_ROW:
            raise ValueError(
                f"{task} needs frames in a row and is judged on those, so it cannot share frames "
                "with another task. Optimize it in a run of its own"
            )
    if also.video is not None and also.video != spec.video:
        raise ValueError(
            f"both systems must run on the same frames: 'video' is {spec.video}, and that of "
            f"'also' is {also.video}. Leave it out of 'also', or optimize them one by one"
        )


def make_spec(values: dict[str, Any], base: Path | None = None) -> Spec:
    """Validate a document; relative paths are relative to ``base``, by default the current folder.

    The paths of the result are absolute, so that the spec that a run folder keeps means the same
    wherever it is read.

    Raises:
        SpecError: an unknown key (the nearest known one is named) or an invalid value.
        GoalError: an invalid goal.
    """
    try:
        spec = Spec.model_validate(_with_second_file(absolute_paths(values, base)))
    except ValidationError as error:
        raise SpecError(explain(error, Spec)) from None
    spec.parsed_goals()
    check_name(spec.target)
    return spec


def given_spec(spec: Spec | None, settings: dict[str, Any]) -> Spec:
    """The spec that was given, or that of the settings.

    Raises:
        SpecError: both were given, or the settings are wrong.
        GoalError: an invalid goal.
    """
    if spec is None:
        return make_spec(settings)
    if settings:
        raise SpecError(
            f"There are a spec and settings beside it ({', '.join(settings)}), which would be "
            "ignored. Put them into the spec, or give settings alone."
        )
    return spec


def absolute_paths(values: dict[str, Any], base: Path | None = None) -> dict[str, Any]:
    """The document with its paths made absolute; ``~`` is the home folder.

    What is no path (a stream URL, a camera index, an invalid value) stays as it is.
    """
    root = Path.cwd() if base is None else base
    found = {k: _absolute(k, v, root) if k in _PATHS else v for k, v in values.items()}
    for name in _MODEL_LISTS:
        if name in found:
            found[name] = _absolute_models(found[name], root)
    if _ALSO in found:
        found[_ALSO] = _absolute_also(found[_ALSO], root)
    return found


def _absolute_also(given: object, base: Path) -> object:
    """The second system's settings with absolute paths, or the path of their file."""
    if isinstance(given, dict):
        return {k: _absolute(k, v, base) if k in _PATHS else v for k, v in given.items()}
    return _absolute(_ALSO, given, base)


def _with_second_file(values: dict[str, Any]) -> dict[str, Any]:
    """The document with what is in the second system's file, where only that was named."""
    given = values.get(_ALSO)
    if not isinstance(given, str | Path):
        return values
    second = absolute_paths(read_spec(Path(given)), Path(given).parent)
    return {**values, _ALSO: {k: v for k, v in second.items() if k not in _OF_THE_RUN}}


def _absolute_models(given: object, base: Path) -> object:
    """Models with absolute paths; names such as ``timm:mobilenetv3`` and ``yolo11n`` stay."""
    if isinstance(given, list | tuple):
        return [_absolute_models(one, base) for one in given]
    if isinstance(given, dict):
        return {k: _absolute_listed(k, v, base) if k in _PATHS else v for k, v in given.items()}
    return _absolute_listed("model", given, base)


def _absolute_listed(key: str, value: object, base: Path) -> object:
    """As `_absolute`; a word for a model may be that of a file in the folder, or of a library."""
    if key == "model" and isinstance(value, str) and is_word(value):
        value = file_of_word(value, base)
        if is_word(value):
            return value
    return _absolute(key, value, base)


def _absolute(key: str, value: object, base: Path) -> object:
    if not isinstance(value, str | Path) or not str(value):
        return value
    if key == "model":
        before, path, after = path_in(str(value))
        return f"{before}{_under(base, path)}{after}" if path else value
    if key == "video" and (str(value).isdecimal() or "://" in str(value)):
        return value
    if key == "target" and not str(value).endswith(".yaml"):
        return value
    return _under(base, value)


def _under(base: Path, path: str | Path) -> str:
    """An absolute path; a relative one lies in the folder ``base``."""
    try:
        home = Path(path).expanduser()
    except RuntimeError:  # no such user
        home = Path(path)
    # Not `Path.resolve`: a link is followed when the file is read, not now.
    return os.path.abspath(base / home)  # noqa: PTH100


def read_spec(path: Path) -> dict[str, Any]:
    """The document in a YAML file, not yet validated.

    Raises:
        SpecError: the file is missing, or is not a YAML mapping.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecError(
            f"The spec '{path}' cannot be read: {error.strerror}. `saccade init` writes one."
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SpecError(
            f"The spec '{path}' is not valid YAML: {_yaml_problem(error)}. Correct that place."
        ) from None
    if not isinstance(document, dict):
        raise SpecError(
            f"The spec '{path}' holds no settings. Expected lines such as 'model: yolo11n.onnx'."
        )
    return document


def _yaml_problem(error: Exception) -> str:
    """What is wrong and where, on one line."""
    mark = getattr(error, "problem_mark", None)
    said = getattr(error, "problem", None) or str(error).partition("\n")[0]
    return f"{said} (line {mark.line + 1}, column {mark.column + 1})" if mark else said
