"""saccade: makes computer-vision systems meet their goals, by measurement.

    study = saccade.optimize(model="yolo11n.onnx", data="data.yaml", video="street.mp4",
                             goals=["throughput_fps>=60", "map50_95_drop<=0.01"], out="runs/street")
    pipeline = saccade.load("runs/street/bundle")

Everything here is imported when it is first used, so that `import saccade` stays light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from saccade.deploy.bundle import load
    from saccade.deploy.opened import Bundle
    from saccade.environment import Environment
    from saccade.errors import SaccadeError
    from saccade.pipeline.config import PipelineConfig
    from saccade.pipeline.pipeline import Pipeline
    from saccade.spec import Spec
    from saccade.study import Study, Trial

__version__ = "0.1.0"

_EXPORTS = {
    "Bundle": "saccade.deploy.opened",
    "load": "saccade.deploy.bundle",
    "Environment": "saccade.environment",
    "Pipeline": "saccade.pipeline.pipeline",
    "PipelineConfig": "saccade.pipeline.config",
    "SaccadeError": "saccade.errors",
    "Spec": "saccade.spec",
    "Study": "saccade.study",
    "Trial": "saccade.study",
}

__all__ = [
    "Bundle",
    "Environment",
    "Pipeline",
    "PipelineConfig",
    "SaccadeError",
    "Spec",
    "Study",
    "Trial",
    "load",
    "optimize",
    "profile",
]


def __getattr__(name: str) -> Any:
    # `optimize` and `profile` are packages that can also be called, see docs/decisions.
    if name in ("optimize", "profile"):
        return importlib.import_module(f"saccade.{name}")
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'saccade' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
