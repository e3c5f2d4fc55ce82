"""`LabelSettings`: what the user says about labels that do not say it themselves."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator


class LabelSettings(BaseModel):
    """How labels are meant, where they do not say so themselves. Everything is optional."""

    model_config = ConfigDict(extra="forbid")

    void_ids: tuple[Annotated[int, Field(ge=0, le=255)], ...] | None = Field(
        None, description="ids in masks that are not judged, beside 255"
    )
    first_class: int | None = Field(
        None, ge=0, le=1, description="number of the first class in a CSV, 0 or 1"
    )

    @field_validator("void_ids", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: object) -> object:
        return [value] if type(value) is int else value

    def given(self) -> dict[str, Any]:
        """Only what was set."""
        return self.model_dump(exclude_none=True)
