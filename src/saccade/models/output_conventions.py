"""By which convention a detector's outputs hold boxes and scores, told from their values."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from saccade.models.description import (
    Background,
    BoxFormat,
    BoxOutputs,
    BoxUnit,
    ScoresAs,
)
from saccade.models.output_roles import Roles

Rows = NDArray[np.float64]

# Shares of the input may exceed 1 by what a box reaches beyond it; pixels exceed it by far.
_LARGEST_SHARE = 1.5
# Share of the boxes that must have sorted corners; a few degenerate ones do not count.
_SORTED = 0.99
# Below so many boxes nothing is told from how they follow one another.
_LEAST_BOXES = 64
_USUAL_ORDER = "the corners are sorted, and x is first usually"
# How much further one coordinate must jump from box to box for it to be the one along a row.
_ALONG_ROW = 1.5
_SUM_TOLERANCE = 0.01
_BACKGROUND_SHARE = 0.5


@dataclass(frozen=True)
class Convention:
    """What was found.

    Attributes:
        outputs: the outputs' meaning.
        columns: columns of score of a dense head; 0 for finished detections.
        evidence: sentences on what it rests on.
    """

    outputs: BoxOutputs
    columns: int
    evidence: tuple[str, ...]


def find_convention(roles: Roles, queries: bool, classes: int | None) -> Convention:
    """How the outputs in ``roles`` have to be read.

    Args:
        roles: the outputs with values seen.
        queries: the boxes are those of queries (DETR) rather than of anchors.
        classes: number of class names, where they are known.
    """
    boxes, scores = _values(roles)
    unit, format_, said = _box_convention(roles, boxes, queries)
    outputs = BoxOutputs(
        boxes=roles.boxes.index,
        scores=roles.scores.index,
        labels=roles.labels.index if roles.labels else None,
        count=roles.count.index if roles.count else None,
        box_format=format_,
        box_unit=unit,
        row=roles.row,
    )
    if roles.kind == "finished":
        first = _first_label(roles)
        said = (*said, f"Labels begin at {first}.") if roles.labels else said
        return Convention(replace(outputs, first_label=first), 0, said)
    kind, background, why = _score_convention(scores, queries, classes)
    multi = background != "none" if not queries else kind == "sigmoid"
    outputs = replace(outputs, scores_as=kind, background=background, multi_label=multi)
    each = "a box may be several classes" if multi else "a box is of its best class only"
    return Convention(outputs, scores.shape[1], (*said, why, f"Classes: {each}."))


def _values(roles: Roles) -> tuple[Rows, Rows]:
    rows = roles.boxes.rows()
    first = BoxOutputs(row=roles.row).columns[0]
    boxes = rows[:, first : first + 4]
    if roles.boxes is roles.scores:
        return boxes[np.abs(boxes).sum(axis=1) > 0], rows[:, 4:]
    scores = roles.scores.rows()
    if roles.kind == "dense" and roles.scores.values[0].shape[-1] == roles.predictions:
        scores = scores.reshape(-1, 1)
    return boxes[np.abs(boxes).sum(axis=1) > 0], scores


def _box_convention(
    roles: Roles, boxes: Rows, queries: bool
) -> tuple[BoxUnit, BoxFormat, tuple[str, ...]]:
    tensorflow = "detection_" in roles.boxes.name.lower() or "tflite" in roles.boxes.name.lower()
    seen = roles.boxes.observed and len(boxes) > 0
    if not seen:
        unit: BoxUnit = "normalized" if tensorflow or queries else "pixels"
        format_: BoxFormat = "yxyx" if tensorflow else "cxcywh" if queries else "xyxy"
        return unit, format_, (f"Boxes {format_}, {unit}: assumed, since test images gave none.",)
    unit = "normalized" if np.quantile(np.abs(boxes), 0.99) <= _LARGEST_SHARE else "pixels"
    largest = float(np.abs(boxes).max())
    sides = boxes[:, 2:] >= boxes[:, :2]
    if float(sides.all(axis=1).mean()) < _SORTED:
        format_, why = "cxcywh", "the last two numbers are often below the first two"
    elif roles.kind == "finished":
        format_ = "yxyx" if tensorflow else "xyxy"
        why = "TensorFlow's names" if tensorflow else _USUAL_ORDER
    else:
        format_, why = _corner_order(boxes, roles.predictions)
    return (
        unit,
        format_,
        (f"Boxes {format_}: {why}.", f"Boxes {unit}: on test images they reach {largest:.4g}."),
    )


def _corner_order(boxes: Rows, each: int) -> tuple[BoxFormat, str]:
    """Anchors follow one another along rows, so x jumps from one to the next and y does not."""
    first = boxes[:each]
    jumps = np.abs(np.diff((first[:, :2] + first[:, 2:]) / 2, axis=0)).mean(axis=0)
    if len(first) >= _LEAST_BOXES and jumps[1] > _ALONG_ROW * jumps[0]:
        return "yxyx", "from box to box the second number moves more, which therefore is x"
    if len(first) >= _LEAST_BOXES and jumps[0] > _ALONG_ROW * jumps[1]:
        return "xyxy", "from box to box the first number moves more, which therefore is x"
    return "xyxy", _USUAL_ORDER


def _score_convention(
    scores: Rows, queries: bool, classes: int | None
) -> tuple[ScoresAs, Background, str]:
    columns = scores.shape[1]
    probabilities = bool(len(scores)) and scores.min() >= 0 and scores.max() <= 1
    if probabilities:
        shares = columns > 1 and bool(np.allclose(scores.sum(axis=1), 1, atol=_SUM_TOLERANCE))
        background = _background(scores, queries, classes, softmaxed=True) if shares else "none"
        what = "add up to 1" if shares else "lie between 0 and 1"
        return "probabilities", background, f"Scores {what}: {_background_text(background)}."
    background = _background(scores, queries, classes, softmaxed=False)
    if background == "none":
        return "sigmoid", background, "Scores are logits, of a sigmoid each: no background class."
    text = _background_text(background)
    return "softmax", background, f"Scores are logits of a softmax: {text}."


def _background(scores: Rows, queries: bool, classes: int | None, *, softmaxed: bool) -> Background:
    """Which column means "no object": by the number of names, else by what most rows say.

    A softmax has to put its mass somewhere where there is no object, so it has such a column.
    """
    columns = scores.shape[1]
    usual: Background = "last" if queries else "first"
    if columns < 2 or classes == columns:
        return "none"
    winners = scores.argmax(axis=1) if len(scores) else np.empty(0)
    for column, place in ((0, "first"), (columns - 1, "last")):
        if len(winners) and (winners == column).mean() > _BACKGROUND_SHARE:
            return "first" if place == "first" else "last"
    return usual if softmaxed or classes == columns - 1 else "none"


def _background_text(background: Background) -> str:
    return "no background class" if background == "none" else f"the {background} is background"


def _first_label(roles: Roles) -> int:
    """TensorFlow's detection models count classes from 1; most others from 0."""
    return int(roles.labels is not None and roles.labels.name.lower().endswith("detection_classes"))
