"""Which configuration a search was at before weights were rounded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from saccade.optimize.change import Optimization, PlanContext
from saccade.optimize.float_model import is_float
from saccade.pipeline.config import PipelineConfig
from saccade.study import Trial


def last_unquantized(baseline: PipelineConfig, trials: Sequence[Trial]) -> PipelineConfig:
    """The newest configuration kept whose arithmetic was in float."""
    return _newest(baseline, trials, lambda config: not config.model.quantized)


def last_float(baseline: PipelineConfig, trials: Sequence[Trial]) -> PipelineConfig:
    """The newest configuration kept whose weights were stored as floats."""
    return _newest(baseline, trials, is_float)


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
    if is_float(config) or not hasattr(change, "unrounded"):
        return None
    before: PipelineConfig = change.unrounded(context)
    return before.to_dict()
