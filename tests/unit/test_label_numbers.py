"""Labels that count classes from 1, told by the model's own answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from models_graphs import model_of
from onnx import helper
from PIL import Image

from saccade.errors import DataError
from saccade.playbook.prepare import prepare
from saccade.progress import SilentProgress
from saccade.spec import make_spec
from saccade.study import RunFolder

COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
IMAGES = 48


def colour_classifier(folder: Path) -> Path:
    """Four classes: red, green, blue, and one that never wins."""
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["mean", "by_channel"], ["logits"]),
    ]
    by_channel = np.concatenate([2 * np.eye(3), np.zeros((3, 1))], axis=1)
    model = model_of(
        nodes, {"logits": (1, 4)}, {"by_channel": by_channel.astype(np.float32)}, (1, 3, 32, 32)
    )
    onnx.save(model, folder / "colours.onnx")
    return folder / "colours.onnx"


def job_with(folder: Path, lowest: int, labels: dict[str, Any]) -> Any:
    rows = ["file,label"]
    for index in range(IMAGES):
        # Some noise: images that are all alike would be taken for copies of one.
        noise = np.random.default_rng(index).integers(0, 40, (32, 32, 3))
        pixels = np.clip(np.array(COLOURS[index % 3]) - noise, 0, 255).astype(np.uint8)
        (folder / "images").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / "images" / f"{index}.png")
        rows.append(f"{index}.png,{index % 3 + lowest}")
    (folder / "labels.csv").write_text("\n".join(rows), encoding="utf-8")
    spec = make_spec(
        {
            "task": "classification",
            "model": str(colour_classifier(folder)),
            "data": str(folder / "labels.csv"),
            "goals": ["top1_drop<=0.01"],
            "labels": labels,
        }
    )
    return prepare(spec, RunFolder(folder / "run"), SilentProgress())


def test_labels_that_fit_better_one_class_lower_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"count classes from 1.*Set labels: first_class to 1"):
        job_with(tmp_path, 1, {})


@pytest.mark.parametrize(
    ("lowest", "labels", "first"),
    [(0, {}, 0), (1, {"first_class": 1}, 0), (1, {"first_class": 0}, 1)],
)
def test_right_labels_and_what_the_user_says_are_taken(
    tmp_path: Path, lowest: int, labels: dict[str, Any], first: int
) -> None:
    job = job_with(tmp_path, lowest, labels)
    found = {i.label for i in (*job.roles.selection.images, *job.roles.report.images)}
    assert found == {first, first + 1, first + 2}
