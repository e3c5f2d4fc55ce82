"""Build TensorRT engines from ONNX, by the ``tensorrt`` package or the ``trtexec`` program.

Not verified on hardware: no GPU was at hand in this project. Written for TensorRT 10 after
NVIDIA's Python API reference.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.errors import RuntimeFailure, SaccadeError, first_line
from saccade.runtimes import tensorrt_package
from saccade.runtimes.tensorrt_cache import keep, kept
from saccade.runtimes.tensorrt_settings import WORKSPACE_MIB, EngineSettings
from saccade.runtimes.tensorrt_trtexec import (
    trtexec_command,
    trtexec_engine,
    trtexec_program,
)


def built_engine(
    model: Path,
    input_name: str,
    settings: EngineSettings,
    samples: Sequence[NDArray[np.float32]] = (),
) -> bytes:
    """An engine by the package's builder or, where that is missing or fails, by ``trtexec``.

    Args:
        model: an ONNX file.
        input_name: the image input.
        settings: how to build.
        samples: as in `build_engine`; ``trtexec`` cannot calibrate on them and is not tried then.

    Raises:
        MissingExtraError: tensorrt is not installed.
        RuntimeFailure: nothing built an engine; the message says what each one said.
    """
    try:
        return build_engine(model, input_name, settings, samples)
    except RuntimeFailure as failure:
        program = trtexec_program()
        if program is None or samples:
            raise
        try:
            return trtexec_engine(program, model, input_name, settings)
        except RuntimeFailure as second:
            raise RuntimeFailure(f"{failure} {second}") from failure


def build_engine(
    model: Path,
    input_name: str,
    settings: EngineSettings,
    samples: Sequence[NDArray[np.float32]] = (),
) -> bytes:
    """A serialized engine for this GPU and this version of TensorRT, by the package's builder.

    Args:
        model: an ONNX file.
        input_name: the image input.
        settings: how to build.
        samples: inputs ``(1, 3, H, W)`` to calibrate int8 on; none where the model has QDQ nodes.

    Raises:
        MissingExtraError: tensorrt is not installed.
        RuntimeFailure: TensorRT refused the model; its own words are in the message.
    """
    trt = tensorrt_package.load("Building an engine")
    if not (hasattr(trt, "Builder") and hasattr(trt, "OnnxParser")):
        raise RuntimeFailure("This tensorrt package has no builder; install the whole TensorRT.")
    try:
        return _built(trt, model, input_name, settings, samples)
    except SaccadeError:
        raise
    except Exception as error:  # TensorRT's own errors share no base
        raise RuntimeFailure(f"TensorRT failed to build an engine: {first_line(error)}.") from error


def _built(
    trt: Any,
    model: Path,
    input_name: str,
    settings: EngineSettings,
    samples: Sequence[NDArray[np.float32]],
) -> bytes:
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    _parse(trt, network, logger, model)
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_MIB << 20)
    dynamic = -1 in tuple(network.get_input(0).shape)
    if dynamic:
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
        command = trtexec_command(model, Path("model.engine"), input_name, settings, dynamic)
        raise RuntimeFailure(
            "TensorRT built no engine. To see the layer that has no kernel, run: "
            f"{shlex.join([*command, '--verbose'])}"
        )
    _keep_timings(config, settings.timing_cache)
    return bytes(engine)


def _parse(trt: Any, network: Any, logger: Any, model: Path) -> None:
    parser = trt.OnnxParser(network, logger)
    # By its path, because weights may lie in files beside it.
    if not parser.parse_from_file(str(model)):
        said = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise RuntimeFailure(
            f"TensorRT refused the model: {said[:400]}. Replace the operator that it names, or "
            "use ONNX Runtime's CUDA provider."
        )


def _use_timings(config: Any, path: Path | None) -> None:
    if path is None:
        return
    known = config.create_timing_cache(kept(path) or b"")
    # Timings of another driver, or a broken file: begin anew.
    if known is None or not config.set_timing_cache(known, ignore_mismatch=False):
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)


def _keep_timings(config: Any, path: Path | None) -> None:
    timings = config.get_timing_cache() if path is not None else None
    if path is not None and timings is not None:
        keep(path, bytes(timings.serialize()))


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
