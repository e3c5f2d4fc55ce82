"""TensorRT through its Python package, with CUDA's own library for memory."""

from __future__ import annotations

import ctypes
import ctypes.util
import glob
from pathlib import Path
from typing import Any

from saccade.deploy.kit.script.runtimes import HERE, Skipped
from saccade.deploy.kit.script.tensors import tensors_of
from saccade.deploy.kit.script.trtexec import WORKSPACE_MIB


class TensorRt:
    """The tensorrt package; memory on the GPU through the CUDA runtime library itself."""

    def __init__(self, candidate: dict[str, Any], files: list[Path], threads: int) -> None:
        import tensorrt as trt

        self.cuda = _cuda_library()
        self.version = f"tensorrt {trt.__version__}"
        logger = trt.Logger(trt.Logger.WARNING)
        built = engine_file(candidate)
        if not built.is_file():
            built.parent.mkdir(exist_ok=True)
            built.write_bytes(self._build(trt, logger, candidate, files[0]))
        # It has to live as long as its engine does.
        self.owner = trt.Runtime(logger)
        self.engine = self.owner.deserialize_cuda_engine(built.read_bytes())
        if self.engine is None:
            raise RuntimeError(f"TensorRT refuses {built}; delete it and run again")
        self.tensors = tensors_of(self.engine, self.engine.create_execution_context())
        self.input = self.tensors.inputs[0]
        self.results = {
            name: self.tensors.empty(name)
            for name in self.tensors.names
            if name not in self.tensors.inputs
        }
        self.memory: dict[str, ctypes.c_void_p] = {}
        self.stream = ctypes.c_void_p()
        _cuda_call(self.cuda.cudaStreamCreate(ctypes.byref(self.stream)))

    def _build(self, trt: Any, logger: Any, candidate: dict[str, Any], model: Path) -> bytes:
        if any(flag.startswith("--calib") for flag in candidate["flags"]):
            raise Skipped("an engine from a calibration cache is built by trtexec, which is absent")
        builder = trt.Builder(logger)
        flag = getattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)
        network = builder.create_network(1 << int(flag) if flag is not None else 0)
        parser = trt.OnnxParser(network, logger)
        if not parser.parse(model.read_bytes()):
            raise RuntimeError(f"TensorRT refuses the model: {parser.get_error(0)}")
        config = builder.create_builder_config()
        if not hasattr(config, "set_memory_pool_limit"):
            config.max_workspace_size = WORKSPACE_MIB << 20
        for name in ("fp16", "int8"):
            if f"--{name}" in candidate["flags"]:
                config.set_flag(_precision(trt, name))
        built = builder.build_serialized_network(network, config)
        if built is None:
            raise RuntimeError("TensorRT built no engine; its log above says why")
        return bytes(built)

    def _at(self, name: str, array: Any) -> ctypes.c_void_p:
        if name not in self.memory:
            self.memory[name] = ctypes.c_void_p()
            size = ctypes.c_size_t(array.nbytes)
            _cuda_call(self.cuda.cudaMalloc(ctypes.byref(self.memory[name]), size))
            self.tensors.place(name, self.memory[name].value)
        return self.memory[name]

    def run(self, frame: Any) -> list[Any]:
        """Outputs for one ``(1, 3, H, W)`` float32 frame, copied back."""
        _copy(self.cuda, self._at(self.input, frame), frame.ctypes.data, frame.nbytes, 1)
        for name, array in self.results.items():
            self._at(name, array)
        if not self.tensors.start(self.stream.value):
            raise RuntimeError("TensorRT failed to run; its log above says why")
        _cuda_call(self.cuda.cudaStreamSynchronize(self.stream))
        for name, array in self.results.items():
            _copy(self.cuda, array.ctypes.data, self.memory[name], array.nbytes, 2)
        return list(self.results.values())


def _precision(trt: Any, name: str) -> Any:
    flag = getattr(trt.BuilderFlag, name.upper(), None)
    if flag is None:
        raise Skipped(f"TensorRT {trt.__version__} has no flag for {name}; 11 has removed it")
    return flag


def _cuda_library() -> Any:
    found = ctypes.util.find_library("cudart")
    for name in [found, *glob.glob("/usr/local/cuda*/lib64/libcudart.so*")]:
        if name:
            return ctypes.CDLL(name)
    raise Skipped("the CUDA runtime library (libcudart.so) is not there")


def _cuda_call(code: int) -> None:
    if code:
        raise RuntimeError(f"CUDA error {code}")


def _copy(cuda: Any, target: Any, source: Any, size: int, direction: int) -> None:
    _cuda_call(
        cuda.cudaMemcpy(
            ctypes.c_void_p(getattr(target, "value", target)),
            ctypes.c_void_p(getattr(source, "value", source)),
            ctypes.c_size_t(size),
            direction,
        )
    )


def engine_file(candidate: dict[str, Any]) -> Path:
    """Where the engine built for a candidate lies."""
    return HERE / "engines" / f"{candidate['id'].replace('@', '-at-')}.engine"
