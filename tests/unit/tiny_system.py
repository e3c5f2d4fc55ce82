"""A detector and a video that are small enough to run the whole playbook on in seconds."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import onnx
import yaml
from models_graphs import model_of
from onnx import helper

SIZE = 64
CLASSES = ("cat", "dog")
FRAMES = 30


def tiny_yolo(hw: tuple[int, int] = (SIZE, SIZE)) -> onnx.ModelProto:
    """YOLOv8's layout with 2 classes: boxes with an area, and scores spread over 0 to 1."""
    random = np.random.default_rng(0)
    nodes, points, strides = [], [], []
    constants = {"parts": np.array([2, 2, 2]), "one": np.ones((1, 1, 1), np.float32)}
    for level, stride in enumerate((8, 16, 32)):
        weight = random.normal(0, 2.0 / stride, (6, 3, stride, stride))
        constants[f"w{level}"] = (weight - weight.mean((2, 3), keepdims=True)).astype(np.float32)
        rows, columns = hw[0] // stride, hw[1] // stride
        constants[f"target{level}"] = np.array([1, 6, rows * columns])
        nodes += [
            helper.make_node(
                "Conv", ["images", f"w{level}"], [f"p{level}"], strides=[stride, stride]
            ),
            helper.make_node("Reshape", [f"p{level}", f"target{level}"], [f"r{level}"]),
        ]
        y, x = np.mgrid[:rows, :columns]
        points.append(np.stack([x.ravel(), y.ravel()]) + 0.5)
        strides.append(np.full(rows * columns, float(stride)))
    constants["points"] = np.concatenate(points, 1)[None].astype(np.float32)
    constants["strides"] = np.concatenate(strides)[None].astype(np.float32)
    nodes += [
        helper.make_node("Concat", ["r0", "r1", "r2"], ["all"], axis=2),
        helper.make_node("Split", ["all", "parts"], ["xy", "wh", "logits"], axis=1),
        helper.make_node("Tanh", ["xy"], ["shift"]),
        helper.make_node("Add", ["shift", "points"], ["centre"]),
        helper.make_node("Sigmoid", ["wh"], ["relative"]),
        helper.make_node("Add", ["relative", "one"], ["sides"]),
        helper.make_node("Concat", ["centre", "sides"], ["cells"], axis=1),
        helper.make_node("Mul", ["cells", "strides"], ["pixels"]),
        helper.make_node("Sigmoid", ["logits"], ["scores"]),
        helper.make_node("Concat", ["pixels", "scores"], ["output0"], axis=1),
    ]
    metadata = {"names": str(dict(enumerate(CLASSES)))}
    anchors = constants["points"].shape[2]
    return model_of(nodes, {"output0": (1, 6, anchors)}, constants, (1, 3, *hw), metadata)


def write_model(folder: Path) -> Path:
    path = folder / "tiny.onnx"
    path.write_bytes(tiny_yolo().SerializeToString())
    return path


def picture(index: int = 0, hw: tuple[int, int] = (96, 128)) -> np.ndarray:
    """RGB noise in large enough patches that a video codec keeps it, ``(H, W, 3)``."""
    patches = np.random.default_rng(7).integers(0, 255, (hw[0] // 8, hw[1] // 8, 3), np.uint8)
    return np.roll(patches.repeat(8, 0).repeat(8, 1), 3 * index, 1)


def write_video(path: Path, frames: int = FRAMES, fast_start: bool = False) -> Path:
    options = {"movflags": "faststart"} if fast_start else {}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 128, 96, "yuv420p", 10
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(index), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_labels(folder: Path, class_id: int = 0, images: int = 8) -> Path:
    """A YOLO data set with one box per image; returns its ``data.yaml``."""
    from PIL import Image

    for index in range(images):
        for kind in ("images", "labels"):
            (folder / kind / "val").mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(index)).save(folder / "images" / "val" / f"{index}.png")
        label = folder / "labels" / "val" / f"{index}.txt"
        label.write_text(f"{class_id} 0.5 0.5 0.4 0.4\n", encoding="utf-8")
    document = {"path": ".", "val": "images/val", "names": dict(enumerate(CLASSES))}
    path = folder / "data.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path
