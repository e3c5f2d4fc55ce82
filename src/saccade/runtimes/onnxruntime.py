"""ONNX Runtime on the CPU, and the session that its other execution providers share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.environment import detect
from saccade.errors import RuntimeFailure, first_line
from saccade.runtimes.contract import (
    Availability,
    OperatorTime,
    Runtime,
    Session,
    SessionRequest,
    check_precision,
)
from saccade.runtimes.ort_binding import Binding, DeviceBinding, HostBinding
from saccade.runtimes.pooled import ALONE, PooledSession
from saccade.scratch import scratch_folder

FAST_INT8 = {"avx512_vnni", "avx_vnni", "asimddp", "i8mm"}
# Rounds the weights of layers that were left float on purpose, in one step per tensor, when the
# file is loaded (microsoft/onnxruntime pull requests 22969 and 25673). On a depthwise classifier
# with one layer left float, that alone took top-1 from 0.82 to 0.30, without a word.
HARMFUL = ("WeightBiasQuantization",)
# Where weights beside the graph are looked for when the graph comes as bytes.
EXTERNAL_FOLDER = "session.model_external_initializers_file_folder_path"
# "static" fixes the input's shape besides; the plain one leaves the level as it is by default.
STATIC = "static"
GRAPH_LEVELS = {"disable": 0, "basic": 1, "extended": 2, "all": 99}
GRAPH_LEVELS |= {f"{STATIC}_basic": 1, f"{STATIC}_extended": 2}
# Builds of the same package; a machine has one of them, and only one is called like the package.
DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu")


class OnnxRuntime(Runtime):
    """ONNX Runtime's CPU execution provider."""

    name = "onnxruntime"

    @staticmethod
    def availability() -> Availability:
        """Whether a build of the package is installed; does not load it where its name is known."""
        installed = installed_version()
        if installed is None:
            return Availability(False, detail="not installed")
        # Without these, 8-bit products overflow their 16-bit sums, or are slower than floats.
        fast = FAST_INT8 & set(detect().isa_flags)
        offered = ("fp32", "int8") if fast else ("fp32",)
        return Availability(True, installed, f"CPU, {', '.join(offered)}", precisions=offered)

    @staticmethod
    def open(request: SessionRequest) -> Session:
        """Load an ONNX file.

        Raises:
            RuntimeFailure: bf16 was asked for, the file is not ONNX, or it was refused.
        """
        return OnnxRuntimeSession(request)


def installed_version() -> str | None:
    """Version of the ONNX Runtime that is installed, whichever build; None where there is none."""
    for distribution in DISTRIBUTIONS:
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    if find_spec("onnxruntime") is None:
        return None
    try:  # a build of another name, or one that was made here
        import onnxruntime

        return str(onnxruntime.__version__)
    except Exception:  # what does not load is not there; opening a session says why
        return None


@dataclass(frozen=True)
class Provider:
    """An execution provider of ONNX Runtime.

    Attributes:
        name: as ONNX Runtime calls it.
        precisions: arithmetic it can be asked for.
        settings: its options.
        device: whose memory it works in, as ONNX Runtime calls it, ``"cpu"``, ``"cuda"``.
    """

    name: str = "CPUExecutionProvider"
    precisions: tuple[str, ...] = ("fp32",)
    settings: Mapping[str, str] = field(default_factory=dict)
    device: str = "cpu"

    def binding(self, ort: Any, session: Any) -> Binding:
        """Memory for one request: inputs and outputs of a session, on its device."""
        if self.device == "cpu":
            return HostBinding(ort, session)
        return DeviceBinding(ort, session, self.device, int(self.settings.get("device_id", 0)))


class OnnxRuntimeSession(PooledSession):
    """An ``InferenceSession``, called from the pool's threads.

    Args:
        request: what the session is opened for.
        provider: who executes; what it has no kernel for runs on the CPU.
    """

    def __init__(self, request: SessionRequest, provider: Provider | None = None) -> None:
        super().__init__(request, "ONNX Runtime")
        provider = provider or Provider()
        try:
            import onnxruntime as ort
        except ImportError as error:
            raise RuntimeFailure(
                f"onnxruntime, which comes with saccade, cannot be imported: {first_line(error)}. "
                "Install saccade again: pip install --force-reinstall saccade"
            ) from error
        if request.model.format != "onnx":
            raise RuntimeFailure(
                f"ONNX Runtime cannot run a model in {request.model.format} format; it takes ONNX."
            )
        check_precision(request.options, provider.precisions, f"ONNX Runtime's {provider.name}")
        self._options = request.options
        self._profile_dir = scratch_folder() if request.profile else None
        try:
            self._session: Any = ort.InferenceSession(
                _model_source(request),
                self._session_options(ort),
                [(provider.name, dict(provider.settings)), *_rest(provider)],
                disabled_optimizers=list(HARMFUL) if request.model.quantized else None,
            )
        except Exception as error:
            raise RuntimeFailure(f"ONNX Runtime refused the model: {first_line(error)}") from error
        used = self._session.get_providers()
        if provider.name not in used:  # ONNX Runtime only warns, and runs elsewhere
            raise RuntimeFailure(
                f"ONNX Runtime could not start {provider.name} and would have run on {used[0]}. "
                "Check the driver and that CUDA, cuDNN and TensorRT are of the versions it was "
                "built for."
            )
        self._ort, self._provider = ort, provider
        # By place, made when first used: a session of single images needs none but its own.
        self._bindings: dict[int, Binding] = {}
        self._operators: list[OperatorTime] | None = None

    def _session_options(self, ort: Any) -> Any:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        if self.threads is not None:
            options.intra_op_num_threads = self.threads
        level = GRAPH_LEVELS.get(self._options.graph_level)
        if level is not None:
            options.graph_optimization_level = ort.GraphOptimizationLevel(level)
        if self._options.graph_level.startswith(STATIC) and self._request.input_hw is not None:
            for name, size in _dynamic_dims(self._request).items():
                options.add_free_dimension_override_by_name(name, size)
        options.enable_cpu_mem_arena = self._options.arena
        if self._request.model.weights is not None or self._request.model.external_bytes:
            folder = str(Path(self._request.model.path).parent.resolve())
            options.add_session_config_entry(EXTERNAL_FOLDER, folder)
        if not self._options.spinning:
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if self._profile_dir is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(self._profile_dir.name) / "ort")
        return options

    def _run(self, tensor: NDArray[Any]) -> list[NDArray[np.float32]]:
        return self._run_in(ALONE, tensor)

    def _run_in(self, place: int, tensor: NDArray[Any]) -> list[NDArray[np.float32]]:
        if place not in self._bindings:
            self._bindings[place] = self._provider.binding(self._ort, self._session)
        try:
            return self._bindings[place].run(tensor)
        except Exception as error:
            raise RuntimeFailure(f"ONNX Runtime failed to run: {first_line(error)}") from error

    def operators(self) -> list[OperatorTime]:
        """Operator times from ONNX Runtime's own profile; ends the profiling."""
        from saccade.profile.operators import parse_ort_profile

        if self._profile_dir is None:
            raise RuntimeFailure("Operator times need a session that was opened with profile=True.")
        if self._operators is None:  # ONNX Runtime ends its profiling once
            self._operators = parse_ort_profile(Path(self._session.end_profiling()))
        return self._operators

    def _drop(self) -> None:
        self._bindings.clear()
        self._session = None
        if self._profile_dir is not None:
            self._profile_dir.cleanup()
            self._profile_dir = None


def _rest(provider: Provider) -> list[str]:
    """Who runs what the provider has no kernel for."""
    return [] if provider.name == Provider.name else [Provider.name]


def _model_source(request: SessionRequest) -> str | bytes:
    if request.graph_preprocessing is None:
        return request.model.path
    import onnx

    from saccade.models.graph_preprocess import with_preprocessing

    # Weights that lie beside the graph are found by the session, and never read here.
    model = onnx.load(request.model.path, load_external_data=False)
    rewritten = with_preprocessing(model, request.input_name, request.graph_preprocessing)
    return bytes(rewritten.SerializeToString())


def _dynamic_dims(request: SessionRequest) -> dict[str, int]:
    """Names of the image input's symbolic dimensions, with the sizes they will have."""
    import onnx

    assert request.input_hw is not None
    graph = onnx.load(request.model.path, load_external_data=False).graph
    image = next(value for value in graph.input if value.name == request.input_name)
    sizes = (1, 3, *request.input_hw)
    dims = image.type.tensor_type.shape.dim
    return {dim.dim_param: size for dim, size in zip(dims, sizes, strict=True) if dim.dim_param}
