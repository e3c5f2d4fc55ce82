"""What tasks share when they draw: colours per class, and lines of text."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def class_color(class_id: int) -> tuple[int, int, int]:
    """A colour that is far from that of the neighbouring class ids (golden-ratio hues)."""
    import colorsys

    red, green, blue = colorsys.hsv_to_rgb((class_id * 0.618034) % 1.0, 0.85, 0.95)
    return int(red * 255), int(green * 255), int(blue * 255)


def write_line(canvas: NDArray[np.uint8], text: str, row: int) -> None:
    """Write a line of text into the top left corner of an RGB ``(H, W, 3)`` image, in place."""
    import cv2

    thickness = max(1, round(min(canvas.shape[:2]) / 400))
    font, size = cv2.FONT_HERSHEY_SIMPLEX, max(0.4, min(canvas.shape[:2]) / 900)
    (width, height), below = cv2.getTextSize(text, font, size, thickness)
    top = row * (height + 2 * below)
    cv2.rectangle(canvas, (0, top), (width + 2 * below, top + height + 2 * below), (0, 0, 0), -1)
    cv2.putText(
        canvas,
        text,
        (below, top + height + below // 2),
        font,
        size,
        (255, 255, 255),
        thickness,
        cv2.LINE_AA,
    )


def label_box(
    canvas: NDArray[np.uint8],
    text: str,
    corner: tuple[int, int],
    color: tuple[int, int, int],
    line: int,
) -> None:
    """Write ``text`` above the corner (left, top) of a box, in place, on a bar of its colour."""
    import cv2

    font, size = cv2.FONT_HERSHEY_SIMPLEX, line / 4
    (width, height), below = cv2.getTextSize(text, font, size, max(1, line // 2))
    left, top = corner[0], max(corner[1], height + below)
    cv2.rectangle(canvas, (left, top - height - below), (left + width, top), color, -1)
    ink = (0, 0, 0) if sum(color) > 380 else (255, 255, 255)
    cv2.putText(
        canvas, text, (left, top - below // 2), font, size, ink, max(1, line // 2), cv2.LINE_AA
    )
