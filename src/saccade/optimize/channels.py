"""Take the least important channels out of a module, wherever they pass through.

Which layers have to shrink together is found by Torch-Pruning's dependency graph (Fang et al.,
"DepGraph: Towards Any Structural Pruning", CVPR 2023). Importance is the L2 norm of everything
that belongs to a channel, which needs no data.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any

from saccade.errors import MissingExtraError, ModelError, first_line

# What reads channel counts or channel positions that the graph holds as numbers.
_POSITIONAL = (
    "view", "reshape", "expand", "repeat", "split", "chunk", "slice", "select", "unbind",
    "narrow", "index", "unflatten", "pixel_shuffle", "pixel_unshuffle", "as_strided",
)  # fmt: skip
# What adds layers' outputs: their channels are those of the whole residual stream, and taking one
# out of it takes it out of every block. In MobileNetV2 that costs far more accuracy than it gains.
_ADDING = ("add", "sub")


def without_channels(module: Any, example: Any, share: float, multiple: int) -> Any:
    """A copy of the module with about ``share`` of every layer's channels taken out.

    Args:
        module: from `saccade.models.torch_layers.with_layers`.
        example: an input ``(1, 3, H, W)`` float32.
        share: of the channels, 0-1.
        multiple: channel counts stay multiples of it, as vector units like them. Layers that are
            not wider keep what they have.

    Raises:
        ModelError: no layer can lose channels, or the module no longer runs without them.
        MissingExtraError: torch-pruning is not installed.
    """
    try:
        import torch_pruning
    except ImportError as error:
        raise MissingExtraError("torch-pruning", "prune", "Pruning") from error
    pruned = copy.deepcopy(module)
    before = parameter_count(pruned)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about layers that it leaves alone
        try:
            expected = _shapes(module, example)
            pruner = torch_pruning.pruner.BasePruner(
                pruned,
                example,
                importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
                pruning_ratio=0.0,
                pruning_ratio_dict=_ratios(pruned, share, multiple),
                ignored_layers=protected_layers(pruned),
                # Its defaults are shared between all pruners of a process.
                in_channel_groups={},
                out_channel_groups={},
            )
            pruner.step()
            found = _shapes(pruned, example)
        except Exception as error:
            raise ModelError(
                f"The model does not run with fewer channels: {first_line(error)}. It probably "
                "computes with channel counts; leave pruning out."
            ) from error
    if found != expected:
        raise ModelError(
            f"With fewer channels the model answers {found} instead of {expected}; leave pruning "
            "out."
        )
    if parameter_count(pruned) == before:
        raise ModelError(
            f"No layer can lose {share:.0%} of its channels: those left would have to be a "
            f"multiple of {multiple}, or are read by position."
        )
    return pruned.eval()


def parameter_count(module: Any) -> int:
    """Number of trainable values."""
    return sum(parameter.numel() for parameter in module.parameters())


def kept_channels(channels: int, share: float, multiple: int) -> int:
    """How many of a layer's channels stay: the nearest multiple that leaves something."""
    nearest = round((1 - share) * channels / multiple) * multiple
    return min(channels, max(multiple, nearest))


def protected_layers(module: Any) -> list[Any]:
    """Layers whose channels are the answer, a residual stream, or read by position later on.

    Everything between such a reader and the layers before it hands channels on, so those layers
    must keep theirs; what they read themselves may shrink.
    """
    queue = [node for node in module.graph.nodes if _reads_channels(node)]
    seen, found = set(queue), []
    while queue:
        for node in queue.pop().all_input_nodes:
            if node in seen:
                continue
            seen.add(node)
            layer = module.get_submodule(node.target) if node.op == "call_module" else None
            if layer is not None and _has_own_channels(layer):
                found.append(layer)
            else:
                queue.append(node)
    return found


def _reads_channels(node: Any) -> bool:
    if node.op == "output":
        return True
    name = str(node.target).partition(".")[2]
    if node.op != "call_function" or not name:
        return False
    adds = name.startswith(_ADDING) and len(node.all_input_nodes) > 1
    return adds or name.startswith(_POSITIONAL)


def _has_own_channels(layer: Any) -> bool:
    """Whether its outputs' channels are not simply its input's, as in a depthwise convolution."""
    import torch

    if isinstance(layer, torch.nn.Linear):
        return True
    convolutions = torch.nn.Conv2d | torch.nn.ConvTranspose2d
    return isinstance(layer, convolutions) and layer.groups < layer.out_channels


def _ratios(module: Any, share: float, multiple: int) -> dict[Any, float]:
    """Share to take out by layer, such that what stays is the rounded number."""
    ratios = {}
    for layer in module.modules():
        channels = getattr(layer, "out_channels", getattr(layer, "out_features", None))
        if channels is None:
            continue
        kept = kept_channels(channels, share, multiple)
        # The half is for the pruner, which rounds down.
        ratios[layer] = max(0.0, 1 - (kept + 0.5) / channels)
    return ratios


def _shapes(module: Any, example: Any) -> list[tuple[int, ...]]:
    import torch
    from torch.utils import _pytree

    with torch.inference_mode():
        outputs = _pytree.tree_leaves(module(example))
    return [tuple(output.shape) for output in outputs]
