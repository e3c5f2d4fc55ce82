"""Models of torchvision by name, with the preprocessing that their weights state."""

from __future__ import annotations

from typing import Any, ClassVar

from saccade.errors import MissingExtraError, ModelError
from saccade.models.sources.contract import ResolvedModel, SourceRequest
from saccade.models.sources.hub import choose_weights, unknown_name
from saccade.models.torch_module import LoadedModule, resolve_module

_PREFIX = "torchvision:"


class TorchvisionSource:
    """``torchvision:NAME``."""

    looks_for: ClassVar[str] = "torchvision:NAME, such as torchvision:resnet50"

    @staticmethod
    def recognizes(reference: str) -> bool:
        """By the prefix."""
        return reference.startswith(_PREFIX)

    @staticmethod
    def resolve(request: SourceRequest) -> ResolvedModel:
        """Build it with the default weights, or with those that the user gives.

        Raises:
            ModelError: there is no such model, or its weights cannot be had.
            MissingExtraError: torchvision is not installed.
        """
        try:
            from torchvision import models
        except ImportError as error:
            raise MissingExtraError("torchvision", "torch", "A torchvision model") from error
        name = request.reference.removeprefix(_PREFIX)
        if name not in models.list_models():
            raise unknown_name("torchvision", name, models.list_models())
        stated = models.get_model_weights(name).DEFAULT
        module, said = choose_weights(
            request,
            untrained=lambda: models.get_model(name, weights=None, **_without_downloads(name)),
            trained=lambda: models.get_model(name, weights=stated),
        )
        hints = _hints(stated, request)
        side = request.input_size or hints.pop("input_size", request.usual_size)
        loaded = LoadedModule(
            module,
            (side, side),
            note=f"{request.reference}, {said}",
            hints=hints,
            trained=not request.random_weights,
        )
        return resolve_module(loaded, request)


def _without_downloads(name: str) -> dict[str, Any]:
    """Segmenters load a backbone of their own unless they are told not to."""
    from torchvision import models

    module = models.get_model_builder(name).__module__
    return {"weights_backbone": None} if "segmentation" in module else {}


def _hints(stated: Any, request: SourceRequest) -> dict[str, Any]:
    """Preprocessing and class names, as the default weights state them."""
    transforms = stated.transforms()
    hints: dict[str, Any] = {"scale": 1 / 255}
    for key in ("mean", "std"):
        if getattr(transforms, key, None) is not None:
            hints[key] = tuple(getattr(transforms, key))
    crop, resize = (getattr(transforms, key, None) for key in ("crop_size", "resize_size"))
    if crop and resize:
        hints |= {"fit": "center_crop", "crop_share": min(1.0, crop[0] / resize[0])}
        hints["input_size"] = crop[0]
    categories = stated.meta.get("categories")
    if not categories:
        raise ModelError(f"torchvision states no classes for {request.reference}.")
    # Two of ImageNet's classes are called "crane", and two "maillot".
    hints["class_names"] = tuple(categories)
    return hints
