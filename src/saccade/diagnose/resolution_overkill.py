"""Rule: the model is given more pixels than the scene needs."""

from __future__ import annotations

from statistics import quantiles

from saccade.diagnose.gains import MIN_GAIN, infer_scaled, today_gain
from saccade.diagnose.records import Finding
from saccade.profile.records import Profile

# COCO calls objects below 32 pixels a side small; above it detectors lose little by shrinking.
NEEDED_PX = 32.0
# Only where nine of ten objects are half as large again is there room to shrink.
OVERKILL_PX = 1.5 * NEEDED_PX
# Fewer objects do not tell what the scene holds.
MIN_OBJECTS = 30
# No detector trained at full size holds its accuracy below half of it.
MIN_SCALE = 0.5
# Inputs are padded to a multiple of the stride anyway; less border than this is not avoidable.
MIN_PADDING_SHARE = 0.15


def resolution_overkill(profile: Profile) -> Finding | None:
    """Border painted around the frame, and objects far larger than detection needs.

    The bound scales inference with the pixels that remain; what the accuracy says to it is for
    the trial to find out.
    """
    padding = padding_share(profile)
    smallest = _tenth_percentile(profile.object_sizes_px)
    scale = max(MIN_SCALE, NEEDED_PX / smallest) if smallest > OVERKILL_PX else 1.0
    wasted = padding if padding >= MIN_PADDING_SHARE else 0.0
    factor = scale**2 * (1 - wasted)
    gains = infer_scaled(profile, factor)
    if factor >= 1 or today_gain(profile, gains) < MIN_GAIN:
        return None
    hints = (("rect_letterbox",) if wasted else ()) + (("resolution",) if scale < 1 else ())
    evidence = {
        "input_height_px": float(profile.input_hw[0]),
        "input_width_px": float(profile.input_hw[1]),
        "padding_share": padding,
        "objects": float(len(profile.object_sizes_px)),
        "object_p10_px": smallest,
        "needed_scale": scale,
    }
    share, sequential, pipelined = gains.share, gains.sequential, gains.pipelined
    title = _title(wasted, scale, smallest)
    return Finding("resolution_overkill", title, evidence, share, sequential, pipelined, hints)


def padding_share(profile: Profile) -> float:
    """Share 0-1 of the model's input that the frame does not cover."""
    (height, width), (frame_h, frame_w) = profile.input_hw, profile.frame_hw
    if not profile.extra.get("letterboxed", 1.0):
        return 0.0
    if min(height, width, frame_h, frame_w) <= 0:
        return 0.0
    scale = min(height / frame_h, width / frame_w)
    return max(0.0, 1 - frame_h * frame_w * scale**2 / (height * width))


def _tenth_percentile(sizes: tuple[float, ...]) -> float:
    return quantiles(sizes, n=10)[0] if len(sizes) >= MIN_OBJECTS else 0.0


def _title(wasted: float, scale: float, smallest: float) -> str:
    parts = []
    if wasted:
        parts.append(f"{wasted:.0%} of the model's input is border")
    if scale < 1:
        parts.append(
            f"nine of ten objects are larger than {smallest:.0f} pixels, where "
            f"{NEEDED_PX:.0f} are enough"
        )
    text = " and ".join(parts)
    return f"{text[0].upper()}{text[1:]}."
