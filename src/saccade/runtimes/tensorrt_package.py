"""The ``tensorrt`` package: whether it is here, and whether saccade knows its interface."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from saccade.errors import MissingExtraError, RuntimeFailure

# Who may have installed it: NVIDIA names the packages of single CUDA versions by them.
DISTRIBUTIONS = ("tensorrt", "tensorrt_cu13", "tensorrt_cu12", "tensorrt_cu11")
KNOWN = "10"


def installed_version() -> str | None:
    """Its version, empty where it does not tell, None where it is not installed; loads nothing."""
    if find_spec("tensorrt") is None:
        return None
    for name in DISTRIBUTIONS:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return ""


def why_not(installed: str) -> str | None:
    """None where saccade knows the interface of this version, else the reason."""
    if installed and installed.split(".")[0] != KNOWN:
        return (
            f"unable to use TensorRT {installed}: precisions and int8 calibration are asked for "
            f"as in TensorRT {KNOWN}, and version 11 has removed that (pip install "
            "'tensorrt>=10,<11')"
        )
    return None


def load(purpose: str) -> Any:
    """The module.

    Args:
        purpose: what it is needed for, as the subject of a message.

    Raises:
        MissingExtraError: it is not installed.
        RuntimeFailure: it does not load, or is of a version that saccade does not know.
    """
    try:
        import tensorrt as trt
    except ImportError as error:
        raise MissingExtraError("tensorrt", "tensorrt", purpose) from error
    except Exception as error:  # its libraries are loaded by code of its own
        raise RuntimeFailure(
            f"{purpose} needs TensorRT, which does not load: {error}. Install it again, for the "
            "CUDA version of this machine."
        ) from error
    reason = why_not(trt.__version__)
    if reason is not None:
        raise RuntimeFailure(f"{purpose} is not possible: {reason}.")
    return trt
