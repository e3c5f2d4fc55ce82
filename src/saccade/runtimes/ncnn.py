"""ncnn on the CPU: phones and small boards."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.errors import MissingExtraError, RuntimeFailure, first_line
from saccade.runtimes.contract import (
    Availability,
    Runtime,
    Session,
    SessionRequest,
    check_precision,
)
from saccade.runtimes.pixel_input import to_planes
from saccade.runtimes.pooled import PooledSession, checked

# Hardware it is meant for and has never run on in this project.
UNVERIFIED = "Arm phones and boards"
FORMATS = ("ncnn",)
PRECISIONS = ("fp32", "bf16")
TITLE = "ncnn"
# First line of every text .param file.
MAGIC = "7767517"


class Ncnn(Runtime):
    """ncnn's CPU backend, in float or with bf16 storage."""

    name = "ncnn"

    @staticmethod
    def availability() -> Availability:
        """Whether the package is installed; does not load it."""
        try:
            installed = version("ncnn")
        except PackageNotFoundError:
            return Availability(
                False,
                detail="not installed",
                extra="ncnn",
                formats=FORMATS,
                dynamic=False,
                unverified=UNVERIFIED,
            )
        return Availability(
            True,
            installed,
            "CPU, fp32 and bf16 storage",
            "ncnn",
            PRECISIONS,
            FORMATS,
            dynamic=False,
            unverified=UNVERIFIED,
        )

    @staticmethod
    def open(request: SessionRequest) -> Session:
        """Load a ``.param`` file and the ``.bin`` beside it.

        Raises:
            MissingExtraError: ncnn is not installed.
            RuntimeFailure: the files or the options were refused.
        """
        return NcnnSession(request)


class NcnnSession(PooledSession):
    """One net; every inference has an extractor of its own."""

    def __init__(self, request: SessionRequest) -> None:
        super().__init__(request, TITLE)
        check_precision(request.options, PRECISIONS, TITLE)
        try:
            import ncnn
        except ImportError as error:
            raise MissingExtraError("ncnn", "ncnn", "The ncnn runtime") from error
        self._ncnn: Any = ncnn
        self._net: Any = self._loaded(request)
        inputs = list(self._net.input_names())
        if len(inputs) != 1:
            raise RuntimeFailure(f"ncnn's model takes {inputs}; one image was expected.")
        self._input = inputs[0]
        self._outputs = list(self._net.output_names())

    def _loaded(self, request: SessionRequest) -> Any:
        model = request.model
        if model.format not in FORMATS or model.weights is None:
            raise RuntimeFailure(
                f"ncnn cannot run a model in {model.format} format; it takes .param and .bin."
            )
        _check_files(Path(model.path), Path(model.weights))
        net = self._ncnn.Net()
        net.opt.use_vulkan_compute = False
        bf16 = request.options.precision == "bf16"
        net.opt.use_bf16_storage = bf16
        # Halves of either kind would round where fp32 was asked for.
        net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
        if self.threads is not None:
            net.opt.num_threads = self.threads
        try:
            refused = net.load_param(model.path) or net.load_model(model.weights)
        except Exception as error:
            raise RuntimeFailure(f"ncnn refused the model: {first_line(error)}") from error
        if refused:
            raise RuntimeFailure(
                f"ncnn refused {Path(model.path).name} or the weights beside it (code {refused}). "
                "Convert the model again; both files have to come from one conversion."
            )
        return net

    def _run(self, tensor: NDArray[Any]) -> list[NDArray[np.float32]]:
        pre = self._request.graph_preprocessing
        checked(tensor, pre, TITLE)
        planes = tensor if pre is None else to_planes(tensor, pre)
        # The array must live as long as the net reads it: the Mat does not own its memory.
        image = np.ascontiguousarray(planes[0])
        extractor = self._net.create_extractor()
        code = extractor.input(self._input, self._ncnn.Mat(image))
        found = []
        for name in self._outputs:
            code, mat = (code, None) if code else extractor.extract(name)
            if code or mat is None or mat.empty():
                raise RuntimeFailure(
                    f"ncnn failed to run on {tensor.shape} (code {code} at '{name}'). Models made "
                    "for one input size refuse the others; convert the model for this size."
                )
            # ncnn's tensors have no batch axis.
            found.append(np.array(mat, np.float32)[None])
        return found

    def _drop(self) -> None:
        self._net = None


def _check_files(param: Path, weights: Path) -> None:
    """What ncnn would crash on.

    Raises:
        RuntimeFailure: the graph is no text, is cut short, or there are no weights.
    """
    lines = param.read_bytes().splitlines()
    if not lines or lines[0].strip() != MAGIC.encode():
        raise RuntimeFailure(f"{param.name} is no ncnn graph: its first line is not {MAGIC}.")
    counts = lines[1].split() if len(lines) > 1 else []
    layers = len([line for line in lines[2:] if line.strip()])
    if len(counts) != 2 or not counts[0].isdigit() or int(counts[0]) != layers:
        raise RuntimeFailure(
            f"{param.name} says that it has {counts[0].decode() if counts else 'no'} layers and "
            f"has {layers}; the file was cut short. Convert the model again."
        )
    if not weights.is_file():
        raise RuntimeFailure(f"The weights {weights.name} are not beside {param.name}.")
