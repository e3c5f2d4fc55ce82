"""Stands in for torchvision in the rivals' environment, where the real one cannot be imported.

Predicting needs nothing of torchvision but `torchvision.ops.nms`. There is no torchvision for a
CPU-only torch on the package index, so this file is installed under that name. Its NMS is
OpenCV's compiled one, so that the rival loses no time by it; `python torchvision_stand_in.py`
checks that it keeps the same boxes as the rival's own implementation, and times both.
"""

from __future__ import annotations

import sys
import types

import cv2
import torch

__version__ = "0.0.0+stand.in"


def nms(boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """Indices of the boxes to keep, best first; boxes are ``(N, 4)`` xyxy."""
    if not len(boxes):
        return torch.empty(0, dtype=torch.int64)
    corners = boxes.double()
    sides = torch.cat((corners[:, :2], corners[:, 2:] - corners[:, :2]), dim=1)
    kept = cv2.dnn.NMSBoxes(sides.numpy(), scores.float().numpy(), 0.0, iou_threshold)
    return torch.as_tensor(kept, dtype=torch.int64)


ops = types.ModuleType(f"{__name__}.ops")
ops.nms = nms  # type: ignore[attr-defined]
sys.modules[ops.__name__] = ops


def _check() -> None:
    import timeit
    from functools import partial

    from ultralytics.utils.nms import TorchNMS

    torch.manual_seed(0)
    for count in (0, 1, 2, 20, 60, 300):
        corner, side = torch.rand(count, 2) * 400, torch.rand(count, 2) * 200 + 1
        boxes, scores = torch.cat((corner, corner + side), dim=1), torch.rand(count)
        found, expected = nms(boxes, scores, 0.7), TorchNMS.nms(boxes, scores, 0.7)
        assert found.tolist() == expected.tolist(), (count, found, expected)
        calls = [partial(f, boxes, scores, 0.7) for f in (nms, TorchNMS.nms)]
        times = [1e6 * timeit.timeit(call, number=50) / 50 for call in calls]
        print(f"{count} boxes: {times[0]:.0f} us, the rival's own {times[1]:.0f} us")


if __name__ == "__main__":
    _check()
