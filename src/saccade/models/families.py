"""The detector families that saccade can decode: one entry each, recognized by output shape.

To add a family, add an entry to `FAMILIES` (and a decode, where its outputs need a new one).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from saccade.models.description import BoxOutputs, Dim, Preprocessing

# Decodes of models that give boxes, see `saccade.models.box_heads`.
BOX_DECODES = ("ssd", "nms_inside", "detr")
# Those of them whose boxes are not suppressed any more.
FINAL_DECODES = ("nms_inside", "detr")

# The strides of the feature maps that detectors predict on, most usual first.
STRIDE_SETS = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32), (16, 32), (8, 16))


@dataclass(frozen=True)
class Family:
    """How the detectors of one family look from outside, and how they are usually fed.

    Attributes:
        name: as its users call it.
        decode: name of the decode its outputs need.
        lead: values before the class scores: 4 (box) or 5 (box, objectness).
        per_cell: predictions per cell of the feature maps.
        anchors_last: the predictions lie along the last axis, else along the one before.
        raw: the boxes are grid offsets; else the graph itself turns them into pixels.
        preprocessing: what its training code does.
        iou_threshold: of the NMS in its evaluation code.
        operator: an ONNX operator that its graph contains, where that tells it apart.
        stride_sets: the feature-map strides it comes with.
        tail: values behind the class scores: the mask coefficients of an instance segmenter.
    """

    name: str
    decode: str
    lead: int
    per_cell: int
    anchors_last: bool
    raw: bool
    preprocessing: Preprocessing
    iou_threshold: float
    operator: str = ""
    stride_sets: tuple[tuple[int, ...], ...] = STRIDE_SETS
    tail: int = 0

    @property
    def expected(self) -> str:
        """Its output shape in words."""
        count = "anchors" if self.per_cell > 1 or self.anchors_last else "cells"
        axes = [f"{self.lead}+classes{f'+{self.tail}' if self.tail else ''}", count]
        return f"(1, {', '.join(axes if self.anchors_last else axes[::-1])})"


RGB_LETTERBOX = Preprocessing(channel_order="rgb", scale=1 / 255, anchor="center")
_BGR_TOP_LEFT = Preprocessing(channel_order="bgr", scale=1.0, anchor="top_left")

# Of two entries that fit equally well, the earlier one wins.
FAMILIES = (
    Family("YOLOv8/YOLO11", "yolov8", 4, 1, True, False, RGB_LETTERBOX, 0.7),
    Family("YOLOv5", "yolov5", 5, 3, False, False, RGB_LETTERBOX, 0.6),
    Family("YOLOX", "yolox", 5, 1, False, True, _BGR_TOP_LEFT, 0.65, stride_sets=((8, 16, 32),)),
    # Decoded inside the graph, both give what YOLOv5 gives: boxes in pixels, objectness, classes.
    Family("YOLOX, decoded", "yolov5", 5, 1, False, False, _BGR_TOP_LEFT, 0.65, operator="Exp"),
    Family("YOLOv6", "yolov5", 5, 1, False, False, RGB_LETTERBOX, 0.65),
)

# A detector's output with mask coefficients behind it, beside an output of prototypes.
SEGMENTER = Family(
    "YOLOv8-seg/YOLO11-seg", "yolov8_seg", 4, 1, True, False, RGB_LETTERBOX, 0.7, tail=32
)


@dataclass(frozen=True)
class Match:
    """One reading of an output shape.

    Attributes:
        family: whose shape it is.
        class_count: classes that the shape leaves room for; 0 where it does not tell.
        strides: strides of the feature maps, where the number of predictions is known.
        transposed: the last two axes are swapped against the family's usual order.
        outputs: what separate or finished outputs mean, for the decodes that ask.
    """

    family: Family
    class_count: int
    strides: tuple[int, ...] | None
    transposed: bool
    outputs: BoxOutputs | None = None


@dataclass(frozen=True)
class GraphFacts:
    """What recognition uses beside shapes.

    Attributes:
        raw: nothing is computed between the last convolutions and the output but sigmoids.
        operators: operator types in the graph.
    """

    raw: bool
    operators: Collection[str]

    def agree_with(self, family: Family) -> bool:
        """Whether the graph can be one of ``family``."""
        return self.raw == family.raw and (not family.operator or family.operator in self.operators)


def strides_for(
    count: int, hw: tuple[int, int], per_cell: int, stride_sets: tuple[tuple[int, ...], ...]
) -> tuple[int, ...] | None:
    """The set of strides whose feature maps give ``count`` predictions at input size ``hw``."""
    height, width = hw
    for strides in stride_sets:
        if height % strides[-1] or width % strides[-1]:
            continue
        if per_cell * sum((height // s) * (width // s) for s in strides) == count:
            return strides
    return None


def matches(
    shape: tuple[Dim, Dim],
    hw: tuple[int, int],
    facts: GraphFacts,
    names: int | None,
    decode: str | None = None,
    families: Sequence[Family] = FAMILIES,
) -> list[Match]:
    """All readings of an output's last two axes, the best first.

    Args:
        shape: the two axes; None where unknown. A reading needs its attribute axis known.
        hw: the input size that ``shape`` belongs to.
        facts: about the graph.
        names: number of class names, where they are known; other counts are no match.
        decode: the user's word on the decode; then only families with it match, and the graph's
            facts only rank them.
        families: that it can be one of.
    """
    found = [
        match
        for family in families
        if (decode == family.decode if decode else facts.agree_with(family))
        for transposed in (False, True)
        if (match := _match(family, shape, hw, transposed)) is not None
    ]
    if names is not None:
        found = [match for match in found if match.class_count == names]
    return sorted(
        found,
        key=lambda match: (
            not facts.agree_with(match.family),
            match.class_count != 80,
            match.transposed,
        ),
    )


def _match(
    family: Family, shape: tuple[Dim, Dim], hw: tuple[int, int], transposed: bool
) -> Match | None:
    attributes, count = shape if family.anchors_last != transposed else shape[::-1]
    if attributes is None or attributes <= family.lead + family.tail:
        return None
    classes = attributes - family.lead - family.tail
    if count is None:
        return Match(family, classes, None, transposed)
    strides = strides_for(count, hw, family.per_cell, family.stride_sets)
    if strides is None:
        return None
    return Match(family, classes, strides, transposed)
