"""Makes what the `ultralytics` package loads, out of one ONNX file. Runs in the rivals' venv.

Its own exporter starts from PyTorch weights, which are not at hand, so this follows the same
steps on the ONNX file: OpenVINO conversion, NNCF with the mixed preset and the detection head left
out, metadata beside the model. ONNX int8 is made by the package's own function.

    python rival_export.py MODEL.onnx CALIBRATION_IMAGES OUT
"""

from __future__ import annotations

import ast
import logging
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

SQUARE, RECT = (640, 640), (384, 640)
# Name → input size (None: dynamic), quantized.
OPENVINO: dict[str, tuple[tuple[int, int] | None, bool]] = {
    "static": (SQUARE, False),
    "dynamic": (None, False),
    "rect": (RECT, False),
    "static_int8": (SQUARE, True),
    "dynamic_int8": (None, True),
    "rect_int8": (RECT, True),
}


def export(model: Path, images: list[Path], out: Path) -> None:
    """Write every variant below ``out``; those that are there already are kept."""
    out.mkdir(parents=True, exist_ok=True)
    plain = out / "yolo11n.onnx"
    if not plain.exists():
        shutil.copyfile(model, plain)
    metadata = read_metadata(plain)
    for name, (size, quantized) in OPENVINO.items():
        folder = out / f"{name}_openvino_model"
        if not (folder / "metadata.yaml").exists():
            write_openvino(plain, folder, size, quantized, images, metadata)
            print(f"made {folder.name}", file=sys.stderr)
    if not (out / "yolo11n_int8.onnx").exists():
        write_onnx_int8(plain, out / "yolo11n_int8.onnx", images)
        print("made yolo11n_int8.onnx", file=sys.stderr)


def read_metadata(model: Path) -> dict[str, Any]:
    """What the package stored in its ONNX file."""
    import onnx

    stored = {p.key: p.value for p in onnx.load(str(model)).metadata_props}
    for key in ("stride", "batch", "imgsz", "names", "args", "channels"):
        stored[key] = ast.literal_eval(stored[key])
    return stored


def write_openvino(
    model: Path,
    folder: Path,
    size: tuple[int, int] | None,
    quantized: bool,
    images: list[Path],
    metadata: dict[str, Any],
) -> None:
    """One ``*_openvino_model`` folder: model.xml, model.bin, metadata.yaml."""
    import openvino as ov
    from ultralytics.utils import YAML

    network = ov.Core().read_model(str(model))
    if size is not None:
        network.reshape([1, 3, *size])
    if quantized:
        network = quantize(network, list(calibration(images, size or SQUARE)))
    folder.mkdir(parents=True, exist_ok=True)
    ov.save_model(network, str(folder / "model.xml"), compress_to_fp16=False)
    described = {
        **metadata,
        "imgsz": list(size or SQUARE),
        "args": {**metadata["args"], "dynamic": size is None},
    }
    YAML.save(folder / "metadata.yaml", described)


def quantize(network: Any, samples: list[np.ndarray]) -> Any:
    """The settings of the package's exporter: mixed preset, head and sigmoids in float."""
    import nncf

    nncf.set_log_level(logging.ERROR)
    operations = network.get_ordered_ops()
    sigmoids = [op.get_friendly_name() for op in operations if op.get_type_name() == "Sigmoid"]
    # ONNX names are paths: the last sigmoid, /model.23/Sigmoid, is the head's.
    head = sigmoids[-1].rsplit("/", 1)[0]
    names = [op.get_friendly_name() for op in operations]
    ignored = {name for name in names if name.startswith(f"{head}/")} | set(sigmoids)
    return nncf.quantize(
        network,
        nncf.Dataset(samples),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(samples),
        ignored_scope=nncf.IgnoredScope(names=sorted(ignored), validate=False),
    )


def write_onnx_int8(model: Path, target: Path, images: list[Path]) -> None:
    """Static quantization by the package's own function."""
    import onnx
    from ultralytics.utils.export.onnx import onnx_int8_quantize

    partial = target.with_name(f"partial-{target.name}")
    onnx_int8_quantize(model, partial, list(calibration(images[:16], SQUARE)), lambda batch: batch)
    loaded = onnx.load(str(partial))
    if not loaded.metadata_props:
        loaded.metadata_props.extend(onnx.load(str(model)).metadata_props)
        onnx.save(loaded, str(partial))
    partial.replace(target)


def calibration(images: list[Path], size: tuple[int, int]) -> Iterator[np.ndarray]:
    """Letterboxed RGB images in 0-1, ``(1, 3, H, W)`` float32."""
    import cv2
    from ultralytics.data.augment import LetterBox

    letterbox = LetterBox(size)
    for path in images:
        image = letterbox(image=cv2.imread(str(path)))
        pixels = np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1))
        yield pixels[None].astype(np.float32) / 255


if __name__ == "__main__":
    found = sorted(Path(sys.argv[2]).glob("*.jpg"))
    export(Path(sys.argv[1]), found, Path(sys.argv[3]))
