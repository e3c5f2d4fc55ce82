"""Exported PyTorch programs (``.pt2``): read them, feed them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.errors import MissingExtraError, ModelError, first_line


def read_program(path: str | Path, documents: dict[str, str] | None = None) -> Any:
    """The ``torch.export.ExportedProgram`` in a file.

    Args:
        path: the file.
        documents: names of documents that may lie in the file as well; those that do become the
            names' values.

    Raises:
        ModelError: the file is missing or holds no exported program.
        MissingExtraError: torch is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError("torch", "torch", "A PyTorch model") from error
    if not Path(path).is_file():
        raise ModelError(f"The model file {path} does not exist. Check the path.")
    try:
        return torch.export.load(str(path), extra_files=documents)
    except Exception as error:
        raise ModelError(
            f"PyTorch cannot load {Path(path).name}: {first_line(error)}. Save it again with "
            "torch.export.save, by the version of PyTorch that is installed here."
        ) from error


def input_hw(program: Any, dynamic_side: int) -> tuple[int, int]:
    """Height and width of the one image input; ``dynamic_side`` where a side is free.

    Raises:
        ModelError: the program has another input than one image ``(N, 3, H, W)``.
    """
    names = program.graph_signature.user_inputs
    shapes = [tuple(node.meta["val"].shape) for node in program.graph.nodes if node.name in names]
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][1] != 3:
        raise ModelError(
            f"The program takes {shapes}; one image (N, 3, H, W) was expected. Export the module "
            "with one example image."
        )
    height, width = (side if type(side) is int else dynamic_side for side in shapes[0][2:])
    return height, width


def tensors(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """``(N, 3, H, W)`` float32 of ``(N, H, W, 3)`` uint8 images, by ImageNet's statistics.

    Close to what nearly every model is fed, which is enough to compare two forms of one model.
    """
    mean = np.array([0.485, 0.456, 0.406], np.float32)
    std = np.array([0.229, 0.224, 0.225], np.float32)
    scaled = (images.astype(np.float32) / 255 - mean) / std
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def run_program(module: Any, tensor: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """All outputs of a module on one input ``(1, 3, H, W)``, in order."""
    import torch

    with torch.inference_mode():
        return flat(module(torch.from_numpy(tensor)))


def flat(outputs: Any) -> list[NDArray[np.float32]]:
    """A module's outputs, whatever they are nested in, as arrays."""
    return [leaf.detach().cpu().numpy() for leaf in leaves(outputs)]


def leaves(outputs: Any) -> list[Any]:
    """A module's output tensors, whatever they are nested in; floats as float32."""
    import torch
    from torch.utils import _pytree

    found = [leaf for leaf in _pytree.tree_leaves(outputs) if isinstance(leaf, torch.Tensor)]
    return [leaf.float() if leaf.is_floating_point() else leaf for leaf in found]


def looks_untrained(path: str | Path) -> bool:
    """Whether every batch normalization still has the statistics that it was made with.

    False for a program without any, of which this cannot be told.

    Raises:
        ModelError: the file holds no exported program.
    """
    return untouched(read_program(path).state_dict)


def untouched(state: Mapping[str, Any]) -> bool:
    """`looks_untrained` of a state dict."""
    means = [value for name, value in state.items() if name.endswith("running_mean")]
    return bool(means) and not any(bool(mean.any()) for mean in means)
