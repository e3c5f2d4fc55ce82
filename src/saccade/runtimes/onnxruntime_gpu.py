"""ONNX Runtime on NVIDIA GPUs: its CUDA and TensorRT execution providers.

Not verified on hardware: no GPU was at hand in this project.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from saccade.errors import MissingExtraError
from saccade.runtimes.contract import Availability, Runtime, Session, SessionRequest
from saccade.runtimes.onnxruntime import OnnxRuntimeSession, Provider
from saccade.runtimes.tensorrt_cache import PREFIX, provider_folder

UNVERIFIED = "NVIDIA GPUs"
DISTRIBUTION = "onnxruntime-gpu"
CUDA, TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"


class OnnxRuntimeCuda(Runtime):
    """ONNX Runtime's CUDA execution provider."""

    name = "onnxruntime-cuda"
    package = "onnxruntime"

    @staticmethod
    def availability() -> Availability:
        """Whether the GPU build is installed and a GPU answers."""
        return _availability(CUDA, ("fp32",))

    @staticmethod
    def open(request: SessionRequest) -> Session:
        """Load an ONNX file onto the GPU.

        Raises:
            MissingExtraError: onnxruntime-gpu is not installed.
            RuntimeFailure: the provider did not start, or the model was refused.
        """
        _check_installed()
        # Search for the fastest algorithm; take as much memory as is asked for, not twice that.
        settings = {
            "cudnn_conv_algo_search": "EXHAUSTIVE",
            "arena_extend_strategy": "kSameAsRequested",
        }
        return OnnxRuntimeSession(request, Provider(CUDA, ("fp32",), settings, "cuda"))


class OnnxRuntimeTensorRt(Runtime):
    """ONNX Runtime's TensorRT execution provider."""

    name = "onnxruntime-tensorrt"
    package = "onnxruntime"

    @staticmethod
    def availability() -> Availability:
        """Whether the GPU build is installed with TensorRT, and a GPU answers."""
        return _availability(TENSORRT, ("fp32", "fp16"))

    @staticmethod
    def open(request: SessionRequest) -> Session:
        """Load an ONNX file; the first time an engine is built, which takes minutes.

        Raises:
            MissingExtraError: onnxruntime-gpu is not installed.
            RuntimeFailure: the provider did not start, or the model was refused.
        """
        _check_installed()
        settings = {
            "trt_fp16_enable": str(request.options.precision == "fp16"),
            "trt_int8_enable": str(request.model.quantized),
            **_kept_engines(request.model.sha256),
        }
        provider = Provider(TENSORRT, ("fp32", "fp16"), settings, "cuda")
        return OnnxRuntimeSession(request, provider)


def _kept_engines(model_sha256: str) -> dict[str, str]:
    """Where the provider keeps engines and timings; it tells models apart by name only."""
    folder = provider_folder()
    if folder is None:
        return {}
    return {
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": str(folder),
        "trt_engine_cache_prefix": f"{PREFIX}{model_sha256[:16]}",
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": str(folder),
    }


def _check_installed() -> None:
    try:
        version(DISTRIBUTION)
    except PackageNotFoundError as error:
        purpose = "ONNX Runtime on the GPU"
        raise MissingExtraError(DISTRIBUTION, "cuda", purpose) from error


def _availability(provider: str, precisions: tuple[str, ...]) -> Availability:
    reason, installed = _why_not(provider)
    return Availability(
        reason is None,
        installed,
        reason or f"NVIDIA GPU, {', '.join(precisions)}",
        "cuda",
        precisions,
        devices=("cuda",),
        unverified=UNVERIFIED,
    )


def _why_not(provider: str) -> tuple[str | None, str]:
    """The reason why the provider cannot be used, None where it can, and the version."""
    try:
        installed = version(DISTRIBUTION)
    except PackageNotFoundError:
        return f"not installed ({DISTRIBUTION})", ""
    from saccade.environment import detect

    if detect().gpu is None:
        return "without an NVIDIA GPU that answers", installed
    try:
        import onnxruntime

        offered = onnxruntime.get_available_providers()
    except Exception as error:  # a broken installation must not break `doctor`
        return f"unable to load: {error}", installed
    return (None if provider in offered else f"built without {provider}"), installed
