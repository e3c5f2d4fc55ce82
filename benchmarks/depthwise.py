"""MobileNetV2 with the ImageNet weights that a package brings, as ONNX, and its broken twin."""

from __future__ import annotations

import warnings
from pathlib import Path

import onnx

from benchmarks.weights import mobilenet_weights
from saccade.testing.wide_ranges import pairs, widen, without_relu6

SIZE = 224
# Breaks NNCF's default visibly, whose depthwise inputs have a range per channel.
FACTOR = 256.0
# Expansion → depthwise and depthwise → projection of some blocks.
EVERY = 5


def mobilenet_v2(target: Path) -> Path:
    """Export the classifier, batch norms folded, fixed 224x224 input.

    Raises:
        FileNotFoundError: the package with the weights is not installed.
    """
    import torch
    from torchvision.models import mobilenet_v2 as architecture

    net = architecture()
    net.load_state_dict(torch.load(mobilenet_weights(), weights_only=True))
    net.eval()
    target.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net,
            (torch.zeros(1, 3, SIZE, SIZE),),
            str(target),
            input_names=["images"],
            output_names=["logits"],
            opset_version=17,
            dynamo=False,
        )
    return target


def broken_by_int8(float_model: Path, target: Path) -> Path:
    """The same function (but for ReLU6, which becomes ReLU), with wide activation ranges."""
    model = without_relu6(onnx.load(str(float_model)))
    onnx.save(widen(model, pairs(model)[::EVERY], FACTOR), str(target))
    return target
