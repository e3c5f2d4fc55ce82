"""Modules to train, from the references that `saccade.models.sources` know by name or factory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from saccade.errors import MissingExtraError, ModelError, SpecError
from saccade.models.sources.factory import build_module
from saccade.models.sources.hub import unknown_name
from saccade.models.torch_weights import load_weights

# Of a state dict that a training starts from, this share of the tensors has to fit; what a head
# for other classes holds does not.
FITTING_SHARE = 0.8


def build_trainable(reference: str, task: str, classes: int) -> Any:
    """The untrained module for so many classes.

    Args:
        reference: ``torchvision:NAME``, ``timm:NAME``, or ``package.module:factory``.
        task: what it is trained for.
        classes: without a background.

    Raises:
        ModelError: there is no such model, or it does not do this.
        MissingExtraError: its library is not installed.
    """
    source, _, name = reference.partition(":")
    build = _BUILDERS.get(source)
    if build is None:
        return _for_task(build_module(reference), task)
    return build(name, task, classes)


def _torchvision(name: str, task: str, classes: int) -> Any:
    try:
        from torchvision import models
    except ImportError as error:
        raise MissingExtraError("torchvision", "torch", "A torchvision model") from error
    if name not in models.list_models():
        raise unknown_name("torchvision", name, models.list_models())
    kind = _torchvision_task(models.get_model_builder(name).__module__)
    if kind != task:
        raise ModelError(f"torchvision:{name} is for {kind}, not for {task}. Choose another model.")
    settings: dict[str, Any] = {} if task == "classification" else {"weights_backbone": None}
    count = classes + 1 if task == "detection" else classes  # the background is class 0
    module = models.get_model(name, weights=None, num_classes=count, **settings)
    return _for_task(module, task)


def _torchvision_task(module: str) -> str:
    known = {
        "torchvision.models.segmentation": "segmentation",
        "torchvision.models.detection": "detection",
        "torchvision.models.optical_flow": "optical flow",
        "torchvision.models.video": "video",
    }
    return next((t for prefix, t in known.items() if module.startswith(prefix)), "classification")


def _timm(name: str, task: str, classes: int) -> Any:
    try:
        import timm
    except ImportError as error:
        raise MissingExtraError("timm", "timm", "A timm model") from error
    if task != "classification":
        raise ModelError(f"timm:{name} is for classification, not for {task}.")
    if not timm.is_model(name):
        raise unknown_name("timm", name, timm.list_models())
    return timm.create_model(name, pretrained=False, num_classes=classes)


_BUILDERS: dict[str, Callable[[str, str, int], Any]] = {
    "torchvision": _torchvision,
    "timm": _timm,
}


def _for_task(module: Any, task: str) -> Any:
    """As the loss of the task wants it."""
    if task == "detection":
        from saccade.train.detector import TrainableDetector

        return TrainableDetector(module.train())
    from saccade.train.plain_output import PlainOutput

    return PlainOutput(module.train())


def start_from(module: Any, path: Path, *, whole: bool = False) -> Any:
    """The module with the weights of a state dict; a head for other classes stays untrained.

    Args:
        module: untrained.
        path: of the state dict.
        whole: every weight has to fit: there is no training before the module is made smaller.

    Raises:
        SpecError: there is no such file.
        ModelError: too little of it fits.
    """
    if not path.is_file():
        raise SpecError(f"The weights '{path}' do not exist. Give the path of a state dict.")
    try:
        load_weights(module, path)
    except ModelError:
        if whole:
            raise
        _load_what_fits(module, path)
    return module


def _load_what_fits(module: Any, path: Path) -> None:
    import torch

    found = torch.load(path, map_location="cpu", weights_only=True)
    own = module.state_dict()
    prefix = "module." if all(name.startswith("module.") for name in own) else ""
    given = {f"{prefix}{name.removeprefix('module.')}": value for name, value in found.items()}
    fitting = {
        name: value
        for name, value in given.items()
        if name in own and getattr(value, "shape", None) == own[name].shape
    }
    if len(fitting) < FITTING_SHARE * len(own):
        raise ModelError(
            f"Of the weights in '{path.name}' {len(fitting)} of {len(own)} tensors fit the model. "
            "Check that they belong to this architecture."
        )
    module.load_state_dict(fitting, strict=False)
