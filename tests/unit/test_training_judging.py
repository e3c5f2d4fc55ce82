"""The last judgement of a training: what stays, what is taken back, and what is not shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from training_stand_ins import BASELINE, Turn, block_of, context_of

from saccade.environment import detect
from saccade.errors import RuntimeFailure
from saccade.goals import TRAINING_METRICS, Goal, parse_goal
from saccade.optimize.training.held_out import HeldOut
from saccade.optimize.training.search import Found, Kept
from saccade.optimize.training.sets import Option
from saccade.playbook.training import final
from saccade.playbook.training.final import Judged, judge_and_mend
from saccade.playbook.training.learning import METRIC_TOLERANCE, checks_of, metric_tolerance
from saccade.playbook.training.prepare import TrainingTask
from saccade.playbook.training.result import TrainingStory, result_document
from saccade.playbook.training.steps import Curves, equal_steps
from saccade.progress import SilentProgress
from saccade.report.training.page import render_training
from saccade.train.change import TrainingContext
from saccade.train.config import TrainingConfig
from saccade.train.records import Evaluation, LossCurve
from saccade.train.spec import make_training_spec
from saccade.validate.loss_drift import drift

STEPS = 20
SEEDS = (0, 1, 2)
HELD_OUT = HeldOut(2.0, 40)


@dataclass(frozen=True)
class Learning:
    """How a made-up training learns: factors on the baseline's loss, and drops of its metric.

    Each has one value per seed.
    """

    loss: tuple[float, ...] = (1.0, 1.0, 1.0)
    held_out: tuple[float, ...] = (1.0, 1.0, 1.0)
    drop: tuple[float, ...] = (0.0, 0.0, 0.0)


SAME = Learning()
WORSE = Learning(loss=(1.1, 1.11, 1.09))
LearnsOf = Callable[[TrainingConfig], Learning]


def curve(config: TrainingConfig, seed: int, steps: int, learns: Learning) -> LossCurve:
    """Falls with the samples, however many make a step."""
    each = config.batch.effective * config.scale.world
    losses = [learns.loss[seed] * (2.0 - 0.005 * each * (i + 0.5)) for i in range(steps)]
    judged = Evaluation(1.2 * learns.held_out[seed], 0.6 - learns.drop[seed], 40)
    return LossCurve(seed, tuple(losses), judged, block_of(2.0, steps, each))


def curves(config: TrainingConfig, steps: int = STEPS, learns: Learning = SAME) -> Curves:
    return Curves(
        config,
        tuple(curve(config, seed, steps, learns) for seed in SEEDS),
        {"samples": 110, "parameters": 10**6},
        HELD_OUT,
    )


def task(tmp_path: Path, *goals: str, has_metric: bool = True) -> TrainingTask:
    parsed = tuple(parse_goal(goal, TRAINING_METRICS) for goal in goals)
    spec = make_training_spec({"job": "job.py", "goals": list(goals)})
    guard = next((g for g in parsed if g.metric == "loss_drift"), Goal("loss_drift", "<=", 0.02))
    return TrainingTask(spec, BASELINE, 5, has_metric, parsed, guard, detect(), tmp_path)


@dataclass(frozen=True)
class Load(Turn):
    """A change of the loader; without workers nothing can be kept alive."""

    def applies(self, context: TrainingContext) -> str | None:
        if self.field == "persistent" and not context.config.loader.workers:
            return "there are no workers"
        return None

    def apply(self, context: TrainingContext) -> TrainingConfig:
        return context.config.with_loader(**{self.field: self.value})


@dataclass(frozen=True)
class Larger(Turn):
    """A larger batch."""

    def applies(self, context: TrainingContext) -> str | None:
        return None

    def apply(self, context: TrainingContext) -> TrainingConfig:
        return context.config.with_batch(size=self.value)


@dataclass(frozen=True)
class OtherModel(Turn):
    """Another architecture."""

    def applies(self, context: TrainingContext) -> str | None:
        return None

    def apply(self, context: TrainingContext) -> TrainingConfig:
        return replace(context.config, model_change=self.value)


BF16 = Turn("bf16", "precision", "bf16")
WORKERS = Load("workers", "workers", 2, effect="exact", part="data")
PERSISTENT = Load("persistent", "persistent", True, effect="exact", part="data")
NARROWER = OtherModel("narrower", "model", "narrower", effect="lossy", part="model")


def found(*changes: Turn) -> Found:
    context, kept = context_of(), []
    config = context.config
    for order, change in enumerate(changes):
        option = Option(change, change.predict(context), order)  # type: ignore[arg-type]
        kept.append(Kept(option, None, None))
        config = change.apply(replace(context, config=config))
    return Found(config, tuple(kept), ())


@dataclass
class Outcome:
    judged: Judged
    trained: list[tuple[TrainingConfig, int]]
    story: TrainingStory

    @property
    def kept(self) -> list[str]:
        return [k.option.label for k in self.judged.kept]

    @property
    def back(self) -> dict[str, tuple[str, str]]:
        return {t.label: (t.verdict, t.reason) for t in self.judged.taken_back}

    @property
    def document(self) -> dict[str, Any]:
        return result_document(self.story)


@pytest.fixture
def judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    def judging(
        learns_of: LearnsOf,
        *changes: Turn,
        asked: TrainingTask | None = None,
        seconds: float = 1e6,
        steps: int = STEPS,
    ) -> Outcome:
        trained: list[tuple[TrainingConfig, int]] = []

        def train(
            config: TrainingConfig,
            seeds: Sequence[int],
            count: int,
            folder: Path,
            held_out: HeldOut,
        ) -> Curves:
            assert (tuple(seeds), held_out) == (SEEDS, HELD_OUT)
            trained.append((config, count))
            return curves(config, count, learns_of(config))

        monkeypatch.setattr(final, "train_curves", train)
        wanted = asked or task(tmp_path)
        baseline = curves(BASELINE, steps)
        judged = judge_and_mend(
            wanted,
            context_of(),
            found(*changes),
            baseline,
            steps,
            tmp_path,
            SilentProgress(),
            lambda: seconds,
        )
        story = TrainingStory(wanted, 0.02, None, (), baseline, (), found(*changes), judged)
        return Outcome(judged, trained, story)

    return judging


Judge = Callable[..., Outcome]


def test_what_learns_the_same_stays(judge: Judge) -> None:
    outcome = judge(lambda config: SAME, WORKERS, PERSISTENT, BF16)
    assert outcome.kept == ["workers", "persistent", "bf16"]
    assert len(outcome.trained) == 1 and not outcome.judged.unproven
    assert outcome.document["status"] == "met"
    rows = outcome.document["guard"]["checks"]
    assert {row["metric"]: row["status"] for row in rows} == {
        "loss_drift": "met",
        "held_out_loss_drift": "met",
        "metric_drop": "met",
    }
    assert rows[2]["allowed"] == pytest.approx(0.6 * METRIC_TOLERANCE)


def test_what_learns_worse_is_taken_back(judge: Judge) -> None:
    outcome = judge(lambda c: WORSE if c.compute.precision == "bf16" else SAME, WORKERS, BF16)
    assert outcome.kept == ["workers"] and outcome.document["status"] == "met"
    verdict, reason = outcome.back["bf16"]
    assert verdict == "broke a goal"
    assert "the loss is +10.00% off the baseline's" in reason and "allowed 2.00%" in reason


def test_what_cannot_be_without_it_is_taken_back_as_well_and_said(judge: Judge) -> None:
    def learns(config: TrainingConfig) -> Learning:
        return WORSE if config.loader.workers else SAME

    outcome = judge(learns, WORKERS, PERSISTENT)
    # Both are exact: the last goes first, and is not to blame.
    assert outcome.kept == []
    sloppy = replace(WORKERS, effect="lossy")
    outcome = judge(learns, sloppy, PERSISTENT, BF16)
    assert outcome.kept == ["bf16"]
    verdict, reason = outcome.back["persistent"]
    assert verdict == "inconclusive"
    assert "does not go without workers" in reason and "there are no workers" in reason
    rows = {row["change"]: row for row in outcome.document["rejected"]}
    assert rows["persistent"]["reason"].startswith("it does not go without")
    assert rows["workers"]["reason"].startswith("it learns worse: ")


def test_where_time_is_up_only_what_is_exact_stays_and_is_not_called_met(judge: Judge) -> None:
    outcome = judge(
        lambda c: WORSE if c.model_change else SAME, WORKERS, BF16, NARROWER, seconds=-1.0
    )
    assert len(outcome.trained) == 1
    assert outcome.kept == ["workers"]
    assert outcome.judged.config == BASELINE.with_loader(workers=2)
    assert outcome.back["narrower"][0] == "broke a goal"
    verdict, reason = outcome.back["bf16"]
    assert verdict == "inconclusive" and "no time was left to train without narrower" in reason
    assert outcome.document["status"] == "inconclusive"
    assert "not shown: no time was left" in render_training(outcome.document)


def test_where_time_is_up_and_an_exact_change_is_to_blame_nothing_stays(judge: Judge) -> None:
    outcome = judge(lambda config: WORSE, WORKERS, PERSISTENT, seconds=-1.0)
    assert (outcome.kept, outcome.judged.config) == ([], BASELINE)
    assert set(outcome.back) == {"workers", "persistent"}


def test_where_time_is_up_and_training_failed_nothing_stays(judge: Judge) -> None:
    def fails(config: TrainingConfig) -> Learning:
        raise RuntimeFailure("the worker died")

    outcome = judge(fails, WORKERS, BF16, seconds=-1.0)
    assert (len(outcome.trained), outcome.judged.config) == (1, BASELINE)
    assert outcome.back["bf16"] == ("failed", "training failed: the worker died")
    assert outcome.back["workers"][0] == "inconclusive"
    # With time all are tried, one after the other, and none is left.
    assert len(judge(fails, WORKERS, BF16).trained) == 2


def test_a_goal_on_the_loss_is_inconclusive_where_nothing_was_trained(
    judge: Judge, tmp_path: Path
) -> None:
    outcome = judge(
        lambda c: WORSE if c.compute.precision == "bf16" else SAME,
        WORKERS,
        BF16,
        asked=task(tmp_path, "loss_drift<=0.02"),
        seconds=-1.0,
    )
    (row,) = outcome.document["goals"]
    assert (row["value"], row["status"]) == (None, "inconclusive")
    assert "no time was left" in row["note"]


def test_where_seeds_disagree_it_is_inconclusive_without_any_goal(judge: Judge) -> None:
    outcome = judge(lambda config: Learning(loss=(0.95, 1.0, 1.06)), BF16)
    assert outcome.kept == ["bf16"]
    assert outcome.document["goals"] == []
    assert outcome.document["status"] == "inconclusive"


DROPS = Learning(drop=(0.03, 0.03, 0.03))


def test_another_model_is_judged_on_the_metric_without_a_goal(judge: Judge) -> None:
    outcome = judge(lambda c: DROPS if c.model_change else SAME, WORKERS, NARROWER)
    assert outcome.kept == ["workers"]
    _, reason = outcome.back["narrower"]
    assert "the metric on held-out data drops by +0.0300 [+0.0300, +0.0300]" in reason
    assert "allowed 0.0120" in reason


def test_another_model_whose_metric_is_not_shown_is_inconclusive(judge: Judge) -> None:
    unsure = Learning(drop=(-0.03, 0.0, 0.03))
    outcome = judge(lambda config: unsure, NARROWER)
    assert outcome.kept == ["narrower"]
    assert outcome.document["status"] == "inconclusive"
    # Of the same model the loss decides: held-out data only must not show that it is worse.
    outcome = judge(lambda config: unsure, BF16)
    assert (outcome.kept, outcome.document["status"]) == (["bf16"], "met")


def test_held_out_data_that_show_it_worse_decide_for_every_change(judge: Judge) -> None:
    outcome = judge(lambda config: Learning(held_out=(1.1, 1.1, 1.11)), BF16)
    assert outcome.kept == []
    assert "the loss on held-out data is +10.33%" in outcome.back["bf16"][1]
    assert judge(lambda config: DROPS, BF16).kept == []
    # Noise that only looks worse is no reason.
    assert judge(lambda config: Learning(held_out=(1.2, 0.9, 1.05)), BF16).kept == ["bf16"]


def test_another_model_without_a_metric_is_judged_on_the_held_out_loss(
    judge: Judge, tmp_path: Path
) -> None:
    plain = task(tmp_path, has_metric=False)
    unsure = Learning(held_out=(1.2, 0.9, 1.05))
    assert judge(lambda config: unsure, NARROWER, asked=plain).kept == []
    assert judge(lambda config: SAME, NARROWER, asked=plain).document["status"] == "met"


def test_a_goal_says_what_the_metric_may_drop(judge: Judge, tmp_path: Path) -> None:
    wide = task(tmp_path, "metric_drop<=0.05")
    assert judge(lambda config: DROPS, NARROWER, asked=wide).kept == ["narrower"]
    tight = task(tmp_path, "metric_drop<=0.01")
    assert judge(lambda config: DROPS, BF16, asked=tight).kept == []


def test_what_cannot_be_compared_is_not_refused_and_not_met(tmp_path: Path) -> None:
    config = replace(BASELINE, model_change="narrower")
    bare = [replace(c, evaluation=None) for c in curves(BASELINE).curves]
    change = drift(bare, [replace(c, evaluation=None) for c in curves(config).curves])
    for has_metric in (True, False):
        asked = task(tmp_path, has_metric=has_metric)
        check = checks_of(asked, config, bare, change)[-1]
        assert (check.found, check.broken, check.status) == (None, False, "inconclusive")
        assert check.decides and "could not be compared" in check.text
    assert metric_tolerance(bare) == 0


def test_a_larger_batch_sees_as_many_samples(judge: Judge) -> None:
    outcome = judge(lambda config: SAME, Larger("batch 32", "size", 32, effect="lossy"))
    assert [count for _, count in outcome.trained] == [5]
    assert outcome.kept == ["batch 32"]
    assert outcome.judged.drift is not None
    assert outcome.judged.drift.loss.estimate == pytest.approx(0, abs=1e-9)
    spread = BASELINE.with_scale(processes=2, strategy="ddp")
    assert equal_steps(BASELINE, spread, 20) == 10
    assert equal_steps(BASELINE, spread.with_batch(size=4), 20) == 20


def test_steps_too_large_to_be_judged_are_taken_back_untrained(judge: Judge) -> None:
    larger = Larger("batch 32", "size", 32, effect="lossy")
    outcome = judge(lambda config: SAME, larger, NARROWER, steps=8, seconds=-1.0)
    verdict, reason = outcome.back["batch 32"]
    assert verdict == "inconclusive" and "it takes 2 on the samples" in reason
    assert "--steps" in reason
    # What is not to blame stays, and is trained even where the time is up.
    assert outcome.kept == ["narrower"]
    assert [(c.batch.size, count) for c, count in outcome.trained] == [(8, 8)]


@dataclass(frozen=True)
class Doubled(Larger):
    """A larger batch that can be halved."""

    @property
    def label(self) -> str:
        return f"batch {self.value}"

    def milder(self, context: TrainingContext) -> Doubled | None:
        half = self.value // 2
        return replace(self, value=half) if half > context.config.batch.size else None


def test_a_batch_that_learns_worse_is_halved_before_it_is_given_up(judge: Judge) -> None:
    large = Doubled("batch", "size", 64, effect="lossy")
    outcome = judge(lambda c: WORSE if c.batch.size > 16 else SAME, large, BF16, steps=64)
    assert outcome.kept == ["batch 16", "bf16"]
    assert [config.batch.size for config, _ in outcome.trained] == [64, 32, 16]
    assert set(outcome.back) == {"batch 64", "batch 32"}
    outcome = judge(lambda c: WORSE if c.batch.size > 8 else SAME, large, BF16, steps=64)
    assert outcome.kept == ["bf16"]
