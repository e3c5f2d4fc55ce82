"""ONNX to ncnn's two files, by pnnx."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
from numpy.typing import NDArray

from saccade.errors import MissingExtraError, ModelError
from saccade.models.conversions.compared import check_converted
from saccade.models.conversions.contract import (
    ConversionRequest,
    converted_path,
    drafted,
    made_from,
)
from saccade.models.conversions.layers import by_value
from saccade.models.conversions.values import onnx_layers
from saccade.models.files import model_file
from saccade.models.graph_reading import real_inputs
from saccade.models.onnx_file import read_onnx
from saccade.models.onnx_run import run_once
from saccade.models.reshape import at_size
from saccade.pipeline.config import ModelFile
from saccade.runtimes.ncnn import Ncnn

TIMEOUT_S = 300.0


class OnnxToNcnn:
    """``.onnx`` to ``.param`` and ``.bin``, for one input size."""

    source: ClassVar[str] = "onnx"
    target: ClassVar[str] = "ncnn"

    @staticmethod
    def why_not() -> str | None:
        """It needs pnnx, and ncnn to compare with."""
        missing = [name for name in ("ncnn", "pnnx") if find_spec(name) is None]
        if not missing:
            return None
        return f"{' and '.join(missing)} not installed (pip install 'saccade[ncnn]')"

    @staticmethod
    def convert(model: ModelFile, request: ConversionRequest) -> ModelFile:
        """See `saccade.models.conversions.contract.Conversion`."""
        path = converted_path(model, request, ".param")
        if path.exists() and path.with_suffix(".bin").exists():
            return made_from(model, path)
        request.folder.mkdir(parents=True, exist_ok=True)
        graph, name = at_size(read_onnx(model.path), request.hw), Path(model.path).name
        # The outer draft takes its name last: both files are there when that one is.
        with drafted(path) as param, drafted(path.with_suffix(".bin")) as weights:
            _write(graph, name, request.hw, param, weights)
            _check_layers(param, name)
            image_input = real_inputs(graph)[0].name
            check_converted(
                lambda image: run_once(graph, {image_input: image}),
                model_file(param),
                Ncnn,
                request.inputs,
                lambda image: by_value(onnx_layers(graph, image), values_of(param, image)),
            )
        return made_from(model, path)


def _write(
    graph: onnx.ModelProto, name: str, hw: tuple[int, int], param: Path, weights: Path
) -> None:
    with tempfile.TemporaryDirectory(prefix="saccade-") as folder:
        made = _converted(graph, name, hw, Path(folder))
        shutil.copyfile(made, param)
        shutil.copyfile(made.with_suffix(".bin"), weights)


def _converted(graph: onnx.ModelProto, name: str, hw: tuple[int, int], folder: Path) -> Path:
    """Run pnnx, which writes its seven files beside the one it reads."""
    copy = folder / "model.onnx"
    onnx.save(graph, str(copy))
    # Halves would round the weights; fp32 is what was asked for.
    command = [str(_pnnx()), copy.name, f"inputshape=[1,3,{hw[0]},{hw[1]}]", "fp16=0"]
    try:
        said = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, errors="replace",
            timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise ModelError(f"pnnx did not convert {name} within {TIMEOUT_S:.0f} s.") from error
    param = folder / "model.ncnn.param"
    if said.returncode or not param.is_file() or not param.with_suffix(".bin").is_file():
        last = (said.stderr or said.stdout).strip().splitlines()[-1:] or ["it said nothing"]
        raise ModelError(
            f"{name} cannot be made into ncnn's format: pnnx ended with code "
            f"{said.returncode} ({last[0][:200]}). Use another runtime, or simplify the graph."
        )
    return param


def values_of(param: Path, tensor: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Every blob that a graph computes on one input ``(1, 3, H, W)``, without the batch axis."""
    import ncnn

    net = ncnn.Net()
    net.opt.use_vulkan_compute = False
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.load_param(str(param))
    net.load_model(str(param.with_suffix(".bin")))
    image = np.ascontiguousarray(tensor[0])
    extractor = net.create_extractor()
    # Otherwise blobs are given back as soon as the next layer has read them.
    extractor.set_light_mode(False)
    extractor.input(net.input_names()[0], ncnn.Mat(image))
    extracted = (extractor.extract(name) for name in _blobs(param))
    return [np.array(mat, np.float32) for code, mat in extracted if not code and not mat.empty()]


def _blobs(param: Path) -> list[str]:
    """Names of what the layers make: kind, name, numbers of inputs and outputs, then both."""
    rows = [line.split() for line in param.read_text(encoding="utf-8").splitlines()[2:]]
    ends = [(row, 4 + int(row[2]), 4 + int(row[2]) + int(row[3])) for row in rows if row]
    return [name for row, first, last in ends for name in row[first:last]]


def _pnnx() -> Path:
    """The program in the package, which is not imported: that would load torch."""
    spec = find_spec("pnnx")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError("pnnx", "ncnn", "Making ncnn's format from ONNX")
    folder = Path(next(iter(spec.submodule_search_locations)))
    return next(p for p in (folder / "pnnx", folder / "pnnx.exe") if p.is_file())


def _check_layers(param: Path, name: str) -> None:
    """Refuse a graph with operators that ncnn lacks.

    Raises:
        ModelError: they are named.
    """
    foreign = sorted(set(_foreign(param)))
    if foreign:
        raise ModelError(
            f"{name} cannot be made into ncnn's format: ncnn has no layer for "
            f"{', '.join(foreign)}. Cut that part out of the graph, or use another runtime."
        )


def _foreign(param: Path) -> Iterator[str]:
    """Layers that ncnn does not know; pnnx leaves what it cannot translate under its own name."""
    import ncnn

    for line in param.read_text(encoding="utf-8").splitlines()[2:]:
        kind = line.split(maxsplit=1)[0] if line.strip() else ""
        if kind and ncnn.create_layer(kind) is None:
            yield kind
