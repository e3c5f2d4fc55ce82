"""What a spec says of a system beside its model and its data.

Corrections of what the model file says, other models that may take its place, the tracker, and a
second system on the same frames.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from saccade.duration import parse_duration
from saccade.label_settings import LabelSettings


class ModelOverrides(BaseModel):
    """What the user knows better than the model file says. Everything is optional."""

    model_config = ConfigDict(extra="forbid")

    decode: str | None = Field(
        None,
        description="what the outputs are: yolov8 (also YOLO11), ssd, detr, nms_inside …",
    )
    input_size: int | None = Field(None, ge=32, le=8192, description="longer side, pixels")
    channel_order: Literal["rgb", "bgr"] | None = None
    scale: float | None = Field(None, gt=0, description="factor on 0-255 pixels, 1/255 or 1")
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    anchor: Literal["center", "top_left"] | None = None
    fit: Literal["letterbox", "stretch", "center_crop"] | None = None
    crop_share: float | None = Field(None, gt=0, le=1)
    pad_value: int | None = Field(None, ge=0, le=255)
    iou_threshold: float | None = Field(None, gt=0, le=1)
    stride: int | None = Field(None, ge=1)
    box_format: Literal["xyxy", "yxyx", "cxcywh"] | None = None
    box_unit: Literal["pixels", "normalized"] | None = None
    scores_as: Literal["probabilities", "sigmoid", "softmax"] | None = None
    background: Literal["none", "first", "last"] | None = None
    multi_label: bool | None = None
    first_label: int | None = Field(None, ge=0)
    class_names: tuple[str, ...] | None = None

    def given(self) -> dict[str, Any]:
        """Only what was set."""
        return self.model_dump(exclude_none=True)


class CandidateModel(BaseModel):
    """Another model of the same task that may take the model's place."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(min_length=1, description="a file or a name, as for the model itself")
    weights: Path | None = Field(None, description="state dict of the module that it names")
    overrides: ModelOverrides = Field(
        default_factory=lambda: ModelOverrides(),
        description="corrections of what this model's file says",
    )


class StudentModel(BaseModel):
    """A smaller model of the same task that is taught to answer as the model does."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(
        min_length=1,
        description="torchvision:NAME, timm:NAME, package.module:factory or a .pt2 file",
    )
    weights: Path | None = Field(None, description="state dict of the module that it names")
    training: Annotated[float, BeforeValidator(parse_duration)] = Field(
        60.0, gt=0, allow_inf_nan=False, description="time to teach it, such as 2m"
    )


class AlsoSystem(BaseModel):
    """A second model on the same frames, for another task. Its settings mean what the spec's do."""

    model_config = ConfigDict(extra="forbid")

    task: str = Field(description="what the second model does")
    model: str = Field(min_length=1, description="a file or a name, as for the model itself")
    weights: Path | None = Field(None, description="state dict of the module that it names")
    random_weights: bool = Field(False, description="build the named model untrained")
    data: Path | None = Field(None, description="labelled images of its own task")
    video: str | None = Field(None, description="the same as the first system's, if given at all")
    goals: tuple[str, ...] = Field((), description="on its own accuracy")
    score_threshold: float = Field(0.25, ge=0, lt=1, description="boxes below are dropped")
    max_detections: int = Field(300, ge=1, description="boxes kept per image")
    overrides: ModelOverrides = Field(
        default_factory=lambda: ModelOverrides(),
        description="corrections of what this model's file says",
    )
    labels: LabelSettings = Field(
        default_factory=lambda: LabelSettings(), description="how its labels are meant"
    )
    classes: tuple[str, ...] = Field((), description="the classes that count, by name")
    preprocessor: str | None = Field(None, description="your own preprocessing of this model")

    @field_validator("goals", "classes", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value


class TrackerSettings(BaseModel):
    """How objects are followed from frame to frame, by ByteTrack. Everything is optional."""

    model_config = ConfigDict(extra="forbid")

    high_score: float | None = Field(None, ge=0, le=1, description="matched first from here on")
    new_track_score: float | None = Field(None, ge=0, le=1, description="may begin a track")
    match_iou: float | None = Field(None, ge=0, le=1, description="least overlap of a match")
    lost_frames: int | None = Field(None, ge=0, le=100_000, description="until a lost track ends")
    confirm_hits: int | None = Field(None, ge=1, le=1000, description="until an object has an id")

    def given(self) -> dict[str, Any]:
        """Only what was set."""
        return self.model_dump(exclude_none=True)
