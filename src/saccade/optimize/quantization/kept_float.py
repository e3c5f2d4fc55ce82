"""Which layers a recipe leaves float, from what was measured of each. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from saccade.optimize.quantization.layer_times import LayerTime
from saccade.optimize.quantization.recipe import Sensitive
from saccade.optimize.quantization.sensitivity import Sensitivity

# Share of the summed error that the layers kept float hold, and the largest share of layers.
SKIP_ERROR, SKIP_LAYERS = 0.9, 0.15
MIXED_ERROR, MIXED_LAYERS = 0.995, 0.5
# Of the mean time that int8 saves a layer; what is measured below is noise.
LEAST_SAVED = 0.05


def kept_float(
    sensitive: Sensitive, ranked: Sequence[Sensitivity], times: Sequence[LayerTime] = ()
) -> list[str]:
    """Names of the layers that stay float.

    Args:
        sensitive: how many of those that int8 disturbs.
        ranked: sensitivity of the layers, the largest first; empty where it was not measured.
        times: where it is given, layers that int8 makes no faster stay float, and mixed precision
            takes the layers first that lose least time for the error that they take with them.
    """
    idle = [item.node for item in times if not item.pays]
    rest = [item for item in ranked if item.node not in idle]
    if sensitive == "skip":
        return idle + [item.node for item in worst(rest, SKIP_ERROR, SKIP_LAYERS)]
    if sensitive == "mixed":
        priced = _by_price(rest, times)
        return idle + [item.node for item in worst(priced, MIXED_ERROR, MIXED_LAYERS)]
    return idle


def _by_price(ranked: Sequence[Sensitivity], times: Sequence[LayerTime]) -> list[Sensitivity]:
    """The most error for each millisecond that float takes longer, first."""
    saved = {item.node: item.saved_ms for item in times if item.pays}
    if not saved:
        return list(ranked)
    least = LEAST_SAVED * sum(saved.values()) / len(saved)
    return sorted(ranked, key=lambda item: -item.error / max(saved.get(item.node, least), least))


def worst(
    ranked: Sequence[Sensitivity], error_share: float, layer_share: float
) -> list[Sensitivity]:
    """The first layers that together hold ``error_share`` of the error.

    Args:
        ranked: in the order in which they are taken.
        error_share: from 0 to 1.
        layer_share: of the layers, at most so many are taken, but for one.
    """
    if not ranked:
        return []
    most = max(1, round(layer_share * len(ranked)))
    total = sum(item.error for item in ranked)
    kept: list[Sensitivity] = []
    for item in ranked[:most]:
        kept.append(item)
        if sum(k.error for k in kept) >= error_share * total:
            break
    return kept
