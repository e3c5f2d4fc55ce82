"""Drawing primitives for the charts: escaped SVG elements, text that fits, ticks that are round.

Colours are CSS classes, so that one drawing serves light, dark and print.
"""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from markupsafe import Markup, escape

SIZE = 12.0  # font sizes in px, as report.css sets them for `text` and `text.s`
SMALL = 11.0
# Average advance of a character relative to the font size; on the wide side for sans fonts, so
# that text measured with it never overflows.
ADVANCE = 0.58
BOLD_ADVANCE = 0.65
WIDE_ADVANCE = 1.05


def element(tag: str, *children: Markup | str, **attributes: Any) -> Markup:
    """One element with everything in it escaped.

    Args:
        tag: element name.
        children: strings are escaped, `Markup` is taken as it is.
        attributes: ``class_`` becomes ``class``, other underscores hyphens; None is left out.
    """
    pairs = (
        f' {name.rstrip("_").replace("_", "-")}="{escape(_attribute(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    inner = Markup("").join(children)
    return Markup(f"<{tag}{''.join(pairs)}>{inner}</{tag}>")


def _attribute(value: Any) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def text_width(text: str, size: float = SIZE, bold: bool = False) -> float:
    """Estimated width of ``text`` in px."""
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    advance = BOLD_ADVANCE if bold else ADVANCE
    return size * (advance * (len(text) - wide) + WIDE_ADVANCE * wide)


def fit(text: str, width: float, size: float = SIZE) -> str:
    """``text``, its end replaced by an ellipsis where it is wider than ``width`` px."""
    if text_width(text, size) <= width:
        return text
    while text and text_width(text + "…", size) > width:
        text = text[:-1]
    return f"{text.rstrip()}…" if text else ""


def nice_ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers (1, 2, 2.5 or 5 × a power of ten) within [low, high], about ``count``."""
    span = high - low
    if span <= 0 or not math.isfinite(span):
        return [low]
    rough = span / max(count, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def tick_text(value: float, ticks: list[float]) -> str:
    """A tick's number with as many decimals as its neighbours need."""
    step = min((b - a for a, b in pairwise(ticks)), default=value or 1.0)
    decimals = next((d for d in range(7) if abs(round(step, d) - step) < 1e-9), 6)
    text = f"{value:.{decimals}f}"
    return "0" if float(text) == 0 else text.replace("-", "−")


@dataclass(frozen=True)
class Box:
    """An axis-aligned rectangle in px, for keeping labels apart."""

    x0: float
    y0: float
    x1: float
    y1: float

    def overlaps(self, other: Box) -> bool:
        """Whether the two share any area."""
        return not (
            self.x1 <= other.x0 or other.x1 <= self.x0 or self.y1 <= other.y0 or other.y1 <= self.y0
        )

    def inside(self, other: Box) -> bool:
        """Whether this lies within ``other``."""
        return (
            self.x0 >= other.x0
            and self.x1 <= other.x1
            and self.y0 >= other.y0
            and self.y1 <= other.y1
        )


@dataclass
class Canvas:
    """Collects elements and becomes one ``<svg>``.

    Attributes:
        width: px of the drawing's own coordinates.
        height: likewise; may be set until `render`.
        description: what the drawing shows, for those who do not see it.
    """

    width: float
    height: float
    description: str
    parts: list[Markup] = field(default_factory=list)

    def add(self, tag: str, *children: Markup | str, tip: str = "", **attributes: Any) -> None:
        """Add an element; ``tip`` is shown when the pointer rests on it."""
        if tip:
            children = (element("title", tip), *children)
        self.parts.append(element(tag, *children, **attributes))

    def text(self, x: float, y: float, content: str, class_: str = "", anchor: str = "") -> None:
        """Add text whose baseline starts (or with ``anchor`` ends, centres) at (x, y)."""
        self.add(
            "text",
            content,
            x=float(x),
            y=float(y),
            class_=class_ or None,
            text_anchor=anchor or None,
        )

    def line(self, x0: float, y0: float, x1: float, y1: float, class_: str) -> None:
        """Add a straight line."""
        self.add("line", x1=float(x0), y1=float(y0), x2=float(x1), y2=float(y1), class_=class_)

    def rect(self, box: Box, class_: str, tip: str = "", radius: float | None = None) -> None:
        """Add a rectangle."""
        width, height = max(box.x1 - box.x0, 0.0), max(box.y1 - box.y0, 0.0)
        self.add(
            "rect",
            x=box.x0,
            y=box.y0,
            width=width,
            height=height,
            rx=radius,
            class_=class_,
            tip=tip,
        )

    def circle(self, x: float, y: float, radius: float, class_: str, tip: str = "") -> None:
        """Add a circle."""
        self.add("circle", cx=float(x), cy=float(y), r=float(radius), class_=class_, tip=tip)

    def render(self) -> Markup:
        """The finished drawing. It scales to the width it is given."""
        return element(
            "svg",
            *self.parts,
            viewBox=f"0 0 {self.width:.0f} {self.height:.0f}",
            role="img",
            aria_label=self.description,
        )
