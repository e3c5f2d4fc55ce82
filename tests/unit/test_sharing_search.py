"""The search over ways of sharing: raced, judged on both tasks, kept or refused with a reason."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from test_sharing_changes import context_in

from saccade.goals import Goal, parse_goal
from saccade.optimize import contest as module
from saccade.optimize.change import Effect
from saccade.optimize.race import RaceResult
from saccade.optimize.referee import Answering, Judgement
from saccade.optimize.sharing.contract import SharingContext
from saccade.optimize.sharing.search import SharingSearch
from saccade.optimize.sharing.subject import SystemRunner
from saccade.pipeline.system import SystemConfig
from saccade.progress import SilentProgress
from saccade.statistics import Comparison, Interval, RatioEstimate
from saccade.study import Drop, RunFolder, Trial

Verdict = Callable[[SystemConfig], str]


class Says:
    """A referee that asks the running system, and then says what it was told to say."""

    metric, allowed = "agreement", 0.1

    def __init__(self, keep: bool) -> None:
        self.keep = keep
        self.asked: list[tuple[str, Effect]] = []

    def judge(self, runner: Answering, effect: Effect) -> Judgement:
        found = runner.worker.call("watch", 2, "selection", 0.1)
        assert len(found) == 2
        self.asked.append((runner.config.task, effect))
        drop = Drop("agreement", 0.5, 0.4, 0.6, 0.95, 2)
        return Judgement(self.keep, "planted", drop, 0.5)


def planted_race(verdict: Verdict) -> Callable[..., RaceResult]:
    """Real blocks of both sides, and the verdict that a test wants of the candidate."""

    def race(reference: SystemRunner, candidate: SystemRunner, *_: Any) -> RaceResult:
        one, other = reference.block(10), candidate.block(10)
        word = verdict(candidate.config)
        ratio = {"faster": 1.5, "slower": 0.6}.get(word, 1.0)
        interval = Interval(ratio * 0.98, ratio * 1.02, 0.95)
        comparison = Comparison(cast(Any, word), RatioEstimate(ratio, interval, 4), 0.03, word)
        return RaceResult((one.block,), (other.block,), comparison, comparison)

    return race


def always(word: str) -> Verdict:
    return lambda _: word


@pytest.fixture
def context(tmp_path: Path) -> SharingContext:
    return context_in(tmp_path)


def searched(
    context: SharingContext,
    run: RunFolder,
    referees: Sequence[Says],
    start: SystemConfig | None = None,
    goals: tuple[Goal, ...] = (),
) -> tuple[SharingSearch, SystemConfig]:
    search = SharingSearch(
        context,
        start or context.config,
        referees,
        goals,
        run,
        SilentProgress(),
        0.02,
        time.monotonic() + 300,
        "here",
    )
    return search, search.run()


def words(trials: Sequence[Trial]) -> dict[str, str]:
    return {trial.name: trial.verdict for trial in trials}


def test_what_pays_and_says_the_same_is_kept(
    context: SharingContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "race", planted_race(always("faster")))
    referees = [Says(True), Says(True)]
    search, best = searched(context, RunFolder(tmp_path / "run"), referees)
    assert words(search.trials)["share_decode"] == "better"
    assert words(search.trials)["one_pass"] == "better" and best.sharing.one_pass
    assert all(trial.predicted_gain and trial.gain for trial in search.trials)
    # The same results on the same frames need no judge.
    assert not referees[0].asked and search.exact[-1].hash == best.hash


def test_what_does_not_pay_is_refused_with_what_was_measured(
    context: SharingContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def verdict(config: SystemConfig) -> str:
        return "slower" if config.sharing.one_pass or config.sharing.preprocess else "faster"

    monkeypatch.setattr(module, "race", planted_race(verdict))
    referees = [Says(True), Says(True)]
    search, best = searched(context, RunFolder(tmp_path / "run"), referees)
    assert words(search.trials)["one_pass"] == "worse"
    assert best.sharing.decode and not best.sharing.one_pass
    assert all(trial.kept == (trial.name == "share_decode") for trial in search.trials)


def moved_context(context: SharingContext) -> SharingContext:
    """The segmenter sees another geometry, so that sharing pixels changes what it sees."""
    from saccade.models.description import Preprocessing

    first, second = context.config.parts
    description = replace(second.description, preprocessing=Preprocessing())
    second = replace(second, description=description, input_size=96, shape="square")
    plans = (context.plans[0], replace(context.plans[1], config=second))
    config = replace(context.config, parts=(first, second))
    return replace(context, config=config, plans=plans, naive=(first, second))


def test_faster_but_wrong_in_one_task_is_refused(
    context: SharingContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "race", planted_race(always("faster")))
    referees = [Says(True), Says(False)]
    moved = moved_context(context)
    search, best = searched(moved, RunFolder(tmp_path / "run"), referees)
    tried = [trial for trial in search.trials if trial.name == "share_preprocess"]
    assert tried and all(trial.verdict == "broke a goal" for trial in tried)
    assert "segmentation: planted" in tried[0].reason
    assert set(tried[0].details["drops"]) == {"detection", "segmentation"}
    assert ("segmentation", "lossy") in referees[1].asked
    assert not best.sharing.preprocess and best.sharing.decode


def test_sharing_may_not_lose_a_goal_on_size(
    context: SharingContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def race(*given: Any) -> RaceResult:
        found = planted_race(always("faster"))(*given)
        before, after = (
            tuple(replace(block, peak_rss_mb=mb) for block in blocks)
            for blocks, mb in ((found.reference, 300.0), (found.candidate, 500.0))
        )
        return replace(found, reference=before, candidate=after)

    monkeypatch.setattr(module, "race", race)
    goals = (parse_goal("peak_rss_mb<=400"),)
    run = RunFolder(tmp_path / "run")
    search, best = searched(context, run, [Says(True), Says(True)], goals=goals)
    assert best.hash == context.config.hash
    assert {trial.verdict for trial in search.trials} == {"worse"}
    assert "loses the goal" in search.trials[0].reason


def test_each_improved_on_its_own_is_the_first_trial(
    context: SharingContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = context.config
    first, second = (replace(part, preprocessor="fused") for part in start.parts)
    improved = replace(context, config=SystemConfig((first, second)))
    monkeypatch.setattr(module, "race", planted_race(always("faster")))
    referees = [Says(True), Says(True)]
    search, _ = searched(improved, RunFolder(tmp_path / "run"), referees, start)
    assert search.trials[0].name == "own" and search.trials[0].kept
    assert referees[0].asked == [("detection", "near_lossless")]
    assert search.trials[1].parent == 1


def test_where_nothing_pays_the_naive_pipelines_stay(
    context: SharingContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = context.config
    first, second = (replace(part, preprocessor="fused") for part in start.parts)
    improved = replace(context, config=SystemConfig((first, second)))
    monkeypatch.setattr(module, "race", planted_race(always("slower")))
    _, best = searched(improved, RunFolder(tmp_path / "run"), [Says(True), Says(True)], start)
    assert best.hash == start.hash


def test_a_run_goes_on_where_it_stopped(
    context: SharingContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "race", planted_race(always("faster")))
    run = RunFolder(tmp_path / "run")
    first, best = searched(context, run, [Says(True), Says(True)])

    def never(*_: Any) -> RaceResult:
        raise AssertionError("what is known is not measured again")

    monkeypatch.setattr(module, "race", never)
    again, same = searched(context, run, [Says(True), Says(True)])
    assert same.hash == best.hash
    assert [trial.change for trial in again.trials] == [trial.change for trial in first.trials]
    assert len(run.trials()) == len(first.trials)
