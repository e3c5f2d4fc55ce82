"""Goals of size steer the plan, and decide what smaller may cost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_optimize_parts import block

from saccade.goals import parse_goal
from saccade.optimize.change import Prediction
from saccade.optimize.changes.fp16_weights import StoreFp16
from saccade.optimize.changes.int8_weights import CompressWeights, read_once_share
from saccade.optimize.job import missed_sizes
from saccade.optimize.plan import make_plan
from saccade.optimize.race import RaceResult, compare_blocks, cpu_comparison
from saccade.optimize.size_goals import why_worth_its_size
from saccade.runtimes.contract import OperatorTime
from saccade.testing.optimization_conformance import example_contexts


def raced(fps: float, before_mb: float = 400, after_mb: float = 400) -> RaceResult:
    reference = [replace(block(100), peak_rss_mb=before_mb)] * 4
    candidate = [replace(block(fps), peak_rss_mb=after_mb)] * 4
    return RaceResult(
        tuple(reference),
        tuple(candidate),
        compare_blocks(candidate, reference, "throughput", 0.0),
        cpu_comparison(candidate, reference),
    )


def worth(goals: list[str], fps: float, before: float, after: float, **memory: float) -> str:
    parsed = tuple(parse_goal(goal) for goal in goals)
    return why_worth_its_size(parsed, raced(fps, **memory), before, after)


def test_what_meets_the_goal_may_be_slower() -> None:
    assert "meets the goal model_mb<=8" in worth(["model_mb<=8"], 60, 14, 7)


def test_what_only_comes_closer_may_cost_a_tenth() -> None:
    assert "comes closer to" in worth(["model_mb<=4"], 95, 14, 7)
    assert worth(["model_mb<=4"], 60, 14, 7) == ""


def test_a_goal_of_speed_is_not_given_up_for_it() -> None:
    goals = ["model_mb<=8", "throughput_fps>=90"]
    assert worth(goals, 60, 14, 7) == ""
    assert worth(goals, 95, 14, 7)
    # One that is missed anyway cannot be lost.
    assert worth(["model_mb<=8", "throughput_fps>=200"], 60, 14, 7)


def test_without_a_missed_goal_size_is_worth_nothing() -> None:
    assert worth([], 95, 14, 7) == ""
    assert worth(["model_mb<=20"], 95, 14, 7) == ""
    assert worth(["model_mb<=8"], 95, 14, 13.9) == ""


def test_peak_memory_counts_as_well() -> None:
    found = worth(["peak_rss_mb<=300"], 95, 14, 14, before_mb=400, after_mb=280)
    assert found.startswith("peak_rss_mb 400.0 to 280.0 meets")


def test_the_plan_offers_smaller_files_only_where_a_goal_asks(tmp_path: Path) -> None:
    context = next(example_contexts(tmp_path))
    assert "no goal asks" in (StoreFp16().applies(context) or "")
    asked = replace(context, missed=frozenset({"model_mb"}))
    labels = [candidate.change.label for candidate in make_plan(asked).candidates]
    assert {"fp16_weights", "int8_weights"} <= set(labels)
    assert not {"fp16_weights", "int8_weights"} & {
        candidate.change.label for candidate in make_plan(context).candidates
    }


def test_weight_only_int8_is_for_what_reads_weights_once(tmp_path: Path) -> None:
    context = next(example_contexts(tmp_path))
    refused = CompressWeights().applies(context)
    assert refused is not None
    assert "not bound by reading weights" in refused
    products = tuple(OperatorTime(f"fc{i}", "MatMul", 2.0) for i in range(3))
    profile = replace(context.profile, operators=(*products, OperatorTime("c", "Conv", 1.0)))
    bound = replace(context, profile=profile)
    assert read_once_share(bound) == pytest.approx(6 / 7)
    assert CompressWeights().applies(bound) is None
    assert CompressWeights().predict(bound).gain > 1


def test_missed_sizes_are_those_of_the_goals(tmp_path: Path) -> None:
    context = next(example_contexts(tmp_path))
    resident = max(sample.rss_mb for sample in context.profile.resources)

    def missed(*goals: str) -> Any:
        parsed = tuple(parse_goal(goal) for goal in goals)
        return missed_sizes(parsed, context.config, context.profile)

    assert missed("model_mb<=0.001", "peak_rss_mb<=1") == {"model_mb", "peak_rss_mb"}
    assert missed("model_mb<=1000", f"peak_rss_mb<={resident}") == frozenset()
    assert missed("throughput_fps>=1e6") == frozenset()


class Promise:
    """A change that promises what it was told to."""

    name, effect = "promise", "near_lossless"

    def __init__(self, label: str, gain: float, cost_s: float = 0.0, shrink: float = 1.0) -> None:
        self.label = label
        shrinks = {"model_mb": shrink} if shrink < 1 else {}
        self._promised = Prediction(gain, 10.0, "said", cost_s=cost_s, shrinks=shrinks)

    def applies(self, context: Any) -> str | None:
        return None

    def predict(self, context: Any) -> Prediction:
        return self._promised


@pytest.mark.parametrize(
    ("other", "order"),
    [
        # Made for the runtime in use, it would be made twice.
        (Promise("runtime", 4.4), ["runtime", "int8"]),
        # A goal that is missed is a goal, and speed has no end.
        (Promise("preprocess", 1.1), ["int8", "preprocess"]),
        (Promise("weights", 1.0, shrink=0.5), ["weights", "int8"]),
    ],
    ids=lambda found: found.label if isinstance(found, Promise) else "",
)
def test_a_dear_file_waits_for_quick_changes_that_promise_more(
    other: Promise, order: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = [Promise("int8", 2.5, cost_s=90.0, shrink=0.3), other]
    monkeypatch.setattr("saccade.optimize.plan.variants", lambda _: changes)
    context: Any = SimpleNamespace(missed=frozenset({"model_mb"}))
    assert [c.change.label for c in make_plan(context).candidates] == order
