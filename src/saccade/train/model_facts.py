"""A look at a model and its optimizer, for changes that depend on what they are made of."""

from __future__ import annotations

from typing import Any

from saccade.train.checkpointing import recomputable_blocks
from saccade.train.profile import ModelFacts

# From this kernel size on a convolution is worth being divided.
WIDE_KERNEL = 3
# Images have fewer channels; the layer that reads them is no dense one.
FEW_CHANNELS = 4


def model_facts(model: Any, optimizer: Any) -> ModelFacts:
    """What a module and its optimizer are made of."""
    import torch

    norms = torch.nn.modules.batchnorm._BatchNorm
    own = [module for module in model.modules() if list(module.parameters(recurse=False))]
    return ModelFacts(
        optimizer=type(optimizer).__name__,
        fusable="fused" in optimizer.defaults and not optimizer.defaults["fused"],
        layers=len(own),
        dense_convolutions=sum(is_dense_convolution(module) for module in own),
        batch_norm=any(isinstance(module, norms) for module in own),
        blocks=len(recomputable_blocks(model)),
    )


def is_dense_convolution(module: Any) -> bool:
    """Whether it is a plain 2D convolution of 3×3 or more between all channels of features.

    Subclasses do something of their own with their weights and are left alone.
    """
    import torch

    return (
        type(module) is torch.nn.Conv2d
        and min(module.kernel_size) >= WIDE_KERNEL
        and module.groups == 1
        and module.in_channels > FEW_CHANNELS
    )
