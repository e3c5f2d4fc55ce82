"""The same network with half of its channels."""

from __future__ import annotations

from typing import Any, ClassVar

from saccade.train.architectures.contract import Example
from saccade.train.narrowing import narrow

SHARE = 0.5
MULTIPLE = 8


class Narrower:
    """Every width halved, in multiples of 8, but for the answers'.

    Which layers have to shrink together is found by Torch-Pruning. Nothing is trained yet, so any
    channel is as good as another; weights are scaled to the fewer inputs that each layer has.
    """

    expected_gain: ClassVar[float] = 2.0
    basis: ClassVar[str] = "a quarter of the multiplications, half of the bytes"
    needs_dense: ClassVar[bool] = False

    @staticmethod
    def available() -> str | None:
        """Where Torch-Pruning is installed."""
        from importlib.util import find_spec

        if find_spec("torch_pruning") is None:
            return "torch-pruning is not installed (pip install 'saccade[prune]')"
        return None

    @staticmethod
    def changed(model: Any, example: Example) -> Any:
        """The model with half of its channels, in place.

        Raises:
            SpecError: no layer can lose channels, or the model does not run without them.
            MissingExtraError: torch-pruning is not installed.
        """
        inputs = {name: _inputs(module) for name, module in model.named_modules()}
        narrow(model, example(), SHARE, MULTIPLE)
        _keep_scale(model, inputs)
        return model


def _inputs(layer: Any) -> int:
    """Values that each output of a layer is a sum of; 0 where it has no weights of that kind."""
    weight = getattr(layer, "weight", None)
    if weight is None or weight.dim() < 2:
        return 0
    transposed = getattr(layer, "transposed", False)
    # (out, in / groups, …), and (in, out / groups, …) where it is transposed.
    count = weight[:, 0].numel() if transposed else weight[0].numel()
    return int(count) // (layer.groups if transposed else 1)


def _keep_scale(model: Any, inputs: dict[str, int]) -> None:
    """Sums of fewer values vary less: scale weights as their initialization would have."""
    import torch

    with torch.no_grad():
        for name, layer in model.named_modules():
            now = _inputs(layer)
            if now and inputs.get(name):
                layer.weight.mul_((inputs[name] / now) ** 0.5)
