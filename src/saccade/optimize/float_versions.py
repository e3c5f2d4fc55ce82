"""Which configuration a search was at before weights were rounded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from saccade.optimize.change import Optimization, PlanContext
from saccade.optimize.float_model import is_float
from saccade.optimize.plan import OTHER_MODEL
from saccade.pipeline.config import PipelineConfig
from saccade.study import Trial

INT8_WEIGHTS, PRUNE, FP16_WEIGHTS = "int8_weights", "prune", "fp16_weights"


def last_unquantized(baseline: PipelineConfig, trials: Sequence[Trial]) -> PipelineConfig:
    """The newest configuration kept whose arithmetic was in float."""
    return _newest(baseline, trials, lambda config: not config.model.quantized)


def last_float(baseline: PipelineConfig, trials: Sequence[Trial]) -> PipelineConfig:
    """The newest configuration kept whose weights were stored as floats."""
    return _newest(baseline, trials, is_float)


def last_exact(baseline: PipelineConfig, trials: Sequence[Trial]) -> PipelineConfig:
    """The newest configuration kept whose weights were stored as they were trained.

    Where the model in use has none, as where the user's own are fp16, the newest with floats.
    """
    own = list(trials)
    swaps = [i for i, trial in enumerate(own) if trial.kept and trial.name in OTHER_MODEL]
    if swaps:
        own, baseline = own[swaps[-1] :], PipelineConfig.from_dict(own[swaps[-1]].config)
    found = _newest(baseline, own, lambda config: config.model.stored == "fp32")
    return found if found.model.stored == "fp32" else last_float(baseline, own)


def before_new_weights(
    first: PipelineConfig, trials: Sequence[Trial]
) -> tuple[tuple[str, PipelineConfig], ...]:
    """Changes kept that made other weights of the same model, int8 aside, most doubtful first.

    Each with the newest configuration that has neither it nor any of those before it.

    Args:
        first: what the model began with.
        trials: since then.
    """
    kept = [trial for trial in trials if trial.kept]
    names = [trial.name for trial in kept]
    whole = kept[: names.index(PRUNE)] if PRUNE in names else kept
    found = {
        INT8_WEIGHTS: last_float(first, kept),
        PRUNE: last_float(first, whole),
        FP16_WEIGHTS: _newest(first, whole, lambda config: config.model.stored == "fp32"),
    }
    return tuple((name, config) for name, config in found.items() if name in names)


def _newest(
    baseline: PipelineConfig, trials: Sequence[Trial], wanted: Callable[[PipelineConfig], bool]
) -> PipelineConfig:
    """The newest that is as wanted, of those kept and of what was rounded to make them."""
    for trial in reversed([trial for trial in trials if trial.kept]):
        for document in filter(None, (trial.config, trial.float_config)):
            config = PipelineConfig.from_dict(document)
            if wanted(config):
                return config
    return baseline


def float_document(
    change: Optimization, config: PipelineConfig, context: PlanContext
) -> dict[str, Any] | None:
    """What a change that makes new weights made before it rounded them; None where it did not."""
    before = None if config.model.stored == "fp32" else change.unrounded(context)
    return before.to_dict() if before is not None else None
