"""Models of ultralytics by name, through its own loader (AGPL-3.0)."""

from __future__ import annotations

from typing import Any, ClassVar

from saccade.errors import MissingExtraError, ModelError
from saccade.models.sources.contract import ResolvedModel, SourceRequest
from saccade.models.sources.hub import choose_weights
from saccade.models.torch_module import LoadedModule, resolve_module

_PREFIX = "ultralytics:"


class UltralyticsSource:
    """``ultralytics:NAME``."""

    looks_for: ClassVar[str] = "ultralytics:NAME, such as ultralytics:yolo11n"

    @staticmethod
    def recognizes(reference: str) -> bool:
        """By the prefix."""
        return reference.startswith(_PREFIX)

    @staticmethod
    def resolve(request: SourceRequest) -> ResolvedModel:
        """Build it with its published weights, or with those that the user gives.

        Raises:
            ModelError: there is no such model, or its weights cannot be had.
            MissingExtraError: ultralytics is not installed.
        """
        try:
            from ultralytics import YOLO
        except ImportError as error:
            raise MissingExtraError("ultralytics", "ultralytics", "A YOLO by name") from error
        name = request.reference.removeprefix(_PREFIX)
        try:
            module, said = choose_weights(
                request,
                untrained=lambda: YOLO(f"{name}.yaml").model,
                trained=lambda: YOLO(f"{name}.pt").model,
            )
        except FileNotFoundError as error:
            raise ModelError(f"ultralytics has no model '{name}' ({error}).") from error
        side = request.input_size or request.usual_size
        loaded = LoadedModule(
            _for_export(module),
            (side, side),
            note=f"{request.reference}, {said}; its weights are AGPL-3.0",
            hints={"class_names": tuple(module.names.values())},
            trained=not request.random_weights,
        )
        return resolve_module(loaded, request)


def _for_export(module: Any) -> Any:
    """Fused, and with a head that gives its one decoded output only, as its exports have it."""
    fused = module.eval().fuse()
    head = fused.model[-1]
    head.export, head.format = True, "onnx"
    return fused
