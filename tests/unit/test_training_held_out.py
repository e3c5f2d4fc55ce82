"""How much of the held-out data is judged, so that judging keeps to its time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_training import Pictures, tiny_config, tiny_job
from training_stand_ins import block_of

from saccade.optimize.training import runner
from saccade.optimize.training.held_out import HeldOut, held_out_within
from saccade.optimize.training.runner import STEP_TIMEOUT_S, TrainingRunner
from saccade.playbook.training.steps import JUDGING_SHARE, curve_plan
from saccade.train.evaluating import evaluate
from saccade.train.loop import TrainingLoop

BATCH = 8


def judging(count: int, fixed_s: float, each_s: float, tried: list[int]) -> Any:
    def judge(samples: int) -> tuple[int, float]:
        judged = min(samples, count)
        tried.append(judged)
        return judged, fixed_s + each_s * judged

    return judge


def test_as_much_is_judged_as_the_time_allows() -> None:
    tried: list[int] = []
    found = held_out_within(10.0, BATCH, judging(50_000, 1.0, 0.02, tried))
    assert found.seconds == 10.0 and found.samples == pytest.approx(450, abs=1)
    assert sum(1.0 + 0.02 * samples for samples in tried) < 10.0
    assert held_out_within(10.0, BATCH, judging(300, 1.0, 0.02, [])).samples is not None
    assert held_out_within(10.0, BATCH, judging(300, 0.1, 0.001, [])).samples is None
    assert held_out_within(10.0, BATCH, judging(5, 0.1, 0.02, [])).samples is None
    assert held_out_within(10.0, BATCH, judging(300, 0.1, 5.0, [])).samples == BATCH


def test_a_part_is_judged_on_the_same_samples_by_every_training() -> None:
    class Noted(Pictures):
        def __init__(self, split: str) -> None:
            super().__init__(split)
            self.count = 60

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            seen.append(index)
            return super().__getitem__(index)

    sets = []
    for config in (tiny_config(), tiny_config(seed=3).with_batch(size=7)):
        seen: list[int] = []
        loop = TrainingLoop(tiny_job(dataset=Noted), config)
        assert evaluate(loop, 20).samples == 20
        sets.append(seen)
    assert sets[0] == sets[1] and len(sets[0]) == 20


def test_judging_is_a_part_of_the_curves_time() -> None:
    steps, judging_s = curve_plan(1.0, 3, 130.0)
    assert 3 * (steps * 1.0 + judging_s) == pytest.approx(130, abs=3)
    assert curve_plan(1.0, 3, 130.0, 500) == (500, JUDGING_SHARE * 500)


def test_a_long_curve_has_time_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    allowed: dict[str, float] = {}

    class Waiting:
        def call(self, method: str, *arguments: Any, timeout_s: float = 0.0) -> Any:
            allowed[method] = timeout_s
            return block_of(4.0, 1)  # 2 s

    monkeypatch.setattr(runner, "_opened", lambda *arguments: Waiting())
    TrainingRunner(tiny_config()).curve(0, 1000, HeldOut(100.0, 40), 5)
    assert allowed["curve"] > STEP_TIMEOUT_S + 1000 * 2.0 + 5 * 100.0
