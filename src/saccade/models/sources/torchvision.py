"""Models of torchvision by name, with the preprocessing that their weights state."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from saccade.errors import MissingExtraError, ModelError
from saccade.models.files import model_file
from saccade.models.sources.contract import ResolvedModel, SourceRequest
from saccade.models.sources.hub import choose_weights, unknown_name
from saccade.models.torch_module import LoadedModule, resolve_module

# Of a hash in a file's name.
DIGITS = 8


class TorchvisionSource:
    """``torchvision:NAME``."""

    prefix: ClassVar[str] = "torchvision:"
    looks_for: ClassVar[str] = "torchvision:NAME, such as torchvision:resnet50"

    @staticmethod
    def names() -> tuple[str, ...]:
        """What torchvision lists; nothing where it is not installed."""
        try:
            from torchvision import models
        except ImportError:
            return ()
        return tuple(models.list_models())

    @staticmethod
    def recognizes(reference: str) -> bool:
        """By the prefix."""
        return reference.startswith(TorchvisionSource.prefix)

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
        name = request.reference.removeprefix(TorchvisionSource.prefix)
        if name not in models.list_models():
            raise unknown_name("torchvision", name, models.list_models())
        default = models.get_model_weights(name).DEFAULT
        stated, told = _preprocessing_of(request, models.get_model_weights(name), default)
        module, said = choose_weights(
            request,
            untrained=lambda: models.get_model(name, weights=None, **_without_downloads(name)),
            trained=lambda: models.get_model(name, weights=default),
        )
        hints = _hints(stated, request)
        side = request.input_size or hints.pop("input_size", request.usual_size)
        loaded = LoadedModule(
            module,
            (side, side),
            note=f"{request.reference}, {said}{told}",
            hints=hints,
            trained=not request.random_weights,
        )
        return resolve_module(loaded, request)


def _preprocessing_of(request: SourceRequest, known: Any, default: Any) -> tuple[Any, str]:
    """The weights of the library whose preprocessing is taken, and words where that is a guess.

    A state dict of torchvision's own is recognized by its content: the library's files are named
    by the first digits of their SHA-256.
    """
    if request.weights is None:
        return default, ""
    sha256 = model_file(request.weights).sha256
    for entry in known:
        digits = Path(entry.url).stem.rpartition("-")[2]
        if len(digits) >= DIGITS and sha256.startswith(digits):
            return entry, f", which are torchvision's {entry.name}; its preprocessing is taken"
    return default, (
        f", which are none of torchvision's own: the preprocessing of {default.name} is assumed "
        "(set overrides such as crop_share, mean and std where they were trained with another)"
    )


def _without_downloads(name: str) -> dict[str, Any]:
    """Segmenters load a backbone of their own unless they are told not to."""
    from torchvision import models

    module = models.get_model_builder(name).__module__
    return {"weights_backbone": None} if "segmentation" in module else {}


def _hints(stated: Any, request: SourceRequest) -> dict[str, Any]:
    """Preprocessing and class names, as the library states them for some weights."""
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
