"""NNCF's post-training quantization, the same for every kind of graph that it takes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from saccade.errors import RuntimeFailure, first_line
from saccade.optimize.quantization.recipe import Estimator, Recipe

# Of ranges, NNCF's default first.
ESTIMATORS: tuple[Estimator, ...] = ("mean_min_max", "percentile", "mse", "min_max")


def post_training(
    graph: Any,
    inputs: Sequence[Any],
    recipe: Recipe,
    ignored: Sequence[str],
    *,
    per_tensor: bool = False,
    symmetric: bool = False,
) -> Any:
    """A quantized copy of the graph.

    Args:
        graph: in one of the libraries that NNCF knows.
        inputs: to calibrate on, each as the graph takes it.
        recipe: how; equalizing and choosing sensitive layers was done before.
        ignored: names of nodes that stay float.
        per_tensor: activations of depthwise layers have one range as well, not one per channel.
        symmetric: ranges of activations lie around zero or begin there.

    Raises:
        RuntimeFailure: NNCF refused the graph.
    """
    import nncf
    from nncf.quantization.advanced_parameters import (
        AdvancedQuantizationParameters,
        OverflowFix,
        QuantizationParameters,
    )
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet as Sets

    nncf.set_log_level(logging.ERROR)
    sets = {
        "mean_min_max": Sets.MEAN_MINMAX,
        "percentile": Sets.MEAN_QUANTILE,
        "mse": Sets.HISTOGRAM,
        "min_max": Sets.MINMAX,
    }
    advanced: dict[str, Any] = {}
    if recipe.estimator:
        advanced["activations_range_estimator_params"] = sets[recipe.estimator]
    if recipe.halved:
        advanced["overflow_fix"] = OverflowFix.ENABLE
    if per_tensor:
        advanced["activations_quantization_params"] = QuantizationParameters(per_channel=False)
    presets = nncf.QuantizationPreset
    scope = nncf.IgnoredScope(names=sorted(set(ignored)), validate=False) if ignored else None
    try:
        return nncf.quantize(
            graph,
            nncf.Dataset(list(inputs)),
            preset=presets.PERFORMANCE if symmetric else presets.MIXED,
            subset_size=len(inputs),
            fast_bias_correction=not recipe.bias_correction,
            ignored_scope=scope,
            model_type=nncf.ModelType.TRANSFORMER if recipe.transformer else None,
            advanced_parameters=AdvancedQuantizationParameters(**advanced),
        )
    except Exception as error:  # NNCF's exceptions share no base
        raise RuntimeFailure(f"NNCF could not quantize the model: {first_line(error)}") from error
