"""Models of timm by name, with the preprocessing that their configuration states."""

from __future__ import annotations

from typing import Any, ClassVar

from saccade.errors import MissingExtraError
from saccade.models.sources.contract import ResolvedModel, SourceRequest
from saccade.models.sources.hub import choose_weights, unknown_name
from saccade.models.torch_module import LoadedModule, resolve_module


class TimmSource:
    """``timm:NAME``."""

    prefix: ClassVar[str] = "timm:"
    looks_for: ClassVar[str] = "timm:NAME, such as timm:mobilenetv3_small_100"

    @staticmethod
    def names() -> tuple[str, ...]:
        """What timm lists; nothing where it is not installed."""
        try:
            import timm
        except ImportError:
            return ()
        return tuple(timm.list_models())

    @staticmethod
    def recognizes(reference: str) -> bool:
        """By the prefix."""
        return reference.startswith(TimmSource.prefix)

    @staticmethod
    def resolve(request: SourceRequest) -> ResolvedModel:
        """Build it with its pretrained weights, or with those that the user gives.

        Raises:
            ModelError: there is no such model, or its weights cannot be had.
            MissingExtraError: timm is not installed.
        """
        try:
            import timm
        except ImportError as error:
            raise MissingExtraError("timm", "timm", "A timm model") from error
        name = request.reference.removeprefix(TimmSource.prefix)
        if not timm.is_model(name):
            raise unknown_name("timm", name, timm.list_models())
        module, said = choose_weights(
            request,
            untrained=lambda: timm.create_model(name, pretrained=False),
            trained=lambda: timm.create_model(name, pretrained=True),
        )
        stated: dict[str, Any] = timm.data.resolve_model_data_config(module)
        side = request.input_size or stated["input_size"][-1]
        hints = {
            "scale": 1 / 255,
            "mean": tuple(stated["mean"]),
            "std": tuple(stated["std"]),
            "fit": "center_crop",
            "crop_share": min(1.0, float(stated["crop_pct"])),
        }
        loaded = LoadedModule(
            module,
            (side, side),
            note=f"{request.reference}, {said}",
            hints=hints,
            trained=not request.random_weights,
        )
        return resolve_module(loaded, request)
