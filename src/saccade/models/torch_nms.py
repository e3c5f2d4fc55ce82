"""Put class-wise NMS behind an exported PyTorch detector, by torchvision, on the model's device.

The rule goes into the program's file as a document of its own and is carried out behind the
module: what comes out of NMS has a size that depends on values, which no CUDA graph can hold.
Boxes stay in the convention that the model gives them in, as in `saccade.models.nms_graph`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saccade.errors import MissingExtraError, ModelError
from saccade.models.description import BoxOutputs, ModelDescription

DOCUMENT = "saccade_nms.json"


@dataclass(frozen=True)
class Suppression:
    """Which of a detector's boxes are kept.

    Attributes:
        decode: name of the output decode, one of `SUPPRESSIBLE`.
        transposed: as in `ModelDescription.transposed`.
        outputs: what the outputs mean, for the decode ``ssd``.
        score_threshold: boxes up to this score are dropped.
        iou_threshold: boxes of one class that overlap more are merged.
        max_detections: boxes kept in all.
    """

    decode: str
    transposed: bool
    outputs: BoxOutputs
    score_threshold: float
    iou_threshold: float
    max_detections: int

    def to_json(self) -> str:
        """A JSON document; `from_json` is its inverse."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, document: str) -> Suppression:
        """The inverse of `to_json`."""
        fields = json.loads(document)
        return cls(**{**fields, "outputs": BoxOutputs(**fields["outputs"])})


def with_nms(
    program: str | Path,
    target: Path,
    description: ModelDescription,
    *,
    score_threshold: float,
    iou_threshold: float,
    max_detections: int,
) -> None:
    """Write a copy of ``program`` whose file says that NMS comes behind it.

    Sessions of PyTorch then give detections ``(M, 6)``: box, score, class id, best first.

    Args:
        program: an exported program (``.pt2``).
        target: the new file.
        description: what the program's outputs mean.
        score_threshold: boxes up to this score are dropped.
        iou_threshold: boxes of one class that overlap more are merged.
        max_detections: boxes kept in all.

    Raises:
        ModelError: the model's outputs are of another kind, or the file holds no program.
        MissingExtraError: torch is not installed.
    """
    from saccade.models.torch_program import read_program

    if description.decode not in SUPPRESSIBLE:
        raise ModelError(
            f"NMS cannot be put behind a {description.decode} model; "
            f"known are {', '.join(SUPPRESSIBLE)}."
        )
    rule = Suppression(
        description.decode,
        description.transposed,
        description.outputs or BoxOutputs(box_format="cxcywh"),
        score_threshold,
        iou_threshold,
        max_detections,
    )
    read = read_program(program)
    import torch

    torch.export.save(read, str(target), extra_files={DOCUMENT: rule.to_json()})


def read_suppressing(path: str | Path) -> tuple[Any, Suppression | None]:
    """The ``ExportedProgram`` in a file, and the rule that `with_nms` put there, if it did.

    Raises:
        ModelError: the file is missing or holds no exported program.
        MissingExtraError: torch is not installed, or torchvision, where there is a rule.
    """
    from saccade.models.torch_program import read_program

    documents = {DOCUMENT: ""}
    program = read_program(path, documents)
    if not documents[DOCUMENT]:
        return program, None
    try:
        import torchvision  # noqa: F401 - registers its operators, better now than in a request
    except ImportError as error:
        raise MissingExtraError("torchvision", "torch", "NMS behind a PyTorch model") from error
    return program, Suppression.from_json(documents[DOCUMENT])


def suppressed(outputs: Sequence[Any], rule: Suppression) -> Any:
    """The detections kept, ``(M, 6)`` float32: box, score, class id, best first.

    The boxes that `saccade.tasks.nms` keeps. Overlaps are computed in float64 and there in
    float32, so a pair whose IoU is within 1e-5 of the threshold may be decided otherwise.

    Args:
        outputs: the model's output tensors of one image, on any device, float32.
        rule: which boxes are kept.
    """
    import torch

    boxes, scores, class_ids = _CANDIDATES[rule.decode](outputs, rule)
    placed = _corners(boxes, rule.outputs).double()
    kept = _best_of_each(placed, scores.double(), class_ids, rule.iou_threshold)
    kept = kept[: rule.max_detections]
    return torch.cat([boxes[kept], scores[kept, None], class_ids[kept, None].float()], dim=1)


def _best_of_each(boxes: Any, scores: Any, class_ids: Any, iou: float) -> Any:
    """Indices of the boxes that survive, best first, ties in input order."""
    from torchvision.ops import batched_nms

    if not len(boxes):
        return class_ids
    # It tells classes apart by moving their boxes: in float64 that rounds nothing away, and from
    # zero on, no box reaches into the room of another class.
    kept = batched_nms(boxes - boxes.min(), scores, class_ids, iou).sort().values
    return kept[scores[kept].argsort(descending=True, stable=True)]


def _corners(boxes: Any, spec: BoxOutputs) -> Any:
    """Boxes ``(K, 4)`` as corners; overlaps depend neither on the unit nor on which axis is x."""
    import torch

    if spec.box_format != "cxcywh":
        return boxes
    half = boxes[:, 2:] / 2
    return torch.cat([boxes[:, :2] - half, boxes[:, :2] + half], dim=1)


def _yolov8(outputs: Sequence[Any], rule: Suppression) -> tuple[Any, Any, Any]:
    """Boxes ``(K, 4)``, scores ``(K,)`` and class ids ``(K,)`` of the anchors that pass."""
    rows = outputs[0][0] if rule.transposed else outputs[0][0].T
    return _passing(rows[:, :4], rows[:, 4:], rule)


def _yolov5(outputs: Sequence[Any], rule: Suppression) -> tuple[Any, Any, Any]:
    """The same of anchors with an objectness, which also has to pass."""
    rows = outputs[0][0].T if rule.transposed else outputs[0][0]
    # Class scores are at most 1, but for rounding.
    rows = rows[rows[:, 4] > rule.score_threshold]
    return _passing(rows[:, :4], rows[:, 5:] * rows[:, 4:5], rule)


def _ssd(outputs: Sequence[Any], rule: Suppression) -> tuple[Any, Any, Any]:
    """The same of separate or joined outputs."""
    spec = rule.outputs
    if rule.transposed:
        outputs = [tensor.transpose(-1, -2) for tensor in outputs]
    boxes, scores = outputs[spec.boxes], outputs[spec.scores]
    if spec.joined:
        boxes, scores = boxes[..., :4], boxes[..., 4:]
    boxes = boxes.reshape(-1, 4)
    return _passing(boxes, _probabilities(scores.reshape(len(boxes), -1), spec), rule)


def _probabilities(scores: Any, spec: BoxOutputs) -> Any:
    """Scores ``(A, C)`` as probabilities of the real classes."""
    if spec.scores_as == "sigmoid":
        scores = scores.sigmoid()
    elif spec.scores_as == "softmax":
        scores = scores.softmax(dim=1)
    if spec.background == "first":
        return scores[:, 1:]
    return scores[:, :-1] if spec.background == "last" else scores


_CANDIDATES = {"yolov8": _yolov8, "yolov5": _yolov5, "ssd": _ssd}
# Decodes whose boxes and scores are outputs of the model and not suppressed yet.
SUPPRESSIBLE = tuple(_CANDIDATES)


def _passing(boxes: Any, scores: Any, rule: Suppression) -> tuple[Any, Any, Any]:
    """Sound candidates above the threshold, of boxes ``(A, 4)`` and scores ``(A, C)``."""
    from saccade.tasks.detection import MAX_COORDINATE

    if not scores.numel():
        return boxes[:0], scores.new_zeros(0), scores.new_zeros(0).long()
    sound = (_corners(boxes, rule.outputs).abs() < MAX_COORDINATE).all(dim=1)
    if rule.outputs.multi_label:
        found = (scores > rule.score_threshold) & scores.isfinite() & sound[:, None]
        rows, class_ids = found.nonzero(as_tuple=True)
        return boxes[rows], scores[rows, class_ids], class_ids
    best, class_ids = scores.max(dim=1)
    rows = ((best > rule.score_threshold) & best.isfinite() & sound).nonzero()[:, 0]
    return boxes[rows], best[rows], class_ids[rows]
