"""torchvision's detectors as models that a training loop can drive: they compute their own loss."""

from __future__ import annotations

from typing import Any

import torch


class TrainableDetector(torch.nn.Module):  # type: ignore[misc]
    """Takes ``(images, targets)`` and returns what the detector has to say of them.

    In training that is its losses by name. In evaluation it is ``{"detections": …, "losses": …}``;
    the losses come from a second pass in which no statistics are updated.

    Args:
        detector: a module as torchvision's: ``detector(images, targets)``.
    """

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, inputs: Any) -> Any:
        """Images, each ``(3, H, W)``, and targets: ``boxes`` ``(N, 4)`` and ``labels`` ``(N,)``.

        Images alone get detections alone, as the detector itself has it.
        """
        if not isinstance(inputs, tuple | list) or isinstance(inputs[0], torch.Tensor):
            return self.detector(inputs)
        images, targets = list(inputs[0]), list(inputs[1])
        if self.training:
            return self.detector(images, targets)
        return {"detections": self.detector(images), "losses": self._losses(images, targets)}

    def _losses(self, images: list[Any], targets: list[Any]) -> Any:
        """Losses in evaluation: detectors give them in training alone."""
        self.detector.train()
        for module in self.detector.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm | torch.nn.Dropout):
                module.eval()
        try:
            return self.detector(images, targets)
        finally:
            self.detector.eval()


def detection_loss(output: Any, target: Any) -> Any:
    """The sum of a detector's losses."""
    return sum(output.get("losses", output).values())


def collate_detection(samples: list[Any]) -> Any:
    """Images may differ in size and objects in number, so they stay lists."""
    images = [image for image, _ in samples]
    targets = [target for _, target in samples]
    return (images, targets), targets
