"""What becomes of a trial: by its race, by goals on size, and by whoever guards accuracy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from saccade.goals import Goal
from saccade.looks import in_words, shares
from saccade.optimize.metrics import speed_metrics, values
from saccade.optimize.race import RaceResult
from saccade.optimize.referee import Judgement
from saccade.optimize.size_goals import why_too_large, why_worth_its_size
from saccade.study import Ratio, Trial, Verdict

# Where wall time cannot tell, CPU time may: it is what the other cores' work is made of. The wall
# time must then not look worse than this.
MIN_CPU_GAIN, MIN_WALL_RATIO = 1.01, 0.98
# How a race that a change did not win is called.
NOT_FASTER: dict[str, Verdict] = {
    "slower": "worse",
    "not distinguishable": "not distinguishable",
}

# A trial with what the guard of accuracy says of it, kept or not.
Judge = Callable[[Trial], Trial]


def decided(
    draft: Trial,
    result: RaceResult,
    goals: tuple[Goal, ...],
    sizes_mb: tuple[float, float],
    judge: Judge,
    *,
    anyway: bool = False,
) -> Trial:
    """The trial with its verdict.

    Args:
        draft: what is known of it before.
        result: of its race.
        goals: all of the run.
        sizes_mb: of the models of the configuration in use and of the candidate.
        judge: asked where the candidate is worth it.
        anyway: the judge is asked of one that is not worth it, too.
    """
    ratio, reason = result.comparison.ratio, result.comparison.reason
    large = why_too_large(goals, result, *sizes_mb)
    worth = why_worth_its_size(goals, result, *sizes_mb) or why_thriftier(result)
    trial = replace(
        draft,
        gain=Ratio(ratio.value, ratio.interval.low, ratio.interval.high),
        metrics=values(speed_metrics(result.candidate, sizes_mb[1])),
        blocks=result.candidate,
        parent_blocks=result.reference,
        reason="; ".join(filter(None, (reason, large or worth, _looks(result)))),
    )
    if not large and (worth or result.comparison.verdict == "faster"):
        return judge(trial)
    if anyway:
        trial = judge(trial)
    verdict = "worse" if large else NOT_FASTER[result.comparison.verdict]
    return replace(trial, verdict=verdict, kept=False)


def _looks(result: RaceResult) -> str:
    """How a candidate of dynamic resolution looked at the frames of the race; else empty."""
    return in_words(shares(block.looks for block in result.candidate))


def why_thriftier(result: RaceResult) -> str:
    """Why less CPU makes up for a wall time that cannot be told apart; empty where it does not."""
    cpu = result.cpu.ratio
    saves = (
        result.comparison.verdict == "not distinguishable"
        and result.cpu.verdict == "faster"
        and cpu.value >= MIN_CPU_GAIN
        and result.comparison.ratio.value >= MIN_WALL_RATIO
    )
    if not saves:
        return ""
    spread = f"[{cpu.interval.low:.3f}, {cpu.interval.high:.3f}]"
    return f"but CPU per frame is {cpu.value:.3f} times less {spread}"


def with_judgement(trial: Trial, judged: Judgement) -> Trial:
    """The trial with what one referee found; it is kept where that agrees."""
    verdict: Verdict = "better" if judged.keep else "broke a goal"
    reason = "; ".join(filter(None, (trial.reason, judged.reason)))
    found = replace(trial, verdict=verdict, kept=judged.keep, reason=reason)
    if judged.drop is None:
        return found
    metrics = {**trial.metrics, judged.drop.metric: judged.accuracy}
    return replace(found, drop=judged.drop, by_size=judged.by_size, metrics=metrics)
