"""The repair ladders of a run: their logs, and which layers int8 disturbs. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from saccade.report import quantities as q
from saccade.report.charts import NARROW, Scale
from saccade.report.document import mapping, records, texts
from saccade.report.svg import SMALL, Box, Canvas, fit, text_width

MAX_LAYERS = 40
# Errors below this share of the largest are drawn as nothing.
SPAN = 1e-5


@dataclass(frozen=True)
class Step:
    """One step of a ladder, as text."""

    rung: str
    setting: str
    before: str
    after: str
    took: str
    outcome: str


@dataclass(frozen=True)
class Ladder:
    """One ladder of a run, or int8 that needed none.

    Attributes:
        name: the first setting.
        steps: in the order in which they were tried; none where the first setting was kept.
        layers: measured sensitivity, ``node``, ``kind``, ``error``, the largest first, and
            ``saved_ms`` where it was measured what int8 saves; empty where nothing was.
        kept_float: nodes that stayed float.
        doubts: about the calibration images.
    """

    name: str
    steps: tuple[Step, ...]
    layers: tuple[Mapping[str, Any], ...]
    kept_float: tuple[str, ...]
    doubts: tuple[str, ...]

    @property
    def shown(self) -> str:
        """How many of the measured layers are drawn; empty where all of them are."""
        if len(self.layers) <= MAX_LAYERS:
            return ""
        return f"Drawn are the {MAX_LAYERS} most sensitive of {len(self.layers)} layers."


def ladders(result: Mapping[str, Any]) -> list[Ladder]:
    """Every ladder of a run, each with its whole log; then int8 that was kept at once, without."""
    longest: dict[str, Mapping[str, Any]] = {}
    measured: dict[str, Mapping[str, Any]] = {}
    for trial in records(result.get("trials")):
        steps = records(trial.get("repair"))
        if not steps:
            continue
        key = f"{trial.get('parent')} {steps[0].get('setting')}"
        longest[key] = trial
        details = mapping(trial.get("details"))
        if records(details.get("sensitivity")):
            measured[key] = details
    climbed = [_ladder(trial, measured.get(key, {})) for key, trial in longest.items()]
    return climbed + [_held(trial) for trial in records(result.get("trials")) if _at_once(trial)]


def _at_once(trial: Mapping[str, Any]) -> bool:
    """Whether a trial was kept without repair and its layers were measured all the same."""
    known = records(mapping(trial.get("details")).get("sensitivity"))
    return bool(trial.get("kept") and known and not records(trial.get("repair")))


def _held(trial: Mapping[str, Any]) -> Ladder:
    details = mapping(trial.get("details"))
    return Ladder(
        name=str(trial.get("change") or ""),
        steps=(),
        layers=_layers(details),
        kept_float=tuple(texts(details.get("float_layers"))),
        doubts=tuple(texts(details.get("doubts"))),
    )


def _ladder(trial: Mapping[str, Any], details: Mapping[str, Any]) -> Ladder:
    steps = records(trial.get("repair"))
    return Ladder(
        name=str(steps[0].get("setting") or ""),
        steps=tuple(_step(step) for step in steps),
        layers=_layers(details),
        kept_float=tuple(texts(details.get("float_layers"))),
        doubts=tuple(texts(mapping(trial.get("details")).get("doubts"))),
    )


def _layers(details: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    saved = {}
    for item in records(details.get("layer_times")):
        float_ms, int8_ms = q.number(item.get("float_ms")), q.number(item.get("int8_ms"))
        if float_ms is not None and int8_ms is not None:
            saved[str(item.get("node"))] = float_ms - int8_ms
    found = records(details.get("sensitivity"))
    return tuple({**layer, "saved_ms": saved.get(str(layer.get("node")))} for layer in found)


def _step(step: Mapping[str, Any]) -> Step:
    return Step(
        rung=str(step.get("rung") or ""),
        setting=str(step.get("setting") or ""),
        before=_drop(step.get("drop_before")),
        after=_drop(step.get("drop_after")),
        took=q.duration(q.number(step.get("wall_s"))) if step.get("setting") else q.MISSING,
        outcome=str(step.get("outcome") or ""),
    )


def _drop(value: Any) -> str:
    found = q.number(value)
    return q.MISSING if found is None else q.fixed(found, 4)


def sensitivity_chart(
    layers: Sequence[Mapping[str, Any]], kept_float: Sequence[str], width: float
) -> Markup:
    """One bar per layer, log scale: the error that int8 in this layer alone puts on the outputs.

    Args:
        layers: with ``node``, ``kind``, ``error`` and perhaps ``saved_ms``, the largest first;
            `MAX_LAYERS` are drawn.
        kept_float: nodes that stayed float; theirs are the dark bars.
        width: px.
    """
    errors = [(q.number(layer.get("error")) or 0.0, layer) for layer in layers]
    drawn = [(error, layer) for error, layer in errors if error > 0][:MAX_LAYERS]
    if not drawn:
        return Markup("")
    narrow = width < NARROW
    canvas = Canvas(width, 0, "Sensitivity of each layer to int8")
    high = max(error for error, _ in drawn)
    low = max(min(error for error, _ in drawn) / 2, high * SPAN)
    # No wider than the longest name, so that a short one does not lie far from its bar.
    longest = max(text_width(str(layer.get("node") or ""), SMALL) for _, layer in drawn)
    room = 14.0 if narrow else min(width * 0.42, longest + 14)
    scale = Scale(low, max(high, low * 2), room, width - 66, log=True)
    pitch = 36.0 if narrow else 20.0
    bottom = pitch * len(drawn) + 2
    for power in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1):
        x = scale(10.0**power)
        canvas.line(x, 0, x, bottom + 3, "grid")
        canvas.text(x, bottom + 16, f"{10.0**power:g}", "s", "middle")
    for index, (error, layer) in enumerate(drawn):
        _row(canvas, scale, layer, error, pitch * index, kept_float)
    canvas.height = bottom + 24
    return canvas.render()


def _row(
    canvas: Canvas,
    scale: Scale,
    layer: Mapping[str, Any],
    error: float,
    top: float,
    kept_float: Sequence[str],
) -> None:
    narrow = canvas.width < NARROW
    name, kind = str(layer.get("node") or ""), str(layer.get("kind") or "")
    floats = name in kept_float
    y = top + (18 if narrow else 3)
    room = (canvas.width if narrow else scale.start) - 10
    # The end of a layer's name tells it from its neighbours.
    shown = fit(name[::-1], room, SMALL)[::-1]
    canvas.text(0, y - 5 if narrow else y + 11, shown, "s")
    saved = q.number(layer.get("saved_ms"))
    gain = "" if saved is None else f", int8 saves {saved:.3f} ms"
    tip = f"{kind} {name}: error {error:.3g}{gain}{', left float' if floats else ''}"
    css = "at-peak" if floats else "operator"
    canvas.rect(Box(scale.start, y, scale(error), y + 13), css, tip, 2)
    canvas.text(scale(error) + 6, y + 11, f"{error:.2g}", "s")
