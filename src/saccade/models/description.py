"""What saccade knows about a model: its input, its preprocessing, its decode. Pure values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ChannelOrder = Literal["rgb", "bgr"]
Anchor = Literal["center", "top_left"]
Fit = Literal["letterbox", "stretch", "center_crop"]
Dim = int | None
BoxFormat = Literal["xyxy", "yxyx", "cxcywh"]
BoxUnit = Literal["pixels", "normalized"]
ScoresAs = Literal["probabilities", "sigmoid", "softmax"]
Background = Literal["none", "first", "last"]
Row = Literal["box_score_label", "batch_box_label_score"]
# In a row of finished detections: the box's first column, the score's, the label's.
_COLUMNS: dict[Row, tuple[int, int, int]] = {
    "box_score_label": (0, 4, 5),
    "batch_box_label_score": (1, 6, 5),
}


@dataclass(frozen=True)
class InputSpec:
    """The image input of a model.

    Attributes:
        name: tensor name.
        layout: ``"NCHW"`` or ``"NHWC"``.
        shape: in the layout's order; ``None`` where the dimension is dynamic.
        dtype: NumPy dtype name, ``"float32"``, ``"float16"`` or ``"uint8"``.
    """

    name: str
    layout: str
    shape: tuple[Dim, Dim, Dim, Dim]
    dtype: str

    @property
    def height(self) -> Dim:
        """Fixed height in pixels, or None where dynamic."""
        return self.shape[self.layout.index("H")]

    @property
    def width(self) -> Dim:
        """Fixed width in pixels, or None where dynamic."""
        return self.shape[self.layout.index("W")]

    @property
    def dynamic(self) -> bool:
        """Whether height and width may change from call to call."""
        return self.height is None or self.width is None


@dataclass(frozen=True)
class Preprocessing:
    """How pixels become the input tensor: ``x = (pixel * scale - mean) / std`` per channel.

    Attributes:
        channel_order: order of the channels the model was trained on.
        scale: factor on the 0-255 pixel value, ``1/255`` or ``1``.
        mean: per channel in the model's channel order, in units after ``scale``.
        std: per channel, likewise.
        anchor: where the image lies in the letterbox, ``"center"`` or ``"top_left"``.
        pad_value: grey level 0-255 of the border.
        fit: how a frame of another aspect gets into the input: with a border around it,
            stretched, or by cutting out its centre.
        crop_share: share of the shorter side that ``"center_crop"`` keeps.
    """

    channel_order: ChannelOrder = "rgb"
    scale: float = 1 / 255
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    anchor: Anchor = "center"
    pad_value: int = 114
    fit: Fit = "letterbox"
    crop_share: float = 0.875


@dataclass(frozen=True)
class BoxOutputs:
    """Where a detector whose boxes are decoded in its graph keeps what, and by which convention.

    Attributes:
        boxes: index of the output that holds the boxes, ``(N, A, 4)`` or ``(A, 4)``.
        scores: index of the scores, ``(N, A, C)`` of a dense or DETR-style head, ``(N, A)`` of
            finished detections. The same as ``boxes`` where one output has both: four columns of
            box, then the scores, or score and label.
        labels: index of the class ids of finished detections; None where there is no such output.
        count: index of the number of valid detections; None where all are valid.
        box_format: order of the four numbers.
        box_unit: pixels of the input, or shares of its sides.
        scores_as: what turns the scores into probabilities.
        background: which column of the scores means "no object".
        multi_label: one box may be found as several classes; else only as its best one.
        first_label: the label of the first class.
        row: what the columns are, where one output has finished detections: most have the box
            first; end-to-end exports of YOLOv7 have the image's number in the batch before it.
    """

    boxes: int = 0
    scores: int = 1
    labels: int | None = None
    count: int | None = None
    box_format: BoxFormat = "xyxy"
    box_unit: BoxUnit = "pixels"
    scores_as: ScoresAs = "probabilities"
    background: Background = "none"
    multi_label: bool = False
    first_label: int = 0
    row: Row = "box_score_label"

    @property
    def columns(self) -> tuple[int, int, int]:
        """In a row: the first column of the box, that of the score, that of the label."""
        return _COLUMNS[self.row]

    @property
    def joined(self) -> bool:
        """Whether boxes and scores share one output."""
        return self.boxes == self.scores


@dataclass(frozen=True)
class ModelDescription:
    """A model, described well enough to run it.

    Attributes:
        input: the image input.
        preprocessing: how to feed it.
        decode: name of the output decode: ``yolov5``, ``yolov8`` (also YOLO11), ``yolox``,
            ``yolov8_raw`` (decoding cut out of the graph), ``ssd`` (boxes and scores of every
            anchor), ``nms_inside`` (finished detections), ``detr`` (one box per query, no NMS)
            for detectors; ``yolov8_seg`` for instance segmentation; ``logits``,
            ``probabilities`` (``+background`` where the first class is none) for classifiers;
            ``planes``, ``indices`` for segmentation.
        input_size: the side of the square input that the model is meant for, pixels; the longer
            one where it is not square.
        stride: the input's sides must be multiples of this.
        class_names: one per class.
        iou_threshold: the NMS threshold that the model's authors use.
        evidence: for each conclusion, what it rests on (shape, metadata, override, accuracy).
        license: licence note found in the model's metadata, or empty.
        transposed: the last two axes of the output are swapped against the family's usual order
            (``(1, 4+classes, anchors)`` for yolov8, ``(1, anchors, 5+classes)`` for the others).
        input_hw: height and width of an input that is not square, in pixels.
        outputs: what the outputs mean, for the decodes ``ssd``, ``nms_inside`` and ``detr``.
    """

    input: InputSpec
    preprocessing: Preprocessing
    decode: str
    input_size: int
    stride: int
    class_names: tuple[str, ...]
    iou_threshold: float = 0.7
    evidence: tuple[str, ...] = ()
    license: str = ""
    transposed: bool = False
    input_hw: tuple[int, int] | None = None
    outputs: BoxOutputs | None = None

    @property
    def own_hw(self) -> tuple[int, int]:
        """Height and width of the input that the model is meant for, pixels."""
        return self.input_hw or (self.input_size, self.input_size)
