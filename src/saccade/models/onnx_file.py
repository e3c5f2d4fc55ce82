"""Read an ONNX file from disk, and say clearly what is wrong where it cannot be read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx.external_data_helper import load_external_data_for_model, uses_external_data

from saccade.errors import ModelError

# What else people hand over as a model, by the first bytes of the file.
_OTHER_FORMATS = (
    (b"PK\x03\x04", "a PyTorch checkpoint (or another zip archive): export it to ONNX first"),
    (b"\x80", "a Python pickle, probably a PyTorch checkpoint: export it to ONNX first"),
    (b"<?xml", "an XML file: an OpenVINO IR is named by a path that ends in .xml"),
    (b"\x89HDF", "an HDF5 file, probably Keras weights: convert it to ONNX first"),
    (b"ftrt", "a TensorRT engine: give the ONNX model it was built from"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself: run 'git lfs pull'"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"\x89PNG", "a PNG image"),
    (b"<!DOCTYPE", "a web page, perhaps a failed download: download the model again"),
    (b"<html", "a web page, perhaps a failed download: download the model again"),
)


def read_onnx(path: str | Path, *, weights: bool = True) -> onnx.ModelProto:
    """Read an ONNX model.

    Args:
        path: the file.
        weights: also read weights that are stored in other files (external data). Without,
            those files are only checked for existence.

    Raises:
        ModelError: the file is missing, empty, damaged, or no ONNX model, or a file with its
            external data is missing or too short.
    """
    path = Path(path)
    content = _content(path)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError as error:
        raise ModelError(_not_onnx(path, content)) from error
    if not model.ir_version or not model.graph.node or not model.graph.output:
        raise ModelError(_not_onnx(path, content))
    _check_external(model, path)
    if weights:
        _load_external(model, path)
    return model


def external_files(model: onnx.ModelProto, folder: Path) -> list[Path]:
    """The files next to the model that hold its external data, sorted, each once."""
    names = {
        entry.value
        for tensor in external_tensors(model)
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return [folder / name for name in sorted(names)]


def external_tensors(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    """Constants whose values are in other files: weights, and those in nodes and subgraphs."""
    return [tensor for tensor in _tensors(model.graph) if uses_external_data(tensor)]


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)


def _content(path: Path) -> bytes:
    if path.is_dir():
        raise ModelError(f"The model path {path} is a folder. Give the .onnx file inside it.")
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise ModelError(f"There is no model file at {path}. Check the path.") from error
    except OSError as error:
        raise ModelError(f"The model file {path} cannot be read ({error.strerror}).") from error
    if not content:
        raise ModelError(
            f"The model file {path} is empty. An ONNX model was expected; "
            "export or download it again."
        )
    return content


def _not_onnx(path: Path, content: bytes) -> str:
    for magic, meaning in _OTHER_FORMATS:
        if content.startswith(magic):
            return f"{path} is not an ONNX model. It looks like {meaning}."
    return (
        f"{path} cannot be read as an ONNX model: its content ({len(content)} bytes) is damaged, "
        "cut short, or of another format. Export or download it again."
    )


def _check_external(model: onnx.ModelProto, path: Path) -> None:
    missing = [file for file in external_files(model, path.parent) if not file.is_file()]
    if missing:
        raise ModelError(
            f"The weights of {path} are stored in {missing[0].name}, which is not beside it. "
            f"Put {missing[0].name} into {path.parent}, or save the model in one file."
        )


def _load_external(model: onnx.ModelProto, path: Path) -> None:
    try:
        load_external_data_for_model(model, str(path.parent))
    except (ValueError, OSError, onnx.checker.ValidationError) as error:
        raise ModelError(
            f"The external weights of {path} cannot be read ({error}). "
            "Export the model again, with its data file beside it."
        ) from error
