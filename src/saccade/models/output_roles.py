"""Which output of a detector is which, where boxes and scores are not one YOLO tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from saccade.models.description import Row
from saccade.models.output_probe import SeenOutput

Kind = Literal["dense", "finished"]
# Detectors without suppression predict some hundred boxes; dense heads predict thousands.
MOST_QUERIES = 1000
_LABEL_WORDS = ("class", "label", "cls", "categor")
_SCORE_WORDS = ("score", "conf", "prob", "logit")
_COUNT_WORDS = ("num", "count", "valid")
# Shares of the image lie between 0 and 1, but for boxes that reach beyond it.
_WILDEST_SHARE = 2.0
# Box and score and label; and with the image's number in the batch, as YOLOv7 exports it.
_FINISHED_COLUMNS, _BATCH_COLUMNS = 6, 7


@dataclass(frozen=True, eq=False)
class Roles:
    """The outputs by what they hold.

    Attributes:
        kind: ``"dense"`` heads give scores of every class, ``"finished"`` detections have one
            score and one label.
        boxes: the boxes.
        scores: the scores; the same output as ``boxes`` where it holds both.
        labels: class ids of finished detections, where they are an output.
        count: number of valid detections, where that is an output.
        row: what the columns of finished detections in one output are.
    """

    kind: Kind
    boxes: SeenOutput
    scores: SeenOutput
    labels: SeenOutput | None = None
    count: SeenOutput | None = None
    row: Row = "box_score_label"

    @property
    def predictions(self) -> int:
        """Boxes per image, most of all patterns."""
        return max(self.boxes.sizes) // max(1, self.boxes.last)


def find_roles(outputs: Sequence[SeenOutput]) -> Roles | None:
    """The roles of a detector's outputs, or None where they are not those of one."""
    plain = [output for output in outputs if "raw" not in output.name.lower()]
    boxes = [o for o in plain if o.last == 4 and 2 <= o.rank <= 4 and not o.whole]
    if not boxes:
        return _joined(plain)
    named = [output for output in boxes if "box" in output.name.lower()]
    chosen = (named or boxes)[0]
    rest = [output for output in plain if output is not chosen]
    return _finished(chosen, rest) or _dense(chosen, rest)


def _joined(outputs: Sequence[SeenOutput]) -> Roles | None:
    """One output with boxes in its first columns. Other outputs would say it is something else."""
    if len(outputs) != 1 or outputs[0].whole or outputs[0].last <= 4:
        return None
    output = outputs[0]
    rows = output.rows()
    if output.rank not in (2, 3) or max(output.sizes) // output.last > MOST_QUERIES:
        return None
    if output.last == _FINISHED_COLUMNS and np.array_equal(rows[:, 5], np.round(rows[:, 5])):
        return Roles("finished", output, output)
    if output.rank == 2 and output.last == _BATCH_COLUMNS and _numbered(rows):
        return Roles("finished", output, output, row="batch_box_label_score")
    # Features of a transformer have this shape too, and do not look like shares of the image.
    shares = output.observed and len(rows) and np.abs(rows[:, :4]).max() < _WILDEST_SHARE
    return Roles("dense", output, output) if output.rank == 3 and shares else None


def _numbered(rows: NDArray[np.float64]) -> bool:
    """Whether rows begin with the only image's number, 0, and have a class before the score.

    Test images may show nothing; then the shape alone has to tell.
    """
    return not rows[:, 0].any() and np.array_equal(rows[:, 5], np.round(rows[:, 5]))


def _finished(boxes: SeenOutput, rest: Sequence[SeenOutput]) -> Roles | None:
    each = tuple(size // 4 for size in boxes.sizes)
    counts = [o for o in rest if set(o.sizes) == {1} and _named(o, _COUNT_WORDS)]
    fitting = [o for o in rest if o.sizes == each and o.rank < boxes.rank and o not in counts]
    labels = _labels(fitting)
    scores = [output for output in fitting if output is not labels and not output.whole]
    if not scores or (labels is None and max(each) > MOST_QUERIES):
        return None
    return Roles("finished", boxes, _scores(scores), labels, _first(counts))


def _labels(fitting: Sequence[SeenOutput]) -> SeenOutput | None:
    """The class ids: whole by type, else by name, else by value where there is a choice."""
    if len(fitting) < 2:
        return None
    named = [output for output in fitting if _named(output, _LABEL_WORDS)]
    scores = [output for output in fitting if _named(output, _SCORE_WORDS)]
    whole = [output for output in fitting if output.whole]
    rounded = [o for o in fitting if o not in scores and np.array_equal(o.rows(), o.rows().round())]
    return _first(whole) or _first(named) or _first(rounded)


def _dense(boxes: SeenOutput, rest: Sequence[SeenOutput]) -> Roles | None:
    each = tuple(size // 4 for size in boxes.sizes)
    fitting = [
        output
        for output in rest
        if not output.whole and output.rank >= 2 and _scores_for(output.values[0].shape, each[0])
    ]
    return Roles("dense", boxes, _scores(fitting)) if fitting else None


def _scores_for(shape: tuple[int, ...], boxes: int) -> bool:
    """Whether a tensor can hold scores of that many boxes: ``(N, A, C)`` or ``(N, A)``."""
    return shape[-2] == boxes or (len(shape) == 2 and shape[-1] == boxes)


def _scores(outputs: Sequence[SeenOutput]) -> SeenOutput:
    """The one that is called so, where there is a choice."""
    return next((output for output in outputs if _named(output, _SCORE_WORDS)), outputs[0])


def _named(output: SeenOutput, words: Sequence[str]) -> bool:
    return any(word in output.name.lower() for word in words)


def _first(outputs: Sequence[SeenOutput]) -> SeenOutput | None:
    return outputs[0] if outputs else None
