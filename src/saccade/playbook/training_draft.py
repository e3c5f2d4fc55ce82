"""Draft a training job by looking at the data; what `saccade train init` writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from saccade.train.labelled import open_split
from saccade.train.templates_of import template_path, template_text


def draft_job(task: str, data: Path) -> tuple[str, dict[str, Any]]:
    """The text of a commented job file, and the facts it rests on.

    Args:
        task: what is trained.
        data: labelled images, in a format of `saccade.data`.

    Raises:
        SpecError: there is no job file for this task.
        DataError: the data cannot be read, or have no labels.
    """
    template_path(task)
    train, val = (open_split(data.absolute(), task, split) for split in ("train", "val"))
    facts = {"task": task, "train": len(train), "val": len(val), "classes": list(train.class_names)}
    line = (
        f"{len(train)} images to train on, {len(val)} for judging; {len(train.class_names)} classes"
    )
    broken = (*train.broken, *val.broken)
    if broken:
        first = f"{broken[0].path}: {broken[0].detail}"
        line += f"; {len(broken)} cannot be read, such as {first}"
    return template_text(task, data, line), facts
