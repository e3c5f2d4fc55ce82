"""The search's memory: what earlier runs decided still holds or not, and what a crash costs."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from test_optimize_parts import block

from saccade.errors import WorkerFailure
from saccade.goals import parse_goal
from saccade.optimize import search as module
from saccade.optimize.change import PlanContext, Tried
from saccade.optimize.changes.int8 import QuantizeInt8
from saccade.optimize.contest import Contest
from saccade.optimize.distill import Distillation
from saccade.optimize.plan import Candidate, Plan, make_plan
from saccade.optimize.quantization.recipe import Recipe
from saccade.optimize.race import Runner
from saccade.optimize.repair import Repair
from saccade.optimize.search import Search
from saccade.optimize.trial_book import TrialBook, still_holds, terms_of
from saccade.prediction import Prediction
from saccade.progress import SilentProgress
from saccade.study import Drop, RunFolder, Terms, Trial
from saccade.testing.optimization_conformance import example_contexts

STRICT = Terms("throughput", (("map50_95", 0.002),))
LOOSE = Terms("throughput", (("map50_95", 0.05),))
BROKEN = Trial(
    *(1, 0, "int8: openvino", "int8", {}, "int8", "B", "broke a goal", "why"),
    drop=Drop("map50_95", 0.01, 0.005, 0.03, 0.95, 64),
    blocks=(block(40.0),),
    parent_blocks=(block(20.0),),
    environment_hash="here",
    terms=STRICT,
)
KEPT = replace(BROKEN, verdict="better", kept=True, terms=LOOSE)


def book_of(run: RunFolder, terms: Terms) -> TrialBook:
    return TrialBook(run, SilentProgress(), terms, "here")


@pytest.mark.parametrize(
    ("trial", "terms", "holds"),
    [
        (BROKEN, STRICT, True),
        (BROKEN, LOOSE, False),
        (BROKEN, Terms("throughput", (("map50_95", 0.005),)), True),
        (BROKEN, replace(STRICT, objective="latency"), False),
        (KEPT, Terms("throughput", (("map50_95", 0.04),)), True),
        # The estimate is within it, the bound is not.
        (KEPT, Terms("throughput", (("map50_95", 0.02),)), False),
        (KEPT, Terms("throughput", (("map50", 0.05),)), False),
        (KEPT, replace(LOOSE, sizes=("model_mb<=8",)), False),
        (KEPT, replace(LOOSE, levels=("map50_95>=0.4",)), False),
        (replace(KEPT, drop=None), STRICT, True),
        (replace(BROKEN, verdict="worse"), LOOSE, True),
        (replace(BROKEN, verdict="worse", config_hash=""), LOOSE, False),
    ],
)
def test_other_goals_decide_anew_what_they_may_decide_otherwise(
    trial: Trial, terms: Terms, holds: bool
) -> None:
    assert still_holds(trial, terms) is holds


def test_with_other_goals_the_race_stands_and_the_verdict_does_not(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    book_of(run, STRICT).add(BROKEN)
    (again,) = run.trials()
    assert again.terms == STRICT
    book = book_of(run, LOOSE)
    draft = replace(book.draft(BROKEN.change, "int8", "B", None), config_hash="int8")
    assert book.again(draft) is None
    assert book.blocks(draft) == (BROKEN.parent_blocks, BROKEN.blocks)
    assert book_of(run, STRICT).again(draft) is not None
    assert book_of(run, replace(LOOSE, objective="latency")).blocks(draft) is None


def test_goals_on_speed_are_terms_where_one_is_on_size() -> None:
    fast, small = parse_goal("throughput_fps>=30"), parse_goal("model_mb<=8")
    assert terms_of("throughput", [None], [fast]) == Terms("throughput")
    assert terms_of("throughput", [None], [fast, small]).sizes == (fast.name, small.name)


def test_a_goal_on_accuracy_itself_is_a_term_and_one_on_its_drop_a_guard() -> None:
    level, drop = parse_goal("map50_95>=0.4"), parse_goal("map50_95_drop<=0.01")
    assert terms_of("throughput", [None], [level, drop]).levels == (level.name,)


def bare_search(run: RunFolder, seconds: float = 60.0, terms: Terms = LOOSE) -> Any:
    """A search without a job, for what it does between trials."""
    search: Any = Search.__new__(Search)
    search._job = SimpleNamespace(baseline=SimpleNamespace(hash="B"), goals=())
    search.incumbent = search._job.baseline
    search._book = book_of(run, terms)
    search._promised = {}
    search._repair = Repair()
    search._small = 1.1
    search._deadline = time.monotonic() + seconds
    return search


def test_what_was_tried_together_counts_as_tried_after_a_resume(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    together = replace(
        BROKEN, change="a + b", parts=("a", "b"), predicted_gain=1.2, verdict="worse", drop=None
    )
    book_of(run, LOOSE).add(together)
    search = bare_search(run)
    assert not search._replay()
    assert search._promised == {"a + b": 1.2, "a": 1.2, "b": 1.2}


@pytest.fixture
def context(tmp_path: Path) -> PlanContext:
    return next(example_contexts(tmp_path))


def test_a_repair_that_the_time_does_not_allow_is_not_begun(
    context: PlanContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "make_plan", lambda *_: Plan((), ()))
    monkeypatch.setattr(module, "combine", lambda *_: None)
    plain = QuantizeInt8("openvino")
    trained = QuantizeInt8("openvino", Recipe(trained=True))
    costs = [change.predict(context).cost_s for change in (plain, trained)]
    assert costs[1] == costs[0] + Distillation.budget_s
    monkeypatch.setattr(QuantizeInt8, "applies", lambda *_: None)
    run = RunFolder(tmp_path / "run")
    search = asking_for(trained, plain, bare_search(run, seconds=costs[1] + 60))
    found = search._next(context)
    assert found is not None and found.change == trained
    search = asking_for(trained, plain, bare_search(run, seconds=costs[1] - 5))
    assert search._next(context) is None
    last = search.trials[-1].repair[-1]
    assert "there is no time left for it" in last.outcome and trained.label in last.outcome


def asking_for(rung: Any, after: Any, search: Any) -> Any:
    """A search whose ladder asks for a rung after another has broken accuracy."""
    search._repair._tried = [Tried(after, 0.2)]
    search._repair.forced = rung
    search._book.add(replace(BROKEN, change=after.label))
    return search


class MortalRunner:
    """A runner whose worker can die."""

    def __init__(self, config: Any) -> None:
        self.config, self.worker = config, SimpleNamespace(alive=True)

    def close(self) -> None:
        self.worker.alive = False


def test_a_dead_incumbent_costs_one_trial_and_is_started_again(tmp_path: Path) -> None:
    book = book_of(RunFolder(tmp_path / "run"), LOOSE)
    contest: Contest[Any] = Contest(MortalRunner, book, "throughput", 0.0, lambda: 1.0)
    incumbent, candidate = SimpleNamespace(hash="B"), SimpleNamespace(hash="C")
    draft = book.draft("x", "x", "B", None)

    def killed(reference: Runner, runner: Runner) -> Trial:
        reference.close()
        raise WorkerFailure("killed, most likely for lack of memory")

    trial = contest.hold(incumbent, candidate, draft, killed)
    assert trial.verdict == "inconclusive" and "for lack of memory" in trial.reason

    def failing(reference: Runner, runner: Runner) -> Trial:
        assert reference.worker.alive
        raise WorkerFailure("hung")

    assert contest.hold(incumbent, candidate, draft, failing).verdict == "failed"
    assert cast(Any, contest.reference(incumbent)).worker.alive


def test_what_there_was_no_time_for_is_left_over_and_not_what_was_tried(
    context: PlanContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def candidate(recipe: Recipe, gain: float) -> Candidate:
        return Candidate(QuantizeInt8("openvino", recipe), Prediction(gain, gain, "", 5.0))

    tried, open_one = candidate(Recipe(), 2.0), candidate(Recipe(trained=True), 1.8)
    monkeypatch.setattr(module, "make_plan", lambda *_: Plan((tried, open_one), ()))
    search = bare_search(RunFolder(tmp_path / "run"), seconds=0.0)
    search._promise([tried.change.label], 2.0)
    assert search._left_over(context) == (open_one,)


def test_a_ladder_that_was_cut_off_is_climbed_on_after_a_resume(
    context: PlanContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rungs of the earlier run are not measured again, and lead to the next one."""
    plain = QuantizeInt8("openvino")
    run = RunFolder(tmp_path / "run")
    first = replace(BROKEN, change=plain.label, predicted_gain=2.0, config_hash="int8")
    book_of(run, STRICT).add(Repair().record(plain, first, context))
    candidate = Candidate(plain, Prediction(2.0, 2.0, "", 5.0))
    monkeypatch.setattr(module, "make_plan", lambda *_: Plan((candidate,), ()))
    monkeypatch.setattr(module, "combine", lambda *_: None)
    monkeypatch.setattr(module, "considered", lambda *_: Prediction(1.5, 1.5, "", 5.0))
    search = bare_search(run, terms=STRICT)
    search._measured = None  # nothing may be measured
    search._replay()
    (taken_over,) = search.trials
    assert search._try(context, search._next(context)).number == taken_over.number
    assert search._next(context).change == plain.next_rung([Tried(plain, 0.01)], context)
    assert len(search.trials) == 1 and len(run.trials()) == 1


def test_what_nobody_foresaw_costs_one_trial_and_says_where_it_arose(
    context: PlanContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise ValueError("seven")

    plain = QuantizeInt8("openvino")
    draft = replace(BROKEN, change=plain.label, verdict="failed", drop=None)
    monkeypatch.setattr(QuantizeInt8, "apply", broken)
    trial = bare_search(RunFolder(tmp_path / "run"))._measured(context, plain, draft)
    assert trial.verdict == "failed"
    assert "ValueError in test_search.py" in trial.reason and "seven" in trial.reason
    monkeypatch.setattr(QuantizeInt8, "applies", broken)
    plan = make_plan(context)
    assert {n.partition(":")[0] for n, why in plan.inapplicable if "seven" in why} == {"int8"}
    assert plan.candidates
