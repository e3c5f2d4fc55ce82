"""Accuracy of both baselines against the reference figures, by saccade's own pipeline."""

from __future__ import annotations

from pathlib import Path

from benchmarks.setting import Setting, note
from benchmarks.table import Row
from saccade.playbook.partial import baseline_only
from saccade.spec import make_spec

TOLERANCE = 0.002
# From the sample data's README: pycocotools on the 64 validation images.
REFERENCE = {
    "YOLO11n": {"map50_95": 0.468, "map50": 0.628},
    "YOLOX-nano": {"map50_95": 0.345, "map50": 0.513},
}
SHOWN = {"map50_95": "mAP50-95", "map50": "mAP50"}


def measure(setting: Setting) -> list[Row]:
    """Judge both baselines; everything is inferred from the model files."""
    models = {"YOLO11n": setting.inputs.model, "YOLOX-nano": setting.inputs.yolox}
    rows = []
    for name, model in models.items():
        note(f"accuracy of the {name} baseline")
        found = _accuracy(setting, model, setting.folder / f"accuracy-{model.stem}")
        for metric, reference in REFERENCE[name].items():
            rows.append(
                Row(
                    f"{name} {SHOWN[metric]}, distance from the reference",
                    abs(found[metric] - reference),
                    bar=TOLERANCE,
                    at_least=False,
                    detail=f"{found[metric]:.4f} against {reference}",
                )
            )
    return rows


def _accuracy(setting: Setting, model: Path, out: Path) -> dict[str, float]:
    spec = make_spec(
        {"model": model, "data": setting.inputs.data, "video": str(setting.inputs.video)}
    )
    return baseline_only(spec, out)[1]
