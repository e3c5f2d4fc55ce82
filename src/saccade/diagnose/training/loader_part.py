"""What the rules about one part of loading have in common. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from saccade.diagnose.records import Finding
from saccade.diagnose.training.costs import MIN_SHARE, LoaderParts, StepCost
from saccade.train.profile import TrainingProfile


def loader_part(
    profile: TrainingProfile,
    name: str,
    parts: tuple[str, ...],
    what: str,
    hints: tuple[str, ...],
    evidence: Mapping[str, float] | None = None,
) -> Finding | None:
    """A finding where steps wait for a part of loading longer than the least share.

    Args:
        profile: the profile.
        name: the finding's name.
        parts: names of parts in `LoaderParts`.
        what: the subject of the title: "Decoding".
        hints: names of training changes.
        evidence: more numbers.
    """
    found, cost = LoaderParts.of(profile), StepCost.of(profile)
    fraction = found.fraction(*parts)
    gain = cost.without_loading(fraction)
    if gain.share < MIN_SHARE:
        return None
    own_s = sum(getattr(found, part) for part in parts)
    title = (
        f"{what} takes {1e3 * own_s:.1f} of the {1e3 * found.total_s:.1f} ms in which a batch is "
        f"loaded, and steps of {1e3 * cost.step_s:.1f} ms spend {gain.share:.0%} on it; without it "
        f"they would come at most {gain.sequential:.1f} times as fast."
    )
    numbers = {
        **{f"{part.removesuffix('_s')}_ms": 1e3 * getattr(found, part) for part in parts},
        "batch_loading_ms": 1e3 * found.total_s,
        "data_wait_ms": 1e3 * cost.data_s,
        "step_ms": 1e3 * cost.step_s,
        "data_share": profile.data_share,
        "loader_workers": float(cost.workers),
        **(evidence or {}),
    }
    return Finding(name, title, numbers, gain.share, gain.sequential, gain.pipelined, hints)
