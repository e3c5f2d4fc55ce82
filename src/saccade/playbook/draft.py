"""Draft a spec by looking at a model and at data; what `saccade init` writes."""

from __future__ import annotations

import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from saccade import plugins
from saccade.data.counted import counted_classes
from saccade.data.open import open_labelled
from saccade.data.roles import split_roles
from saccade.data.video import is_live, probe_video
from saccade.model_reference import path_in
from saccade.models.description import ModelDescription
from saccade.models.inspect import summarize
from saccade.models.overrides import OUTPUT_SETTINGS
from saccade.models.sources.contract import ResolvedModel
from saccade.pipeline.config import TrackerOptions
from saccade.playbook.model import describe_model
from saccade.spec import Spec
from saccade.tasks.contract import Task


def draft_spec(
    model: str,
    data: Path | None,
    video: str | None,
    folder: Path | None = None,
    task: str = "detection",
    weights: Path | None = None,
) -> tuple[str, dict[str, Any]]:
    """The text of a commented spec, and the facts it rests on.

    Args:
        model: a file or a name, as in `Spec.model`.
        data: labelled images.
        video: what it runs on.
        folder: where the spec will lie; its paths are relative to that. By default the current
            folder.
        task: what the model does.
        weights: state dict of the module that the model names.

    Raises:
        ModelError: the model is unreadable or not of that task.
        DataError: the data are.
    """
    of_task: Task = plugins.load("tasks", task)
    description, about = _described(task, model, weights)
    facts: dict[str, Any] = {"model": about, "evidence": list(description.evidence)}
    lines = ["# saccade spec. Run it with: saccade optimize <this file>", ""]
    before, path, after = path_in(model)
    there = f"{before}{_seen_from(folder, path)}{after}" if path else model
    lines += _model_lines(task, there, description)
    if weights is not None:
        lines.insert(-1, _entry("weights", _seen_from(folder, str(weights))))
    lines += _data_lines(data, folder, task, description, facts)
    lines += _video_lines(video, folder, facts)
    labelled = bool(facts.get("labelled"))
    lines += _goal_lines(of_task.metrics[0] if labelled else None, video is not None)
    if getattr(of_task, "tracks", False):
        lines += _tracker_lines(facts)
    lines += _override_lines(description)
    return "\n".join(lines) + "\n", facts


def _described(
    task: str, model: str, weights: Path | None
) -> tuple[ModelDescription, dict[str, Any]]:
    """The description, and what is in the file; what had to be converted is not kept."""
    with tempfile.TemporaryDirectory() as folder:
        spec = Spec(task=task, model=model, weights=weights)
        found = describe_model(spec, Path(folder))
        return found.description, _summary(found.resolved)


# What an outline, which has no weights, would tell wrongly.
_OF_WEIGHTS = ("parameters", "precision", "opset", "producer")


def _summary(resolved: ResolvedModel) -> dict[str, Any]:
    """What is in the model's file, as far as its graph tells."""
    found = summarize(resolved.graph)
    if not resolved.outline:
        return found
    told = {key: value for key, value in found.items() if key not in _OF_WEIGHTS}
    return {**told, "size_mb": round(resolved.model.size_mb, 3)}


def _seen_from(folder: Path | None, path: str) -> str:
    """A path as a spec in ``folder`` has to name it; what is no file stays as it is."""
    given = Path(path).expanduser()
    if given.is_absolute() or not given.exists():
        return str(given) if given.is_absolute() else path
    return os.path.relpath(given, folder or Path.cwd())


def _comment(text: str) -> str:
    # What a file says about itself may hold line breaks, and must stay a comment.
    return f"#   {' '.join(text.split())}"


def _entry(key: str, value: object) -> str:
    return str(yaml.safe_dump({key: value}, allow_unicode=True)).strip()


def _model_lines(task: str, model: str, description: ModelDescription) -> list[str]:
    lines = [f"task: {task}", _entry("model", model)]
    lines += [_comment(evidence) for evidence in description.evidence]
    if description.license:
        lines.append(_comment(f"licence of the weights: {description.license}"))
    return [*lines, ""]


def _data_lines(
    data: Path | None,
    folder: Path | None,
    task: str,
    description: ModelDescription,
    facts: dict[str, Any],
) -> list[str]:
    if data is None:
        return [
            "# Labelled images make it possible to bound the loss of accuracy:",
            "# data: path/to/data.yaml",
            "",
        ]
    splits = open_labelled(data, description.class_names, task)
    roles = split_roles(splits)
    counts = {
        name: len(getattr(roles, name) or ()) for name in ("calibration", "selection", "report")
    }
    facts["data"] = counts
    counted = counted_classes((), description.class_names, splits)
    facts["classes"] = [description.class_names[index] for index in counted]
    facts["labelled"] = roles.report is not None and roles.report.labelled
    facts["problems"] = len(roles.problems)
    said = ", ".join(f"{count} for {name}" for name, count in counts.items())
    lines = [_entry("data", _seen_from(folder, str(data))), _comment(f"images: {said}")]
    if roles.problems:
        such_as = roles.problems[0].detail
        lines.append(_comment(f"{len(roles.problems)} problems, such as: {such_as}"))
    return [*lines, ""]


def _video_lines(video: str | None, folder: Path | None, facts: dict[str, Any]) -> list[str]:
    if video is None:
        return [
            "# What it runs on (video, folder of images, stream URL, camera):",
            "# video: street.mp4",
            "",
        ]
    lines = [_entry("video", video if is_live(video) else _seen_from(folder, video))]
    if is_live(video) or not Path(video).is_dir():
        probe = probe_video(video)
        facts["video"] = {"width": probe.width, "height": probe.height, "fps": probe.fps}
        length = f", {probe.duration_s:.0f} s" if probe.duration_s else ""
        lines.append(f"#   {probe.width}x{probe.height}, {probe.codec}, {probe.fps:g} FPS{length}")
    return [*lines, ""]


def _goal_lines(metric: str | None, video: bool) -> list[str]:
    speed = "throughput_fps>=60" if video else "latency_ms.p99<=50"
    accuracy = f"{metric}_drop<=0.01" if metric else "agreement_drop<=0.05"
    return [
        "target: cpu",
        "# Others: latency_ms.p50, latency_ms.p95, peak_rss_mb, model_mb, core_ms_per_frame.",
        "goals:",
        f"  - {speed}",
        f"  - {accuracy}",
        "budget: 5m",
        "",
    ]


def _tracker_lines(facts: dict[str, Any]) -> list[str]:
    classes = facts.get("classes")
    settings = [f"#   {name}: {value}" for name, value in asdict(TrackerOptions()).items()]
    return [
        "# Only these classes are followed; by default those whose tracks are labelled, else all.",
        *(_entry("classes", classes) if classes else "# classes: [person]").splitlines(),
        "# How they are followed (ByteTrack). Uncomment what you want to change.",
        "# tracker:",
        *settings,
        "",
    ]


def _override_lines(description: ModelDescription) -> list[str]:
    pre = description.preprocessing
    return [
        "# What was found out about the model. Uncomment what is wrong and correct it.",
        "# overrides:",
        f"#   decode: {description.decode}",
        f"#   input_size: {description.input_size}",
        f"#   channel_order: {pre.channel_order}",
        # All digits: an override of the same value must mean the same configuration.
        f"#   scale: {pre.scale!r}",
        f"#   mean: [{', '.join(f'{v!r}' for v in pre.mean)}]",
        f"#   std: [{', '.join(f'{v!r}' for v in pre.std)}]",
        f"#   anchor: {pre.anchor}",
        f"#   iou_threshold: {description.iou_threshold:g}",
        *_output_lines(description),
    ]


def _output_lines(description: ModelDescription) -> list[str]:
    """What boxes and scores mean, where the graph gives boxes."""
    outputs = description.outputs
    if outputs is None:
        return []
    settings = {name: getattr(outputs, name) for name in OUTPUT_SETTINGS}
    return [f"#   {_entry(name, value)}" for name, value in settings.items()]
