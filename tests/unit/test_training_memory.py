"""Goals on a training's memory: what is made for them, what is given up, and what it may cost."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from rich.console import Console
from training_stand_ins import BASELINE, FakeRunner, SpeedOf, Turn, context_of

from saccade import plugins
from saccade.errors import GoalError, RuntimeFailure
from saccade.goals import TRAINING_METRICS, Goal, parse_goal
from saccade.optimize.metrics import Estimate
from saccade.optimize.training.memory_goals import why_worth_it
from saccade.optimize.training.memory_search import FEWER, MORE, MemorySearch
from saccade.optimize.training.ring import Ring
from saccade.optimize.training.search import Found, Kept, Saved
from saccade.optimize.training.sets import Option
from saccade.optimize.training.trial_log import TrialLog
from saccade.playbook.training.prepare import _check_goals
from saccade.playbook.training.steps import training_metrics
from saccade.prediction import Prediction
from saccade.progress import SilentProgress
from saccade.report.training.console import training_summary
from saccade.study import RunFolder, Trial
from saccade.train.change import TrainingContext
from saccade.train.changes.accumulate import Accumulate
from saccade.train.changes.activation_checkpointing import ActivationCheckpointing
from saccade.train.changes.workers import LoaderWorkers
from saccade.train.config import TrainingConfig
from saccade.train.profile import ModelFacts
from saccade.train.records import TrainingBlock

SAMPLES, PEAK_MB = 100, 1000.0


@dataclass(frozen=True)
class Saver(Turn):
    """Sets a field of the compute settings, for less memory."""

    shrink: float = 0.7

    def predict(self, context: TrainingContext) -> Prediction:
        return Prediction(self.gain, 1.0, "made up", shrinks={"peak_rss_mb": self.shrink})


AGAIN = Saver("checkpointing", "checkpointing", True, gain=0.75, shrink=0.7)
ROUNDED = Saver("bf16", "precision", "bf16", gain=0.9, shrink=0.9)
KEEP = Saver("keep_memory", "allocator", "kept", gain=1.3, shrink=1.2)


def peak_mb(config: TrainingConfig) -> float:
    found = PEAK_MB - 300 * config.compute.checkpointing
    return (
        found
        - 80 * (config.compute.precision == "bf16")
        + 200 * (config.compute.allocator == "kept")
    )


def speed(config: TrainingConfig) -> float:
    """Samples per second: what saves memory costs time."""
    found = 2.0 * (0.75 if config.compute.checkpointing else 1.0)
    found *= 0.9 if config.compute.precision == "bf16" else 1.0
    return found * (1.3 if config.compute.allocator == "kept" else 1.0)


class Remembering(FakeRunner):
    """A made-up training that needs memory."""

    def __init__(self, config: TrainingConfig, speed_of: SpeedOf) -> None:
        super().__init__(config, speed_of)
        self._peak = peak_mb(config)

    def block(self, steps: int) -> TrainingBlock:
        return replace(super().block(steps), peak_rss_mb=self._peak)


def search(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    goals: list[str],
    *table: Turn,
    kept: tuple[Turn, ...] = (),
    speed_of: Callable[[TrainingConfig], float] = speed,
    time_left: Callable[[], float] = lambda: 1e6,
) -> tuple[Found, list[Trial]]:
    asked = tuple(parse_goal(text, TRAINING_METRICS) for text in goals)
    monkeypatch.setattr(plugins, "names", lambda kind: [change.name for change in table])
    by_name = {change.name: change for change in table}
    monkeypatch.setattr(plugins, "load", lambda kind, name: Variants(by_name[name]))
    memory = tuple(goal for goal in asked if goal.metric == "peak_rss_mb")
    context = replace(context_of(), memory_goals=memory)
    config, items = BASELINE, []
    for place, change in enumerate(kept):
        config = change.apply(replace(context, config=config))
        items.append(Kept(Option(change, change.predict(context), place), None, None))  # type: ignore[arg-type]
    log = TrialLog(RunFolder(folder), SilentProgress(), "machine")
    found = MemorySearch(
        context,
        Found(config, tuple(items), ()),
        asked,
        lambda blocks: training_metrics(blocks, SAMPLES, 1),
        Ring(
            log,
            folder,
            0.02,
            time_left,
            lambda config, timed, where: Remembering(config, speed_of),  # type: ignore[return-value, arg-type]
        ),
        SilentProgress(),
    ).run()
    return found, log.trials


@dataclass(frozen=True)
class Variants:
    """A change of the table with one variant."""

    only: Turn

    def variants(self, context: TrainingContext) -> list[Turn]:
        return [self.only]


def labels(found: Found) -> list[str]:
    return [kept.option.label for kept in found.kept]


def test_what_meets_the_goal_at_the_least_cost_is_made_and_says_what_it_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, trials = search(tmp_path, monkeypatch, ["peak_rss_mb<=950"], AGAIN, ROUNDED)
    assert labels(found) == ["bf16"] and found.config.compute.precision == "bf16"
    assert found.kept[0].saved == Saved("peak_rss_mb", 1000.0, 920.0)
    marginal = found.kept[0].marginal
    assert marginal is not None and marginal.value == pytest.approx(0.9, rel=0.02)
    (trial,) = trials
    assert (trial.kept, trial.verdict, trial.details["how"]) == (True, "better", MORE)
    assert "1000 to 920 MB meets the goal" in trial.reason


def test_changes_add_up_until_the_goal_is_met(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, _ = search(tmp_path, monkeypatch, ["peak_rss_mb<=640"], ROUNDED, AGAIN)
    assert labels(found) == ["checkpointing", "bf16"]
    again, rounded = (kept.saved for kept in found.kept)
    assert again is not None and again.after_mb == 700.0
    assert rounded == Saved("peak_rss_mb", 700.0, 620.0)


def test_what_was_kept_for_speed_is_given_up_for_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, trials = search(tmp_path, monkeypatch, ["peak_rss_mb<=1050"], AGAIN, KEEP, kept=(KEEP,))
    assert labels(found) == [] and found.config.hash == BASELINE.hash
    (trial,) = [t for t in trials if t.kept]
    assert (trial.change, trial.details["how"]) == ("without keep_memory", FEWER)


def test_no_goal_of_time_that_is_met_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goals = ["peak_rss_mb<=750", "epoch_s<=60"]  # 50 s now, 67 s with checkpointing
    found, trials = search(tmp_path, monkeypatch, goals, AGAIN, ROUNDED)
    assert labels(found) == ["bf16"]
    (refused,) = [t for t in trials if not t.kept]
    assert refused.change == "checkpointing" and "loses the goal epoch_s<=60" in refused.reason


def test_nothing_is_tried_where_the_goal_is_met(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, trials = search(tmp_path, monkeypatch, ["peak_rss_mb<=2000"], AGAIN, ROUNDED)
    assert not trials and found.config.hash == BASELINE.hash


def test_one_move_is_tried_where_measuring_the_start_took_all_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = iter([30.0])
    found, trials = search(
        tmp_path, monkeypatch, ["peak_rss_mb<=640"], AGAIN, ROUNDED,
        time_left=lambda: next(left, 0.0),
    )  # fmt: skip
    assert labels(found) == ["checkpointing"] and len(trials) == 1


def test_what_saves_nothing_when_measured_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hoped = Saver("fused_optimizer", "fused_optimizer", True, gain=1.0, shrink=0.5)
    found, trials = search(tmp_path, monkeypatch, ["peak_rss_mb<=900"], hoped)
    assert labels(found) == [] and "saves less than 3%" in trials[0].reason


def test_a_saver_that_fails_is_on_record_and_others_are_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(config: TrainingConfig) -> float:
        if config.compute.checkpointing:
            raise RuntimeFailure("no blocks")
        return speed(config)

    found, trials = search(
        tmp_path, monkeypatch, ["peak_rss_mb<=650"], AGAIN, ROUNDED, speed_of=failing
    )
    assert labels(found) == ["bf16"] and trials[0].verdict == "failed"


def test_an_interrupted_search_for_memory_measures_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goals = ["peak_rss_mb<=640"]
    first, trials = search(tmp_path, monkeypatch, goals, ROUNDED, AGAIN)
    FakeRunner.opened.clear()
    again, repeated = search(tmp_path, monkeypatch, goals, ROUNDED, AGAIN)
    assert again.kept == first.kept and len(repeated) == len(trials)
    assert set(FakeRunner.opened) == {BASELINE.hash}


def test_much_slower_for_a_goal_that_is_still_missed_is_not_worth_it() -> None:
    goal = Goal("peak_rss_mb", "<=", 500.0)
    before = {"peak_rss_mb": Estimate(1000.0)}
    closer, enough = {"peak_rss_mb": Estimate(800.0)}, {"peak_rss_mb": Estimate(400.0)}
    assert why_worth_it(goal, [goal], before, closer, 0.6)[0]
    assert not why_worth_it(goal, [goal], before, closer, 0.4)[0]
    assert why_worth_it(goal, [goal], before, enough, 0.4)[0]


def test_changes_offer_less_memory_only_where_a_goal_asks_for_it() -> None:
    plain = context_of(BASELINE.with_loader(workers=4).with_batch(size=8))
    plain = replace(plain, profile=replace(plain.profile, model=ModelFacts(blocks=3)))
    asked = replace(plain, memory_goals=(Goal("peak_rss_mb", "<=", 400.0),))
    met = replace(plain, memory_goals=(Goal("peak_rss_mb", "<=", 600.0),))
    recomputing = ActivationCheckpointing()
    assert recomputing.applies(asked) is None
    assert recomputing.applies(plain) and recomputing.applies(met)
    assert recomputing.predict(asked).shrinks["peak_rss_mb"] < 1
    assert [c.size for c in Accumulate.variants(plain)] == [4, 2]
    assert [c.size for c in Accumulate.variants(asked)] == [4, 2, 1]
    assert LoaderWorkers(0) in LoaderWorkers.variants(asked)
    assert LoaderWorkers(0) not in LoaderWorkers.variants(met)
    none = LoaderWorkers(0).apply(asked).loader
    assert (none.workers, none.persistent) == (0, False)


def test_a_goal_on_a_gpu_is_refused_where_there_is_none() -> None:
    goals = (parse_goal("peak_device_mb<=8000", TRAINING_METRICS),)
    _check_goals(goals, False, "cuda:1")
    with pytest.raises(GoalError, match="ask for peak_rss_mb"):
        _check_goals(goals, False, "cpu")


def test_the_peak_of_a_step_counts_and_not_what_is_left_after_it() -> None:
    program = (
        "from saccade.train.machine import process_tree_peak_mb as peak\n"
        "before = peak()\n"
        "held = bytearray(300_000_000); held[::4096] = b'x' * len(held[::4096]); del held\n"
        "print(peak() - before)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert float(done.stdout) > 250, done.stderr


def test_the_report_says_what_was_saved_and_what_it_cost() -> None:
    row = {
        "change": "activation_checkpointing",
        "part": "compute",
        "achieved_gain": 0.75,
        "achieved_interval": [0.74, 0.76],
        "memory": {"metric": "peak_rss_mb", "before_mb": 2209.0, "after_mb": 1716.0},
    }
    result = {
        "kind": "training",
        "status": "met",
        "goals": [
            {"metric": "peak_rss_mb", "op": "<=", "bound": 2000, "name": "peak_rss_mb<=2000"}
        ],
        "baseline": {"metrics": {"samples_per_s": 4.0, "peak_rss_mb": 2209.0}},
        "best": {
            "metrics": {"samples_per_s": 3.0, "peak_rss_mb": 1716.0},
            "speedup": {"value": 0.75, "interval": [0.74, 0.76]},
        },
        "kept": [row, {**row, "change": "fused_optimizer", "memory": None}],
    }
    console = Console(width=160, record=True, file=io.StringIO())
    training_summary(result, console)
    printed = console.export_text()
    assert "2209to1716MB" in "".join(printed.split())
    assert "Peak memory is" in printed and "0.75" in printed
