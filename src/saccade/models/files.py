"""From a path to a `ModelFile`: what is on disk, identified by its content."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from saccade.errors import ModelError
from saccade.models.onnx_file import external_files, read_onnx
from saccade.models.stored_as import stored_as
from saccade.pipeline.config import ModelFile, Stored

_BLOCK = 1 << 20
# Formats by ending; what ends otherwise is taken for ONNX.
FORMATS = {
    ".onnx": "onnx",
    ".xml": "openvino_ir",
    ".pt2": "torch_export",
    ".torchscript": "torchscript",
    ".tflite": "tflite",
    ".param": "ncnn",
    ".pte": "executorch",
    ".engine": "tensorrt_engine",
}
# The file beside it that belongs to it.
_WEIGHTS = {"openvino_ir": ".bin", "ncnn": ".bin"}


def model_file(path: str | Path) -> ModelFile:
    """Identify a model by content.

    The hash is the SHA-256 of the file's bytes, followed by those of the files that belong to
    it (the weights of an OpenVINO IR or of ncnn, the external data of an ONNX model). Whether the
    file is a valid model is not judged here. Of an ONNX file, `saccade.models.stored_as` tells
    whether it is quantized; of others, who made it has to.

    Raises:
        ModelError: the file, or the weights that belong to it, cannot be read.
    """
    path = Path(path)
    kind = FORMATS.get(path.suffix.lower(), "onnx")
    if kind in _WEIGHTS:
        weights = path.with_suffix(_WEIGHTS[kind])
        return ModelFile(str(path), _sha256([path, weights]), kind, str(weights))
    beside, stored = _looked_into(path) if kind == "onnx" else ([], "fp32")
    size = sum(file.stat().st_size for file in beside)
    return ModelFile(str(path), _sha256([path, *beside]), kind, stored=stored, external_bytes=size)


def rewritten_file(path: Path, original: ModelFile) -> ModelFile:
    """A file made by changing another one's graph: its weights are stored as they were.

    Raises:
        ModelError: the file cannot be read.
    """
    return replace(model_file(path), stored=original.stored)


def _looked_into(path: Path) -> tuple[list[Path], Stored]:
    """The files that hold an ONNX model's external data, and what its weights are stored as."""
    if not path.is_file():
        return [], "fp32"
    try:
        model = read_onnx(path, weights=False)
    except ModelError:
        return [], "fp32"
    return external_files(model, path.parent), stored_as(model)


def _sha256(paths: list[Path]) -> str:
    state = hashlib.sha256()
    for path in paths:
        try:
            with path.open("rb") as file:
                while block := file.read(_BLOCK):
                    state.update(block)
        except OSError as error:
            raise ModelError(
                f"The model file {path} cannot be read ({error.strerror}). "
                "Check the path and its permissions."
            ) from error
    return state.hexdigest()
