"""Recipes: from a training job to a job that fine-tunes a smaller or quantized model of it.

They run through the same loop as every job. A recipe is written ``name`` or ``name=argument``,
several are joined by `` + ``; they are made in the order of the table in `saccade.plugins`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

from saccade import plugins
from saccade.errors import SpecError
from saccade.suggest import did_you_mean
from saccade.train.job import TrainingJob

JOINED = " + "


class Recipe(Protocol):
    """A kind of recipe.

    Attributes:
        usage: how it is written, for messages.
    """

    usage: ClassVar[str]

    @staticmethod
    def apply(job: TrainingJob, original: TrainingJob, argument: str) -> TrainingJob:
        """The job as this recipe has it.

        Args:
            job: with the recipes that come before; its model begins with trained weights.
            original: without any.
            argument: what stands behind ``=``, or nothing.

        Raises:
            SpecError: the argument is none of this recipe's.
        """
        ...


def joined(recipes: Sequence[str] | None) -> str | None:
    """Several recipes in one text, as a job's settings hold them; None for none.

    Raises:
        SpecError: one of them is no recipe.
    """
    if not recipes:
        return None
    parse_recipes(recipes)
    return JOINED.join(recipes)


def parse_recipes(texts: str | Sequence[str]) -> dict[str, str]:
    """Name of a recipe → its argument.

    Raises:
        SpecError: there is no such recipe, or one is asked for twice.
    """
    parts = texts.split(JOINED) if isinstance(texts, str) else list(texts)
    found: dict[str, str] = {}
    for part in parts:
        name, _, argument = part.strip().partition("=")
        if name not in plugins.names("recipes"):
            names = plugins.names("recipes")
            known = "; ".join(plugins.load("recipes", known).usage for known in names)
            hint = did_you_mean(name, names)
            raise SpecError(f"There is no recipe '{name}'. {hint}Expected one of: {known}.")
        if name in found:
            raise SpecError(f"The recipe '{name}' is asked for twice. Keep one.")
        found[name] = argument
    return found


def with_recipes(job: TrainingJob, text: str, *, trained: bool) -> TrainingJob:
    """The job with every recipe in ``text``.

    Args:
        job: the user's.
        text: recipes, joined.
        trained: whether its model begins with weights that were given.

    Raises:
        SpecError: a recipe is not one, or there are no weights to begin with.
    """
    asked = parse_recipes(text)
    if not trained:
        raise SpecError(
            f"'{text}' begins with a trained model. Give its state dict with --weights, such as "
            "the model.pt of an earlier `saccade train run`."
        )
    made = job
    for name in plugins.names("recipes"):
        if name in asked:
            made = plugins.load("recipes", name).apply(made, job, asked[name])
    return made
