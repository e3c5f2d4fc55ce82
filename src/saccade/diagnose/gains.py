"""What a rule asks of the cost model: how fast without this, and is it worth a finding. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from saccade.profile.cost_model import CostModel, StageCost
from saccade.profile.records import Profile

# Keeps gains finite where a single stage is the whole frame; nothing real comes near it.
MAX_GAIN = 1000.0
# A stage below this share gains at most 1.18×, about what a noisy machine can tell from nothing.
MIN_STAGE_SHARE = 0.15
# Below this a finding would promise less than its own measurement can show.
MIN_GAIN = 1.1


@dataclass(frozen=True)
class Gains:
    """Upper bounds on the throughput ratio.

    Attributes:
        share: share 0-1 of today's frame time that goes away.
        sequential: stages one after the other, before and after.
        pipelined: all stages overlapped after, against today's execution.
    """

    share: float
    sequential: float
    pipelined: float


def cost_model(profile: Profile) -> CostModel:
    """Today's cost model; ``profile.extra["streams"]`` says how many inferences run at once."""
    return CostModel.of(profile, streams=int(profile.extra.get("streams", 1)))


def gains_of(profile: Profile, changed: Mapping[str, StageCost]) -> Gains:
    """Gains if the stages in ``changed`` cost that instead of what they cost today.

    Going from sequential to pipelined lets inferences fill all cores, as an upper bound must;
    a system that is overlapped already keeps its streams, which are no merit of this change.
    """
    today = cost_model(profile)
    after = replace(today, stages={**today.stages, **changed})
    in_turn, in_turn_after = (replace(model, overlapped=False) for model in (today, after))
    overlapped = replace(after, overlapped=True, streams=pipelined_streams(today))
    return Gains(
        share=1 - after.frame_ms / today.frame_ms if today.frame_ms > 0 else 0.0,
        sequential=ratio(in_turn.frame_ms, in_turn_after.frame_ms),
        pipelined=ratio(today.frame_ms, overlapped.frame_ms),
    )


def pipelined_streams(today: CostModel) -> int:
    """Inferences at the same time in the pipelined bound."""
    return today.streams if today.overlapped else max(2, today.streams)


def without(profile: Profile, stage: str, rest_ms: float = 0.0) -> Gains:
    """Gains if ``stage`` took no time but ``rest_ms`` of waiting."""
    return gains_of(profile, {stage: StageCost(rest_ms, 0.0)})


def infer_scaled(profile: Profile, factor: float) -> Gains:
    """Gains if inference cost ``factor`` times what it costs today."""
    infer = profile.stage("infer")
    return gains_of(profile, {"infer": StageCost(infer.wall_ms, infer.cpu_ms).scaled(factor)})


def ratio(before_ms: float, after_ms: float) -> float:
    """How many times faster, within what JSON and a reader can take."""
    if before_ms <= 0:
        return 1.0
    return min(MAX_GAIN, before_ms / after_ms) if after_ms > 0 else MAX_GAIN


def today_gain(profile: Profile, gains: Gains) -> float:
    """The bound under the execution that the profile has now."""
    return gains.pipelined if profile.execution == "overlapped" else gains.sequential
