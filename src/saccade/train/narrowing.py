"""Takes channels out of a module that will be trained, wherever they pass through.

The counterpart of `saccade.optimize.channels`, which works on exported graphs: here the module
stays what the job made, so that its own code still runs. Which layers shrink together is found by
Torch-Pruning's dependency graph (Fang et al., "DepGraph", CVPR 2023).
"""

from __future__ import annotations

import warnings
from typing import Any, Literal

from saccade.errors import MissingExtraError, SpecError, first_line

Choice = Literal["random", "magnitude"]


def narrow(
    model: Any, example: Any, share: float, multiple: int, choice: Choice = "random"
) -> None:
    """Take about ``share`` of every layer's channels out, in place; answers keep their shape.

    Args:
        model: an ``nn.Module``.
        example: its input.
        share: of the channels, 0-1.
        multiple: channel counts become multiples of it.
        choice: which channels go: any, or those whose weights have the smallest L2 norm.

    Raises:
        SpecError: no layer can lose channels, or the model does not run without them.
        MissingExtraError: torch-pruning is not installed.
    """
    try:
        import torch_pruning
    except ImportError as error:
        raise MissingExtraError("torch-pruning", "prune", "A narrower model") from error
    importance = torch_pruning.importance
    chosen = {
        "random": importance.RandomImportance,
        "magnitude": importance.GroupMagnitudeImportance,
    }
    before, shapes = _count(model), _shapes(model, example)
    was_training = model.training
    model.eval()  # statistics of batch normalization are not to be collected meanwhile
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about parameters that it leaves alone
            pruner = torch_pruning.pruner.BasePruner(
                model,
                example,
                importance=chosen[choice](),
                pruning_ratio=share,
                ignored_layers=answering_layers(model, example),
                round_to=multiple,
                # Its defaults are shared between all pruners of a process.
                in_channel_groups={},
                out_channel_groups={},
            )
            pruner.step()
        found = _shapes(model, example)
    except Exception as error:
        raise SpecError(
            f"The model does not run with fewer channels: {first_line(error)}. It probably "
            "computes with channel counts; make it narrower by hand."
        ) from error
    model.train(was_training)
    if found != shapes:
        raise SpecError(f"With fewer channels the model answers {found} instead of {shapes}.")
    if _count(model) == before:
        raise SpecError(
            f"No layer can lose {share:.0%} of its channels and keep a multiple of {multiple}."
        )


def answering_layers(model: Any, example: Any) -> list[Any]:
    """Layers whose outputs reach the answer without passing another layer with weights."""
    import torch
    from torch.utils import _pytree

    owners = {
        id(parameter): module
        for module in model.modules()
        for parameter in module.parameters(recurse=False)
        if parameter.dim() > 1
    }
    with torch.enable_grad():
        outputs = [o for o in _pytree.tree_leaves(model(example)) if isinstance(o, torch.Tensor)]
    queue = [output.grad_fn for output in outputs if output.grad_fn is not None]
    seen, found = set(queue), []
    while queue:
        inputs = [node for node, _ in queue.pop().next_functions if node is not None]
        here = [owners[id(w)] for node in inputs if (w := _weight_of(node, owners)) is not None]
        found += here
        if not here:
            fresh = [node for node in inputs if node not in seen]
            seen.update(fresh)
            queue += fresh
    return found


def _weight_of(node: Any, owners: dict[int, Any]) -> Any:
    """The weight that a node of the gradient's graph reads, itself or by its transpose."""
    for candidate in (node, *(inner for inner, _ in node.next_functions)):
        variable = getattr(candidate, "variable", None)
        is_turned = candidate is node or type(node).__name__ in ("TBackward0", "TransposeBackward0")
        if variable is not None and is_turned and id(variable) in owners:
            return variable
    return None


def _count(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _shapes(model: Any, example: Any) -> list[tuple[int, ...]]:
    import torch
    from torch.utils import _pytree

    was_training = model.training
    model.eval()
    with torch.inference_mode():
        outputs = _pytree.tree_leaves(model(example))
    model.train(was_training)
    return [tuple(output.shape) for output in outputs if isinstance(output, torch.Tensor)]
