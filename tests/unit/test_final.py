"""The end of the playbook: which attempt stands on unseen data, and what one failure may cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import numpy as np
import pytest
from test_playbook_parts import kept
from test_playbook_result import block

from saccade.deploy.kit.read import Kit
from saccade.errors import DataError, RuntimeFailure, WorkerFailure
from saccade.goals import parse_goal
from saccade.optimize.job import Job
from saccade.optimize.race import Runner
from saccade.pipeline.config import PipelineConfig
from saccade.playbook import absent, final, final_judge, measured
from saccade.playbook import optimize as playbook
from saccade.playbook.final import Final, WayBack, fallbacks, validate, ways_back
from saccade.playbook.final_judge import Accuracy, FinalJudge
from saccade.playbook.result import Story
from saccade.progress import SilentProgress
from saccade.study import RunFolder
from saccade.testing.tiny_models import tiny_config
from saccade.validate.bootstrap import Replicates
from saccade.validate.contract import Scored
from saccade.validate.drop_bound import DropBound
from saccade.validate.guard import final_bound
from saccade.validate.referee import AgreementReferee, LabelReferee

GUARD = parse_goal("map50_95_drop<=0.01")


class FakeRunner:
    """Runs nothing; refuses the configurations in ``refused``."""

    opened: ClassVar[list[FakeRunner]] = []
    refused: ClassVar[set[str]] = set()

    def __init__(self, config: PipelineConfig, source: str = "") -> None:
        if config.hash in self.refused:
            raise RuntimeFailure("it does not run\nat all")
        self.config, self.problems, self.running = config, (), True
        self.opened.append(self)

    def close(self) -> None:
        self.running = False


@dataclass
class FakeJudge:
    """Loses what was planned for a configuration, give or take ``error``."""

    lost: dict[str, float]
    error: float = 0.001
    dies_of: set[str] = field(default_factory=set)

    def judge(self, runner: FakeRunner, attempt: int) -> Accuracy:
        if runner.config.hash in self.dies_of:
            raise WorkerFailure("the worker died")
        drop = DropBound(self.lost.get(runner.config.hash, 0.0), 64, self.error, np.zeros(5))
        return Accuracy({}, {}, {}, final_bound(drop, GUARD.bound, attempt, 64))


@pytest.fixture
def baseline(tmp_path: Path) -> PipelineConfig:
    return tiny_config(tmp_path)


@pytest.fixture
def judge(baseline: PipelineConfig, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeJudge]:
    fake = FakeJudge({})
    raced = SimpleNamespace(candidate=(block(20.0),) * 4, reference=(block(10.0),) * 4)
    monkeypatch.setattr(FakeRunner, "opened", [])
    monkeypatch.setattr(FakeRunner, "refused", set())
    monkeypatch.setattr(final, "Runner", FakeRunner)
    monkeypatch.setattr(final, "FinalJudge", lambda *_: fake)
    monkeypatch.setattr(final, "race", lambda *_: raced)
    yield fake
    assert not any(runner.running for runner in FakeRunner.opened)


def validated(baseline: PipelineConfig, best: PipelineConfig) -> Final:
    job = SimpleNamespace(baseline=baseline, source="", objective="throughput", goals=())
    ways = [WayBack(best, baseline)]
    hw = (96, 128)
    return validate(cast(Job, job), GUARD, best, ways, 0.01, hw, SilentProgress(), lambda: 60.0)


def doubtful(baseline: PipelineConfig) -> tuple[PipelineConfig, dict[str, PipelineConfig]]:
    """A winner with everything that may cost accuracy, and its fallbacks by what they lack."""
    best = replace(baseline, detect_every=2, input_size=48, shape="rect", nms="vectorized")
    best = replace(best, options=replace(best.options, precision="bf16"))
    return best, dict(fallbacks(baseline, baseline, best))


def test_the_first_attempt_that_is_bounded_stands(
    baseline: PipelineConfig, judge: FakeJudge
) -> None:
    best, steps = doubtful(baseline)
    judge.lost = {best.hash: 0.05}
    found = validated(baseline, best)
    assert (found.reverted, found.config) == (("frame_skip",), steps["frame_skip"])
    assert [rung["step"] for rung in found.ladder] == ["all kept changes", "without frame_skip"]


def test_where_none_is_bounded_the_first_that_may_be_within_stands(
    baseline: PipelineConfig, judge: FakeJudge
) -> None:
    """Not the boldest, whose estimate is beyond; nor the most careful, which is as unproven."""
    best, steps = doubtful(baseline)
    judge.error, judge.lost = 0.05, {best.hash: 0.05}
    found = validated(baseline, best)
    assert (found.reverted, found.config) == (("frame_skip",), steps["frame_skip"])
    assert len(found.ladder) == final.MAX_ATTEMPTS


def test_where_each_loses_too_much_the_baseline_stands(
    baseline: PipelineConfig, judge: FakeJudge
) -> None:
    best, steps = doubtful(baseline)
    judge.lost = dict.fromkeys((best.hash, *(c.hash for c in steps.values())), 0.05)
    found = validated(baseline, best)
    assert (found.reverted, found.config) == (("everything",), baseline)
    assert found.accuracy is not None and found.accuracy.bound is not None
    assert found.accuracy.bound.holds


def test_an_attempt_that_fails_is_a_rung_that_does_not_hold(
    baseline: PipelineConfig, judge: FakeJudge
) -> None:
    best, steps = doubtful(baseline)
    judge.dies_of = {best.hash}
    FakeRunner.refused = {steps["frame_skip"].hash}
    found = validated(baseline, best)
    assert found.reverted == (list(steps)[-1],)
    said = [rung["result"] for rung in found.ladder]
    assert said[:2] == ["failed: the worker died", "failed: it does not run"]


def test_rounded_and_pruned_weights_are_taken_back(baseline: PipelineConfig) -> None:
    def of(config: PipelineConfig, content: str, stored: Any = "fp32") -> PipelineConfig:
        return replace(config, model=replace(config.model, sha256=content, stored=stored))

    pruned = of(baseline, "pruned")
    small = of(pruned, "small", "int8_weights")
    best = replace(small, execution="overlapped")
    names = ("prune", "int8_weights", "overlap_stages")
    trials = [
        replace(kept(number, config), name=name)
        for number, (name, config) in enumerate(zip(names, (pruned, small, best), strict=True), 1)
    ]
    (way,) = ways_back(baseline, best, trials)
    found = fallbacks(baseline, way.unquantized, best, way.weights)
    assert found == [
        ("int8_weights", replace(pruned, execution="overlapped")),
        ("int8_weights and prune", replace(baseline, execution="overlapped")),
    ]


def test_an_earlier_file_runs_where_it_can(baseline: PipelineConfig) -> None:
    """A file for LiteRT leads to LiteRT, and what it was made from does not run there."""
    model = replace(baseline.model, sha256="8", format="tflite", stored="int8")
    int8 = replace(baseline, model=model, runtime="litert")
    assert fallbacks(baseline, baseline, int8) == [("int8", baseline)]


# What judges them


class StubJudge:
    """Says nothing of agreement; each metric is what the results say."""

    unit = 1 / 64

    @classmethod
    def scored(cls, dataset: Any, results: dict[str, float], weights: Any) -> Scored:
        return Scored(
            {
                name: Replicates(value, np.full(9, value), np.full(64, value), 64, cls.unit)
                for name, value in results.items()
            }
        )

    @staticmethod
    def agreement(*_: Any) -> DropBound:
        raise DataError("Agreement cannot be judged")


RESULTS = {"before": {"map50_95": 0.5, "map50": 0.7}, "after": {"map50_95": 0.495, "map50": 0.6}}


def judged(
    baseline: PipelineConfig, monkeypatch: pytest.MonkeyPatch, *goals: str, same: bool = False
) -> Accuracy:
    def results_on(runner: FakeRunner, dataset: Any) -> dict[str, float]:
        return RESULTS["before" if runner.config == baseline else "after"]

    monkeypatch.setattr(final_judge, "judge_of", lambda _: StubJudge)
    monkeypatch.setattr(final_judge, "results_on", results_on)
    monkeypatch.setattr(final_judge, "unit_weights", lambda *_: None)
    asked = tuple(parse_goal(text) for text in goals)
    job = SimpleNamespace(
        roles=SimpleNamespace(report=(None,) * 64),
        labelled=True,
        baseline=baseline,
        goals=asked,
        spec=SimpleNamespace(seed=0),
        description=baseline.description,
    )
    found = FinalJudge(cast(Job, job), asked[0], cast(Runner, FakeRunner(baseline)), (96, 128))
    config = baseline if same else replace(baseline, nms="vectorized")
    return found.judge(cast(Runner, FakeRunner(config)), 1)


def test_agreement_that_cannot_be_judged_matters_only_where_it_guards(
    baseline: PipelineConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = judged(baseline, monkeypatch, "map50_95_drop<=0.1")
    assert found.bound is not None and found.bound.holds
    assert set(found.drops) == {"map50_95", "map50"}
    with pytest.raises(DataError, match="Agreement"):
        judged(baseline, monkeypatch, "agreement_drop<=0.1")


def test_every_goal_on_a_drop_must_hold(
    baseline: PipelineConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is merely not shown; the second is lost, and that is what is said."""
    found = judged(baseline, monkeypatch, "map50_95_drop<=0.01", "map50_drop<=0.05")
    assert found.bound is not None and not found.bound.holds
    assert found.bound.reason.startswith("map50 drop 0.1000")


@pytest.mark.parametrize(
    ("goals", "holds", "said"),
    [
        # 0.7 to 0.6: the drop is allowed, and what is left is not enough.
        (("map50_drop<=0.2", "map50>=0.65"), False, "map50 0.6000"),
        (("map50_drop<=0.2", "map50>=0.5"), True, "drop 0.1000"),
        # Out of the baseline's reach, so there is nothing to fall back to.
        (("map50_drop<=0.2", "map50>=0.8"), True, "drop 0.1000"),
        # Both are lost; the drop is the guard's own.
        (("map50_drop<=0.05", "map50>=0.65"), False, "drop 0.1000"),
        (("map50_95_drop<=0.2", "map50_95>=0.49"), False, "map50_95 0.4950, at least 0.4"),
    ],
)
def test_absolute_goals_count_where_the_baseline_reaches_them(
    goals: tuple[str, ...],
    holds: bool,
    said: str,
    baseline: PipelineConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of figures that no image changes, an unseen accident in 64 is all that is in doubt."""
    monkeypatch.setattr(StubJudge, "unit", 1 / 640)
    found = judged(baseline, monkeypatch, *goals)
    assert found.bound is not None and found.bound.holds is holds
    assert said in found.bound.reason
    low, high = found.bounds["map50"]
    assert low < found.metrics["map50"] < high


def test_the_search_does_not_keep_what_misses_an_absolute_goal(
    baseline: PipelineConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    from saccade.validate import referee as module

    monkeypatch.setattr(module, "judge_of", lambda _: StubJudge)
    monkeypatch.setattr(module, "unit_weights", lambda *_: None)
    runner, images = cast(Runner, FakeRunner(baseline)), cast(Any, (None,) * 64)
    for text, keep in (("map50>=0.65", False), ("map50>=0.6", True), ("map50>=0.75", True)):
        results = iter(RESULTS.values())
        monkeypatch.setattr(module, "results_on", lambda *_, left=results: next(left))
        goals = (parse_goal(text),)
        referee = LabelReferee(images, runner, "map50_95", 0.2, 0, absolute=goals)
        found = referee.judge(runner, "near_lossless")
        assert found.keep is keep
        assert ("misses map50>=0.65" in found.reason) is not keep


def test_the_baseline_loses_nothing_against_itself(
    baseline: PipelineConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = judged(baseline, monkeypatch, "agreement_drop<=0", same=True)
    assert found.bound is not None and found.bound.holds
    assert {drop.upper for drop in found.drops.values()} == {0}


def test_the_search_asks_for_every_goal_on_a_drop_too(
    baseline: PipelineConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    from saccade.validate import referee as module

    results = iter(RESULTS.values())
    monkeypatch.setattr(module, "judge_of", lambda _: StubJudge)
    monkeypatch.setattr(module, "results_on", lambda *_: next(results))
    monkeypatch.setattr(module, "unit_weights", lambda *_: None)
    runner, images = cast(Runner, FakeRunner(baseline)), cast(Any, (None,) * 64)
    referee = LabelReferee(images, runner, "map50_95", 0.01, 0, {"map50": 0.05})
    found = referee.judge(runner, "near_lossless")
    assert not found.keep and found.reason.startswith("map50 drop 0.1000")
    assert found.drop is not None and found.drop.metric == "map50_95"


def test_a_baseline_that_says_nothing_is_refused_before_the_search(
    baseline: PipelineConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    from saccade.validate import referee as module

    monkeypatch.setattr(module, "judge_of", lambda _: StubJudge)
    monkeypatch.setattr(module, "unit_weights", lambda *_: np.ones((4, 2)))
    with pytest.raises(DataError, match="Agreement cannot be judged"):
        AgreementReferee(cast(Any, None), lambda _: (), cast(Any, None), 0.1, 0)


# What one failure may cost


def test_what_is_known_is_written_before_a_run_ends_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[tuple[bool, Any]] = []

    def carry_out(self: playbook.Playbook) -> None:
        self._story = Story(cast(Job, job), cast(Any, None), None)
        raise WorkerFailure("the worker died\nsomehow")

    job = SimpleNamespace(environment=SimpleNamespace(to_dict=dict, hash=""), goals=(GUARD,))
    monkeypatch.setattr(playbook.Playbook, "carry_out", carry_out)
    monkeypatch.setattr(
        playbook.Playbook,
        "write",
        lambda self, interrupted: written.append((interrupted, self._story.notes)),
    )
    with pytest.raises(WorkerFailure):
        playbook.improve(cast(Job, job), RunFolder(tmp_path / "run"), SilentProgress(), 0.0)
    assert written == [(True, ("The run ended early: the worker died",))]


def test_a_candidate_of_a_kit_that_cannot_be_judged_is_no_end(
    baseline: PipelineConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = SimpleNamespace(id="a", metrics={}, counts=True, comparison=None, reason="", status="ok")
    others = SimpleNamespace(**{**vars(row), "id": "b"})
    job = SimpleNamespace(goals=(GUARD,), baseline=baseline, source="")
    kit = SimpleNamespace(
        candidates={name: {"file": name} for name in "ab"}, config=lambda _: baseline
    )
    rows = cast(Any, [row, others])
    picker = measured._Picker(cast(Job, job), cast(Kit, kit), "", rows, SilentProgress())
    monkeypatch.setattr(picker, "_config_here", lambda _: baseline)
    judge = cast(FinalJudge, FakeJudge({}, dies_of={baseline.hash}))
    runner = cast(Runner, FakeRunner(baseline))
    assert picker._first_that_holds(judge, picker._order(), runner) is None
    assert [t.verdict for t in picker.trials] == ["failed", "failed"]
    assert picker.trials[0].reason == "its accuracy could not be judged: the worker died"


def test_a_file_of_a_kit_whose_judging_ends_is_a_judgement(
    baseline: PipelineConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dying:
        def judge(self, *_: Any) -> Any:
            raise WorkerFailure("the worker died")

    monkeypatch.setattr(absent, "Runner", FakeRunner)
    job = cast(Job, SimpleNamespace(source=""))
    found = absent._judgement(baseline, job, cast(Any, Dying()), "near_lossless")
    assert (found.keep, found.drop) == (False, None)
    assert "the worker died" in found.reason
