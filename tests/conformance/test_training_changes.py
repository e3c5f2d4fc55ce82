"""Every training change of the table keeps the contract, alone and on top of every other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from saccade import plugins
from saccade.testing.training_change_conformance import (
    CHECKS,
    Check,
    applying,
    example_contexts,
    works_on_top,
)
from saccade.train import batch_probe
from saccade.train.change import Prediction, TrainingChange, TrainingContext

NAMES = plugins.names("training_changes")
# Packages without which a change applies nowhere.
NEEDS = {"dali": "nvidia.dali"}


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> list[TrainingContext]:
    return list(example_contexts(tmp_path_factory.mktemp("training")))


@pytest.fixture(autouse=True)
def roomy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every batch fits; whether one does is tried in a worker process, which takes seconds."""
    monkeypatch.setattr(batch_probe, "fits_in_memory", lambda config, limit_mb=None: True)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_the_contract_is_kept(name: str, check: Check, contexts: list[TrainingContext]) -> None:
    kind = plugins.load("training_changes", name)
    for context in contexts:
        check(kind, context)


@pytest.mark.parametrize("name", NAMES)
def test_it_works_on_top_of_every_other(name: str, contexts: list[TrainingContext]) -> None:
    kind = plugins.load("training_changes", name)
    for other in NAMES:
        if other == name:
            continue
        for context in contexts:
            works_on_top(kind, plugins.load("training_changes", other), context)


@pytest.mark.parametrize("name", NAMES)
def test_every_change_applies_somewhere(name: str, contexts: list[TrainingContext]) -> None:
    """Else the suite would pass without having tried it."""
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    kind = plugins.load("training_changes", name)
    assert any(applying(kind, context) for context in contexts)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_suite_notices_a_broken_change(check: Check, tmp_path: Path) -> None:
    context = next(example_contexts(tmp_path))
    Broken.asked.clear()
    with pytest.raises(AssertionError):
        check(Broken, context)


def test_the_suite_notices_an_order_that_matters(tmp_path: Path) -> None:
    context = next(example_contexts(tmp_path))
    channels_last: type[TrainingChange] = plugins.load("training_changes", "channels_last")
    with pytest.raises(AssertionError, match="the other order"):
        works_on_top(Moody, channels_last, context)


@dataclass(frozen=False, eq=False)
class Broken:
    """Breaks every rule at once."""

    name: ClassVar[str] = "broken"
    part: ClassVar[Any] = "everything"
    effect: Any = "harmless"
    label: str = "same label"

    @classmethod
    def variants(cls, context: TrainingContext) -> list[Any]:
        return [cls(), cls()]

    asked: ClassVar[list[int]] = []

    def applies(self, context: TrainingContext) -> str | None:
        self.asked.append(1)
        return None if len(self.asked) % 2 else ""

    def predict(self, context: TrainingContext) -> Prediction:
        context.profile.block.part_s["data"] = ()  # type: ignore[index]
        return Prediction(3.0, 2.0, "")

    def apply(self, context: TrainingContext) -> Any:
        self.asked.append(1)
        return context.config.with_batch(size=context.config.batch.size + len(self.asked))


@dataclass(frozen=True)
class Moody:
    """Takes another number of threads where channels are last."""

    name: ClassVar[str] = "moody"
    part: ClassVar[Any] = "compute"
    effect: Any = "exact"
    label: str = "moody"

    @classmethod
    def variants(cls, context: TrainingContext) -> list[Any]:
        return [cls()]

    def applies(self, context: TrainingContext) -> str | None:
        return None if context.config.compute.threads is None else "done"

    def predict(self, context: TrainingContext) -> Prediction:
        return Prediction(1.0, 1.0, "nothing")

    def apply(self, context: TrainingContext) -> Any:
        layout = context.config.compute.channels_last
        return context.config.with_compute(threads=1 if layout else 2)
