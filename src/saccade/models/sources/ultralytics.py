"""Models of ultralytics by name or checkpoint, through its own loader (AGPL-3.0).

Run with ultralytics 8.4.190: YOLOv8, YOLO11 (detection, segmentation, classification) and YOLO26
built from its own descriptions, a checkpoint that it saved, and a state dict. What it downloads by
name was not: that needs a network.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from saccade.errors import MissingExtraError, ModelError, first_line
from saccade.models.sources.contract import ResolvedModel, SourceRequest
from saccade.models.sources.hub import choose_weights, unknown_name
from saccade.models.torch_module import LoadedModule, resolve_module

_CHECKPOINT = ".pt"


class UltralyticsSource:
    """``ultralytics:NAME``, or ``ultralytics:FILE.pt`` for a checkpoint of one's own."""

    prefix: ClassVar[str] = "ultralytics:"
    looks_for: ClassVar[str] = (
        "ultralytics:NAME or ultralytics:FILE.pt, such as ultralytics:yolo11n"
    )

    @staticmethod
    def names() -> tuple[str, ...]:
        """What ultralytics publishes; nothing where it is not installed."""
        try:
            from ultralytics.utils.downloads import GITHUB_ASSETS_STEMS
        except ImportError:
            return ()
        return tuple(sorted(GITHUB_ASSETS_STEMS))

    @staticmethod
    def recognizes(reference: str) -> bool:
        """By the prefix."""
        return reference.startswith(UltralyticsSource.prefix)

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
        name = request.reference.removeprefix(UltralyticsSource.prefix)
        if name.endswith(_CHECKPOINT):
            module, said = _from_checkpoint(YOLO, Path(name), request), f"weights of {name}"
        else:
            module, said = _by_name(YOLO, name, request)
        side = request.input_size or request.usual_size
        loaded = LoadedModule(
            _for_export(module, side),
            (side, side),
            note=f"{request.reference}, {said}; its weights are AGPL-3.0",
            hints=_names(module),
            trained=not request.random_weights,
        )
        return resolve_module(loaded, request)


def _from_checkpoint(load: Any, path: Path, request: SourceRequest) -> Any:
    """What training saved. Reading it runs what is pickled in it, as ultralytics itself does."""
    if request.weights is not None or request.random_weights:
        raise ModelError(
            f"'{path.name}' has weights of its own. Leave 'weights' and 'random_weights' out, or "
            "name the architecture, such as ultralytics:yolo11n."
        )
    if not path.is_file():
        raise ModelError(f"The model file {path} does not exist. Check the path.")
    try:
        return load(str(path)).model.float().eval()
    except Exception as error:  # whatever unpickling raises
        raise ModelError(
            f"ultralytics cannot load {path.name}: {first_line(error)}. A checkpoint that it saved "
            "was expected."
        ) from error


def _by_name(load: Any, name: str, request: SourceRequest) -> tuple[Any, str]:
    from ultralytics.utils.downloads import GITHUB_ASSETS_STEMS

    trained = request.weights is None and not request.random_weights
    if trained and name not in GITHUB_ASSETS_STEMS:
        raise unknown_name("ultralytics", name, sorted(GITHUB_ASSETS_STEMS))
    try:
        return choose_weights(
            request,
            untrained=lambda: load(f"{name}.yaml").model,
            trained=lambda: load(f"{name}{_CHECKPOINT}").model,
        )
    except FileNotFoundError as error:
        raise unknown_name("ultralytics", name, sorted(GITHUB_ASSETS_STEMS)) from error


def _names(module: Any) -> dict[str, Any]:
    """Class names, where it has any: descriptions without training call them 0, 1, 2 and so on."""
    names = tuple(str(name) for name in module.names.values())
    return {} if names == tuple(map(str, range(len(names)))) else {"class_names": names}


def _for_export(module: Any, side: int) -> Any:
    """Fused, and with a head that gives its one decoded output only, as its exports have it."""
    import torch

    fused = module.eval().fuse()
    head = fused.model[-1]
    head.export, head.format = True, "onnx"
    with torch.inference_mode(False), torch.no_grad():
        # The head keeps the anchors of the size that it saw last; so they are constants.
        fused(torch.zeros(1, 3, side, side))
    return fused
