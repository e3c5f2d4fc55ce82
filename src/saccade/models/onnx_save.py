"""Write ONNX models of any size: one file where that can be, else the weights in a file beside it.

A protobuf message, and so an ONNX file, cannot be larger than 2 GiB. A larger model keeps its
weights apart (external data), and whoever takes a model as bytes has to take it from such a file.
"""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import BinaryIO

import onnx
from onnx import helper
from onnx.external_data_helper import (
    ExternalDataInfo,
    load_external_data_for_model,
    uses_external_data,
)

from saccade.models.onnx_file import external_files, external_tensors, read_onnx

# Bytes of weights up to which a model goes into one file; the graph has room in what is left.
LARGEST = 2**31 - 2**26
# What the file of the weights is called, after the graph's.
BESIDE = ".data"
# Smaller constants stay in the graph.
LEAST_APART = 1024
# Bytes copied at once, and what tensors begin at a multiple of, so that they can be mapped.
_BLOCK, _ALIGNED = 1 << 24, 4096


def size_of(model: onnx.ModelProto) -> int:
    """Bytes of a model's weights; those that have been left out count nothing."""
    return sum(
        prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        for tensor in model.graph.initializer
        if not uses_external_data(tensor)
    )


def file_bytes(model: onnx.ModelProto) -> int:
    """Bytes that a model takes on disk, to within its graph where that is next to nothing."""
    weights = size_of(model)
    return weights if weights > LARGEST else model.ByteSize()


def light(model: onnx.ModelProto) -> onnx.ModelProto:
    """What shape inference can be asked about, which takes no more bytes than a file.

    Returns:
        The model itself, or where that is too large a copy whose weights are left out, as if
        they lay elsewhere; what says shapes is small and stays.
    """
    if size_of(model) <= LARGEST:
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        if len(tensor.raw_data) >= LEAST_APART:
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value="left out")
    return copy


def save_onnx(model: onnx.ModelProto, path: Path) -> None:
    """Write a model whole or not at all, its weights beside it where one file cannot hold them.

    Args:
        model: with all its weights.
        path: of the graph; the weights go into ``path`` with `BESIDE` after its name.
    """
    if size_of(model) > LARGEST:
        save_apart(model, path, path.name + BESIDE)
        return
    partial = path.with_name("partial-" + path.name)
    onnx.save(model, str(partial))
    partial.replace(path)


def save_apart(model: onnx.ModelProto, path: Path, name: str) -> None:
    """Write the weights and, last, the graph that names them; the model is as before afterwards.

    Args:
        model: with all its weights.
        path: of the graph.
        name: of the file of the weights, beside it.
    """
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="partial-") as scratch:
        draft = Path(scratch) / path.name
        try:
            onnx.save(
                model,
                str(draft),
                save_as_external_data=True,
                location=name,
                size_threshold=LEAST_APART,
            )
        finally:  # onnx takes the weights out of the model that it writes
            load_external_data_for_model(model, scratch)
        (Path(scratch) / name).replace(path.with_name(name))
        draft.replace(path)


def copy_onnx(source: Path, target: Path) -> Path | None:
    """Copy a model's files, without ever holding its weights; they may lie in many files before.

    Args:
        source: the graph.
        target: where it goes.

    Returns:
        The one file of the weights beside ``target``; None where there is one file in all: the
        model had no other, or fits into one.

    Raises:
        ModelError: the model cannot be read.
    """
    model = read_onnx(source, weights=False)
    beside = external_files(model, source.parent)
    if not beside:
        shutil.copyfile(source, target)
        return None
    if sum(file.stat().st_size for file in beside) + source.stat().st_size <= LARGEST:
        save_onnx(read_onnx(source), target)
        return None
    data = target.with_name(target.name + BESIDE)
    with data.open("wb") as made:
        for tensor in external_tensors(model):
            _moved(tensor, source.parent, made, data.name)
    onnx.save(model, str(target))
    return data


def _moved(tensor: onnx.TensorProto, folder: Path, made: BinaryIO, name: str) -> None:
    """Append a tensor's bytes to another file, and let it name that."""
    there = ExternalDataInfo(tensor)
    made.seek(-made.tell() % _ALIGNED, io.SEEK_CUR)
    begin = made.tell()
    with (folder / there.location).open("rb") as file:
        file.seek(there.offset or 0)
        left = there.length if there.length is not None else file.seek(0, io.SEEK_END)
        file.seek(there.offset or 0)
        while left and (block := file.read(min(left, _BLOCK))):
            made.write(block)
            left -= len(block)
    del tensor.external_data[:]
    said = {"location": name, "offset": begin, "length": made.tell() - begin}
    for key, value in said.items():
        tensor.external_data.add(key=key, value=str(value))


@contextmanager
def loadable(model: onnx.ModelProto) -> Iterator[bytes | str]:
    """A model as libraries take it: its bytes, or the path of a file where those are too many.

    The file is gone afterwards.
    """
    if size_of(model) <= LARGEST:
        yield bytes(model.SerializeToString())
        return
    with tempfile.TemporaryDirectory(prefix="saccade-") as folder:
        path = Path(folder) / "model.onnx"
        save_onnx(model, path)
        yield str(path)
