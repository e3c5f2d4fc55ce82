"""Convolutions in two steps: over space in each channel, then over channels at each pixel."""

from __future__ import annotations

from typing import Any, ClassVar

from saccade.errors import SpecError
from saccade.train.architectures.contract import Example
from saccade.train.model_facts import is_dense_convolution


class DepthwiseSeparable:
    """Dense convolutions of 3×3 and more, divided.

    Source: Howard et al., "MobileNets", 2017. A 3×3 layer with C channels takes about 9 times
    fewer multiplications; depthwise layers read as many bytes as before, so that steps gain less.
    """

    expected_gain: ClassVar[float] = 1.4
    basis: ClassVar[str] = "about 9 times fewer multiplications, as many bytes"
    needs_dense: ClassVar[bool] = True

    @staticmethod
    def available() -> str | None:
        """Always."""
        return None

    @staticmethod
    def changed(model: Any, example: Example) -> Any:
        """The model with its dense convolutions divided, in place.

        Raises:
            SpecError: it has none.
        """
        count = divide_convolutions(model)
        if not count:
            raise SpecError(
                "The model has no convolutions of 3×3 or more between its features that could be "
                "divided; leave 'depthwise_separable' out."
            )
        return model


def divide_convolutions(model: Any) -> int:
    """Replace a module's dense convolutions, in place; how many."""
    # A layer that is used in several places stays one layer.
    made: dict[Any, Any] = {}
    for path, layer in list(model.named_modules(remove_duplicate=False)):
        if path and is_dense_convolution(layer):
            if layer not in made:
                made[layer] = divided(layer)
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, made[layer])
    return len(made)


def divided(layer: Any) -> Any:
    """Two convolutions with the channels, stride, dilation and padding of one.

    Weights are drawn so that answers vary as much as the given layer's would: what the job chose
    as initialization is kept in its size.

    Args:
        layer: an ``nn.Conv2d`` with one group.

    Returns:
        An ``nn.Sequential`` of both, with the attributes of a convolution that others may read.
    """
    import torch

    space = torch.nn.Conv2d(
        layer.in_channels,
        layer.in_channels,
        layer.kernel_size,
        stride=layer.stride,
        padding=layer.padding,
        dilation=layer.dilation,
        groups=layer.in_channels,
        bias=False,
        padding_mode=layer.padding_mode,
    )
    channels = torch.nn.Conv2d(
        layer.in_channels, layer.out_channels, 1, bias=layer.bias is not None
    )
    pixels = layer.kernel_size[0] * layer.kernel_size[1]
    with torch.no_grad():
        torch.nn.init.normal_(space.weight, std=pixels**-0.5)
        torch.nn.init.normal_(channels.weight, std=float(layer.weight.std()) * pixels**0.5)
        if layer.bias is not None:
            channels.bias.copy_(layer.bias)
    both = torch.nn.Sequential(space, channels)
    for name in ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation"):
        setattr(both, name, getattr(layer, name))
    return both.train(layer.training)
