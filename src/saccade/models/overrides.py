"""What the user says about a model, checked: each key, each value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from numbers import Real
from typing import Any, get_args

from saccade.errors import ModelError
from saccade.models.description import (
    Background,
    BoxFormat,
    BoxUnit,
    ModelDescription,
    Preprocessing,
    ScoresAs,
)
from saccade.models.families import BOX_DECODES, FAMILIES, SEGMENTER
from saccade.suggest import did_you_mean

DECODES = (*dict.fromkeys(family.decode for family in (*FAMILIES, SEGMENTER)), *BOX_DECODES)


def validated(overrides: Mapping[str, Any] | None) -> dict[str, Any]:
    """Check keys and values, and normalize the values.

    Raises:
        ModelError: an unknown key, with the nearest known one, or a value out of range.
    """
    return {key: _value(key, value) for key, value in (overrides or {}).items()}


def apply_overrides(
    description: ModelDescription, overrides: Mapping[str, Any]
) -> ModelDescription:
    """Put validated overrides in place of what was found out.

    ``decode`` and ``class_names`` also decide how the output shape is read, so they are
    settled before this; here they are only put on record.

    Raises:
        ModelError: ``input_size`` contradicts a fixed input or the stride, or a setting is about
            outputs that the model does not have.
    """
    preprocessing = {key: v for key, v in overrides.items() if key in _PREPROCESSING}
    outputs = {key: v for key, v in overrides.items() if key in OUTPUT_SETTINGS}
    apart = {*preprocessing, *outputs}
    direct = {key: v for key, v in overrides.items() if key not in apart}
    if outputs and description.outputs is None:
        raise ModelError(
            f"The model setting {next(iter(outputs))} is about boxes that the graph gives "
            f"({', '.join(BOX_DECODES)}), and this is a {description.decode} model."
        )
    said = tuple(
        f"{key} = {_short(value)}: given by the user or the model's source."
        for key, value in overrides.items()
    )
    changed = replace(
        description,
        **direct,
        preprocessing=replace(description.preprocessing, **preprocessing),
        outputs=description.outputs and replace(description.outputs, **outputs),
        evidence=description.evidence + said,
    )
    _check_size(changed, "input_size" in overrides)
    return changed


def _check_size(description: ModelDescription, overridden: bool) -> None:
    size, spec, stride = description.input_size, description.input, description.stride
    if size % stride:
        below = size // stride * stride
        raise ModelError(
            f"The input size {size} is not a multiple of the model's stride {stride}. "
            f"The nearest are {below} and {below + stride}."
        )
    if overridden and spec.height and spec.width and size != max(spec.height, spec.width):
        raise ModelError(
            f"input_size {size} was asked for, but the model has a fixed input of "
            f"{spec.height}x{spec.width}. Leave input_size out, or reshape the model first."
        )


def _value(key: str, value: Any) -> Any:
    check = _CHECKS.get(key)
    if check is None:
        hint = did_you_mean(key, _CHECKS)
        raise ModelError(f"Unknown model setting {key!r}. {hint}Known are: {', '.join(_CHECKS)}.")
    expected, accept = check
    try:
        return accept(value)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise ModelError(
            f"The model setting {key} = {value!r} is not usable; expected {expected}."
        ) from error


def _one_of(options: Sequence[str]) -> Callable[[Any], str]:
    def accept(value: Any) -> str:
        if value not in options:
            raise ValueError
        return str(value)

    return accept


def _integer(low: int, high: int) -> Callable[[Any], int]:
    def accept(value: Any) -> int:
        if isinstance(value, bool) or int(value) != value or not low <= value <= high:
            raise ValueError
        return int(value)

    return accept


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not abs(float(value)) < 1e6:
        raise ValueError
    return float(value)


def _positive(value: Any) -> float:
    # YAML reads 1/255 as text, and that is how people write it.
    number = float(Fraction(value)) if isinstance(value, str) else _number(value)
    if number <= 0:
        raise ValueError
    return number


def _fraction(value: Any) -> float:
    if not 0 < _number(value) <= 1:
        raise ValueError
    return float(value)


def _three(each: Callable[[Any], float]) -> Callable[[Any], tuple[float, float, float]]:
    def accept(value: Any) -> tuple[float, float, float]:
        first, second, third = value
        return each(first), each(second), each(third)

    return accept


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _names(value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not value or not all(isinstance(name, str) for name in value):
        raise ValueError
    return tuple(value)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


_PREPROCESSING = frozenset(Preprocessing.__dataclass_fields__)

# Fields that the user may set; which output is which is told from the outputs.
OUTPUT_SETTINGS = (
    "box_format",
    "box_unit",
    "scores_as",
    "background",
    "multi_label",
    "first_label",
)


def _choice(kind: Any) -> tuple[str, Callable[[Any], Any]]:
    """One of the texts of a literal type."""
    values = get_args(kind)
    return " or ".join(map(repr, values)), _one_of(values)


# For each key: what is expected, and a function that returns the value or raises.
_CHECKS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "input_size": ("pixels, a positive multiple of the stride", _integer(1, 16384)),
    "decode": (f"one of {', '.join(DECODES)}", _one_of(DECODES)),
    "channel_order": ("'rgb' or 'bgr'", _one_of(("rgb", "bgr"))),
    "scale": ("a positive factor on the 0-255 pixel value, such as 1/255", _positive),
    "mean": ("three numbers, in units after scale", _three(_number)),
    "std": ("three positive numbers, in units after scale", _three(_positive)),
    "anchor": ("'center' or 'top_left'", _one_of(("center", "top_left"))),
    "fit": (
        "'letterbox', 'stretch' or 'center_crop'",
        _one_of(("letterbox", "stretch", "center_crop")),
    ),
    "crop_share": ("a number above 0, at most 1", _fraction),
    "pad_value": ("a grey level from 0 to 255", _integer(0, 255)),
    "class_names": ("a list of names, one per class", _names),
    "iou_threshold": ("a number above 0, at most 1", _fraction),
    "box_format": _choice(BoxFormat),
    "box_unit": _choice(BoxUnit),
    "scores_as": _choice(ScoresAs),
    "background": _choice(Background),
    "multi_label": ("true or false", _truth),
    "first_label": ("a whole number from 0", _integer(0, 1000)),
    "stride": ("a positive number of pixels", _integer(1, 1024)),
}
