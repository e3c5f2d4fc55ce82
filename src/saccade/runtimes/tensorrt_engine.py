"""Build TensorRT engines from ONNX, by the ``tensorrt`` package or the ``trtexec`` program.

Not verified on hardware: no GPU was at hand in this project. Written for TensorRT 10 after
NVIDIA's Python API reference.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.errors import MissingExtraError, RuntimeFailure

# Factors on the usual side that an engine of dynamic shape is made for.
SMALLEST, LARGEST = 0.5, 2.0
STRIDE = 32
WORKSPACE_BYTES = 1 << 30


@dataclass(frozen=True)
class EngineSettings:
    """How an engine is built.

    Attributes:
        hw: height and width of the input; the usual one where the model's shape is dynamic.
        fixed: whether only that size will be asked for.
        fp16: let layers run in half precision.
        int8: let layers run in int8, by the model's own QDQ nodes or by calibration.
        timing_cache: file of kernel timings that is read and extended, so that the next build of
            a like model takes seconds; None for none.
    """

    hw: tuple[int, int]
    fixed: bool = True
    fp16: bool = False
    int8: bool = False
    timing_cache: Path | None = None

    @property
    def shapes(self) -> tuple[tuple[int, int, int, int], ...]:
        """Smallest, usual and largest input shape, NCHW."""
        usual = (1, 3, *self.hw)
        if self.fixed:
            return (usual,) * 3
        low, high = (
            tuple(max(STRIDE, round(side * factor / STRIDE) * STRIDE) for side in self.hw)
            for factor in (SMALLEST, LARGEST)
        )
        return (1, 3, low[0], low[1]), usual, (1, 3, high[0], high[1])


def trtexec_command(
    model: Path, target: Path, input_name: str, settings: EngineSettings, dynamic: bool
) -> str:
    """The command that builds the same engine where only ``trtexec`` is installed.

    Args:
        model: an ONNX file.
        target: where the engine goes.
        input_name: the image input.
        settings: how to build.
        dynamic: whether the model's shape is; ``trtexec`` refuses shapes otherwise.
    """
    words = ["trtexec", f"--onnx={model}", f"--saveEngine={target}"]
    if dynamic:
        for kind, shape in zip(("min", "opt", "max"), settings.shapes, strict=True):
            words.append(f"--{kind}Shapes={input_name}:{'x'.join(map(str, shape))}")
    words += [flag for flag, on in (("--fp16", settings.fp16), ("--int8", settings.int8)) if on]
    if settings.timing_cache is not None:
        words.append(f"--timingCacheFile={settings.timing_cache}")
    return shlex.join(words)


def build_engine(
    model: bytes,
    input_name: str,
    settings: EngineSettings,
    samples: Sequence[NDArray[np.float32]] = (),
) -> bytes:
    """A serialized engine for this GPU and this version of TensorRT.

    Args:
        model: an ONNX model.
        input_name: the image input.
        settings: how to build.
        samples: inputs ``(1, 3, H, W)`` to calibrate int8 on; none where the model has QDQ nodes.

    Raises:
        MissingExtraError: tensorrt is not installed.
        RuntimeFailure: TensorRT refused the model; its own words are in the message.
    """
    try:
        import tensorrt as trt
    except ImportError as error:
        raise MissingExtraError("tensorrt", "tensorrt", "Building an engine") from error
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, trt.Logger(trt.Logger.ERROR))
    if not parser.parse(model):
        said = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise RuntimeFailure(
            f"TensorRT refused the model: {said[:400]}. Replace the operator that it names, or "
            "use ONNX Runtime's CUDA provider."
        )
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    if -1 in tuple(network.get_input(0).shape):
        profile = builder.create_optimization_profile()
        profile.set_shape(input_name, *settings.shapes)
        config.add_optimization_profile(profile)
    if settings.fp16:
        config.set_flag(trt.BuilderFlag.FP16)
    if settings.int8:
        config.set_flag(trt.BuilderFlag.INT8)
    if settings.int8 and samples:
        config.int8_calibrator = _calibrator(trt, input_name, samples)
    _use_timings(config, settings.timing_cache)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise RuntimeFailure(
            "TensorRT built no engine. Run the same build by trtexec --verbose to see the layer "
            "that has no kernel."
        )
    _keep_timings(config, settings.timing_cache)
    return bytes(engine)


def _use_timings(config: Any, path: Path | None) -> None:
    if path is not None:
        known = path.read_bytes() if path.is_file() else b""
        config.set_timing_cache(config.create_timing_cache(known), ignore_mismatch=False)


def _keep_timings(config: Any, path: Path | None) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(config.get_timing_cache().serialize()))


def _calibrator(trt: Any, input_name: str, samples: Sequence[NDArray[np.float32]]) -> Any:
    """Feeds samples, one at a time, from memory of the GPU."""
    import torch

    waiting = iter(samples)

    class Calibrator(trt.IInt8EntropyCalibrator2):  # type: ignore[misc]
        """What TensorRT asks while it calibrates."""

        def __init__(self) -> None:
            super().__init__()
            self._held: Any = None

        def get_batch_size(self) -> int:
            return 1

        def get_batch(self, names: list[str]) -> list[int] | None:
            sample = next(waiting, None)
            if sample is None or names != [input_name]:
                return None
            # Held until the next call: TensorRT reads it after this one has returned.
            self._held = torch.from_numpy(np.ascontiguousarray(sample)).cuda()
            return [int(self._held.data_ptr())]

        def read_calibration_cache(self) -> bytes | None:
            return None

        def write_calibration_cache(self, cache: bytes) -> None:
            del cache

    return Calibrator()
