"""How far a student's answers and attention are from its teacher's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

TEMPERATURE = 2.0
# Sums of probabilities may be off by as much as float32 makes them.
SUM_TOLERANCE = 1e-3
EPSILON = 1e-8
# What a channel is taken to vary at least: a share of its mean square, and an absolute part.
FLAT_SHARE, FLAT = 0.01, 1e-4


@dataclass(frozen=True)
class AttentionPairs:
    """Names of layers whose feature maps are compared, one student's for one teacher's."""

    student: tuple[str, ...]
    teacher: tuple[str, ...]


def float_outputs(outputs: Any) -> list[Any]:
    """The outputs that a gradient can pass, in order, whatever they are nested in."""
    import torch
    from torch.utils import _pytree

    leaves = [leaf for leaf in _pytree.tree_leaves(outputs) if isinstance(leaf, torch.Tensor)]
    return [leaf for leaf in leaves if leaf.is_floating_point()]


def output_loss(student: Sequence[Any], teacher: Sequence[Any]) -> Any:
    """Mean distance of the answers: divergence of class scores, relative error of all else."""
    losses = [_one_output(s, t) for s, t in zip(student, teacher, strict=True)]
    return sum(losses) / len(losses)


def _one_output(student: Any, teacher: Any) -> Any:
    if teacher.ndim == 2 and teacher.shape[1] > 1:
        return _divergence(student, teacher)
    return _relative_error(student, teacher)


def _divergence(student: Any, teacher: Any) -> Any:
    """Kullback-Leibler divergence of class scores ``(N, C)``, logits or probabilities."""
    from torch.nn import functional

    said = functional.log_softmax(_logits(student) / TEMPERATURE, dim=1)
    wanted = functional.log_softmax(_logits(teacher) / TEMPERATURE, dim=1)
    loss = functional.kl_div(said, wanted, reduction="batchmean", log_target=True)
    return loss * TEMPERATURE**2


def _logits(scores: Any) -> Any:
    """Scores as logits: probabilities give them up to a constant, which softmax ignores."""
    probabilities = bool(
        (scores.detach() >= 0).all()
        and ((scores.detach().sum(dim=1) - 1).abs() <= SUM_TOLERANCE).all()
    )
    return (scores + EPSILON).log() if probabilities else scores


def _relative_error(student: Any, teacher: Any) -> Any:
    """Squared error over variance, channel by channel.

    An output may hold pixels and scores side by side, whose errors are of other sizes. The
    shortest axis after the first is taken for the channels, because cells outnumber them.
    """
    if teacher.ndim < 2:
        return (student - teacher).square().mean() / (teacher.square().mean() + EPSILON)
    sides = teacher.shape[1:]
    axis = 1 + min(range(len(sides)), key=lambda index: sides[index])
    others = [index for index in range(teacher.ndim) if index != axis]
    error = (student - teacher).square().mean(dim=others)
    spread = teacher.var(dim=others, unbiased=False)
    # A channel that hardly varies must not drown the others.
    floor = FLAT_SHARE * teacher.square().mean(dim=others) + FLAT
    return (error / (spread + floor)).mean()


def label_loss(scores: Any, labels: Any) -> Any:
    """Cross entropy of class scores ``(N, C)`` where the label is known (not -1), else zero."""
    from torch.nn import functional

    known = labels >= 0
    if scores.ndim != 2 or not bool(known.any()):
        return scores.new_zeros(())
    return functional.cross_entropy(_logits(scores)[known], labels[known])


def attention_pairs(student: Any, teacher: Any, example: Any) -> AttentionPairs:
    """For every resolution that both have, the last layer of each that works at it."""
    mine, theirs = _last_by_resolution(student, example), _last_by_resolution(teacher, example)
    common = [hw for hw in theirs if hw in mine]
    return AttentionPairs(tuple(mine[hw] for hw in common), tuple(theirs[hw] for hw in common))


def _last_by_resolution(module: Any, example: Any) -> dict[tuple[int, int], str]:
    import torch

    names = tuple(name for name, child in module.named_modules() if not list(child.children()))
    # Not in inference mode: what a module keeps for later passes could not be learnt with.
    with torch.no_grad(), recorded(module, names) as maps:
        module(example)
    found = {}
    for name, value in maps.items():
        if isinstance(value, torch.Tensor) and value.ndim == 4 and value.shape[-1] > 1:
            found[(value.shape[-2], value.shape[-1])] = name
    return found


@contextlib.contextmanager
def recorded(module: Any, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """What layers answered inside the ``with``, by name, in the order of execution."""
    values: dict[str, Any] = {}

    def hook(name: str) -> Any:
        def keep(_layer: Any, _inputs: Any, output: Any) -> None:
            # Activations are often applied in place, to the very tensor that was answered.
            values[name] = output.clone() if hasattr(output, "clone") else output

        return keep

    handles = [module.get_submodule(name).register_forward_hook(hook(name)) for name in names]
    try:
        yield values
    finally:
        for handle in handles:
            handle.remove()


def attention_loss(
    pairs: AttentionPairs, student: Mapping[str, Any], teacher: Mapping[str, Any]
) -> Any:
    """Mean squared distance of normalized attention maps, pair by pair; 0 where there are none.

    Args:
        pairs: which layer goes with which.
        student: feature maps ``(N, C, H, W)`` by name of the layer, from `recorded`.
        teacher: the same of the teacher; ``C`` may differ.
    """
    losses = [
        (_attention(student[mine]) - _attention(teacher[theirs])).square().sum(dim=1).mean()
        for mine, theirs in zip(pairs.student, pairs.teacher, strict=True)
    ]
    return sum(losses) / len(losses) if losses else 0.0


def _attention(maps: Any) -> Any:
    """``(N, H * W)`` of unit length: where channels are active, however many there are."""
    from torch.nn import functional

    # Squares of activations are soon more than fp16 can hold.
    return functional.normalize(maps.float().square().mean(dim=1).flatten(1), dim=1)
