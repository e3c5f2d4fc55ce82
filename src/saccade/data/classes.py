"""Class ids of the labels against class ids of the model. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saccade.data.contract import DataProblem
from saccade.errors import DataError

UNKNOWN_CLASS = -1


@dataclass(frozen=True)
class ClassMap:
    """How class ids of the labels become class ids of the model.

    Attributes:
        lookup: ``(K,)`` int64, the model's id per id of the labels, -1 where it has none;
            None where ids stay as they are.
        names: one per class after mapping, empty where unknown.
        problems: classes that differ.
    """

    lookup: NDArray[np.int64] | None
    names: tuple[str, ...]
    problems: tuple[DataProblem, ...] = ()

    def __call__(self, class_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Map ``(N,)`` ids; -1 marks boxes of classes the model does not know."""
        return class_ids if self.lookup is None else self.lookup[class_ids]


def match_classes(labels: Sequence[str], model: Sequence[str] | None, source: str) -> ClassMap:
    """Match the class names of the labels with those of the model.

    Ids are left alone where the lists agree, or differ only by names at the same position
    (``motorbike`` for ``motorcycle``). Otherwise classes are matched by name, and those that
    the model does not know are left out and reported.

    Args:
        labels: class names of the labels, in order of their ids; empty where unknown.
        model: class names of the model; None or empty where unknown.
        source: the file the names of the labels are from.

    Raises:
        DataError: the lists differ in length and have no name in common.
    """
    if not model or not labels:
        return ClassMap(None, tuple(labels) or tuple(model or ()))
    known: dict[str, int] = {}
    for index, name in enumerate(model):
        known.setdefault(_normalized(name), index)
    ids = [known.get(_normalized(name), UNKNOWN_CLASS) for name in labels]
    if len(labels) == len(model) and all(i in (k, UNKNOWN_CLASS) for k, i in enumerate(ids)):
        return ClassMap(None, tuple(model), _renamed(labels, model, ids, source))
    if all(i == UNKNOWN_CLASS for i in ids):
        raise DataError(
            f"None of the {len(labels)} classes in {source} ({_some(labels)}) is among the "
            f"{len(model)} classes of the model ({_some(model)}). "
            "Use labels of the classes that the model detects."
        )
    problems = tuple(
        DataProblem("unknown_class", source, f"the model has no class '{name}'", "skipped")
        for name, i in zip(labels, ids, strict=True)
        if i == UNKNOWN_CLASS
    )
    return ClassMap(np.array(ids, np.int64), tuple(model), problems)


def _renamed(
    labels: Sequence[str], model: Sequence[str], ids: Sequence[int], source: str
) -> tuple[DataProblem, ...]:
    return tuple(
        DataProblem(
            "class_names_differ",
            source,
            f"class {k} is '{labels[k]}' in the labels and '{model[k]}' in the model",
            "kept",
        )
        for k, i in enumerate(ids)
        if i == UNKNOWN_CLASS
    )


def _normalized(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
