"""The ladder: what comes after what, and what is on record."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest

from saccade import plugins
from saccade.data.contract import Dataset
from saccade.optimize.change import PlanContext, Tried
from saccade.optimize.changes.executorch_int8 import QuantizeExecuTorch
from saccade.optimize.changes.int8 import QuantizeInt8
from saccade.optimize.quantization.ladder import (
    FIRST,
    RUNGS,
    Attempt,
    Situation,
    best,
    climb,
    closed,
)
from saccade.optimize.quantization.make import details_path, write_details
from saccade.optimize.quantization.recipe import HEAD_FLOAT, MORE_IMAGES, Recipe
from saccade.optimize.repair import Repair
from saccade.study import Drop, RepairStep, Trial
from saccade.testing.optimization_conformance import example_contexts

SITUATION = Situation(("min_max", "percentile", "entropy"), False, 50, "needs a torch model")
NAMES = [rung.name for rung in RUNGS]


def whole_climb(drops: dict[str, float], situation: Situation = SITUATION) -> list[Attempt]:
    """Climb to the top; each recipe costs what ``drops`` says of its label, else 0.5."""
    attempts = [Attempt(Recipe(), FIRST, drops.get("plain", 0.5))]
    while (step := next(climb(attempts, situation), None)) is not None:
        rung, recipe = step
        attempts.append(Attempt(recipe, rung, drops.get(recipe.label, 0.5)))
        assert len(attempts) < 30
    return attempts


def test_the_rungs_come_in_order_and_each_recipe_once() -> None:
    found = whole_climb({})
    order = [NAMES.index(attempt.rung) for attempt in found[1:]]
    assert order == sorted(order)
    assert set(order) == set(range(len(RUNGS) - 1))  # all but training
    assert len({attempt.recipe for attempt in found}) == len(found)


def test_a_rung_that_helped_is_built_upon_and_one_that_did_not_is_not() -> None:
    found = whole_climb({"equalized": 0.1, "equalized, percentile ranges": 0.05})
    labels = [attempt.recipe.label for attempt in found]
    assert "bias correction" in labels
    assert "equalized, entropy ranges" in labels
    assert labels[-1] == "equalized, percentile ranges, mixed precision"
    assert not any("bias correction" in label for label in labels[2:])


def test_training_opens_the_last_rung() -> None:
    assert list(closed(SITUATION)) == [("quantization-aware training", "needs a torch model")]
    open_ = replace(SITUATION, why_not_trained=None)
    assert list(closed(open_)) == []
    # Ranges, biases and sensitive layers are not training's business.
    drops = {"equalized": 0.1, "equalized, mixed precision": 0.05}
    assert whole_climb(drops, open_)[-1].recipe == Recipe(trained=True)


def test_a_detection_head_is_left_float_as_one() -> None:
    depths = [a.recipe.float_depth for a in whole_climb({}, replace(SITUATION, has_head=True))]
    assert HEAD_FLOAT in depths
    assert HEAD_FLOAT not in [a.recipe.float_depth for a in whole_climb({})]


def test_more_images_are_tried_where_there_are_more() -> None:
    images = [a.recipe.images for a in whole_climb({}, replace(SITUATION, images=500))]
    assert MORE_IMAGES in images
    assert MORE_IMAGES not in [a.recipe.images for a in whole_climb({})]


def test_of_equal_drops_the_first_is_best() -> None:
    plain, other = Recipe(), Recipe(bias_correction=True)
    assert best([Attempt(plain, FIRST, 0.1), Attempt(other, NAMES[0], 0.1)]) == plain
    assert best([Attempt(plain, FIRST, 0.1), Attempt(other, NAMES[0], math.inf)]) == plain


def test_labels_tell_recipes_apart() -> None:
    recipes = {a.recipe for a in whole_climb({}, replace(SITUATION, has_head=True, images=500))}
    assert len({recipe.label for recipe in recipes}) == len(recipes)


# The search's side


@dataclass(frozen=True)
class Climbing:
    """Two rungs above the first."""

    name: ClassVar[str] = "climbing"
    height: int = 0

    @property
    def label(self) -> str:
        return f"climbing {self.height}"

    @property
    def rung(self) -> str:
        return f"rung {self.height}"

    def next_rung(self, tried: list[Tried], context: Any) -> Climbing | None:
        assert [t.change for t in tried] == [Climbing(i) for i in range(self.height + 1)]
        return Climbing(self.height + 1) if self.height < 2 else None

    def closed_rungs(self, context: Any) -> list[tuple[str, str]]:
        return [("training", "needs a torch model")]


def trial_of(change: Any, verdict: Any, drop: float | None) -> Trial:
    bound = None if drop is None else Drop("top1", drop, drop, drop, 0.95, 75)
    return Trial(
        1, 0, change.label, change.name, {}, "", "", verdict, "why", drop=bound, wall_s=3.0
    )


def recorded(repair: Repair, change: Any, verdict: str, drop: float | None) -> Trial:
    return repair.record(change, trial_of(change, verdict, drop), cast(Any, None))


def test_the_log_says_what_every_rung_brought() -> None:
    repair = Repair()
    assert recorded(repair, Climbing(0), "broke a goal", 0.5).repair == (
        RepairStep("rung 0", "climbing 0", None, 0.5, 3.0, "broke a goal"),
    )
    assert repair.forced == Climbing(1)
    recorded(repair, Climbing(1), "failed", None)
    assert repair.forced == Climbing(2)
    last = recorded(repair, Climbing(2), "broke a goal", 0.2)
    assert repair.forced is None
    assert last.repair[1:] == (
        RepairStep("rung 1", "climbing 1", 0.5, None, 3.0, "why"),
        RepairStep("rung 2", "climbing 2", 0.5, 0.2, 3.0, "broke a goal"),
        RepairStep("training", "", None, None, 0.0, "needs a torch model"),
    )
    assert Trial.from_dict(last.to_dict()) == last


def test_a_repair_that_held_ends_the_ladder() -> None:
    repair = Repair()
    recorded(repair, Climbing(0), "broke a goal", 0.5)
    kept = recorded(repair, Climbing(1), "better", 0.0)
    assert [step.outcome for step in kept.repair] == ["broke a goal", "better"]
    assert repair.forced is None


@pytest.mark.parametrize("verdict", ["worse", "not distinguishable", "inconclusive"])
def test_a_rung_that_is_too_slow_ends_the_ladder(verdict: str) -> None:
    repair = Repair()
    recorded(repair, Climbing(0), "broke a goal", 0.5)
    recorded(repair, Climbing(1), verdict, 0.0)
    assert repair.forced is None


def test_what_works_at_once_needs_no_log() -> None:
    repair = Repair()
    assert recorded(repair, Climbing(0), "better", 0.0).repair == ()
    assert recorded(repair, Climbing(0), "worse", None).repair == ()


def test_another_change_begins_another_ladder() -> None:
    repair = Repair()
    recorded(repair, Climbing(0), "broke a goal", 0.5)
    again = recorded(repair, Climbing(0), "broke a goal", 0.4)
    assert [step.drop_after for step in again.repair] == [0.4]


# int8


@pytest.fixture
def context(tmp_path: Path) -> PlanContext:
    return next(example_contexts(tmp_path))


def test_int8_climbs_from_what_was_tried(context: PlanContext) -> None:
    first = next(c for c in QuantizeInt8.variants(context) if c.runtime == "onnxruntime")
    second = first.next_rung([Tried(first, 0.5)], context)
    assert second is not None
    assert second.recipe == replace(first.recipe, bias_correction=True)
    assert second.rung == "bias correction"
    assert second.runtime == "onnxruntime"
    assert dict(first.closed_rungs(context))["quantization-aware training"].startswith(
        "needs a torch model"
    )


def test_two_quantizers_race_for_one_runtime(context: PlanContext, tmp_path: Path) -> None:
    own, nncf = (QuantizeInt8(name) for name in ("onnxruntime", "onnxruntime-nncf"))
    assert {own, nncf} <= {replace(c, recipe=Recipe()) for c in QuantizeInt8.variants(context)}
    assert own.runtime == nncf.runtime == "onnxruntime"
    made = tmp_path / "int8.onnx"
    made.write_bytes(Path(context.config.model.path).read_bytes())
    model = replace(context.config.model, path=str(made), stored="int8")
    used = replace(
        context,
        config=replace(context.config, model=model, runtime="onnxruntime"),
        unquantized=context.config,
        video=True,
    )
    already = "the model is quantized for onnxruntime already"
    # Whose file it is is not on record: then it may be anybody's.
    assert own.applies(used) == nncf.applies(used) == already
    record = {"made_by": {"quantizer": "onnxruntime", "recipe": asdict(Recipe())}}
    write_details(details_path(made), record)
    assert own.applies(used) == already
    assert nncf.applies(used) != already


def test_a_second_recipe_waits_until_its_runtime_is_in_use(context: PlanContext) -> None:
    elsewhere = replace(context, config=replace(context.config, runtime="openvino"))
    said = {q: QuantizeInt8(q).applies(elsewhere) or "" for q in plugins.names("quantizers")}
    assert [q for q, why in said.items() if "comes first" in why] == ["onnxruntime-nncf"]


def test_executorch_says_why_it_has_no_ladder(context: PlanContext) -> None:
    change = QuantizeExecuTorch()
    assert change.next_rung([Tried(change, 0.5)], context) is None
    found = dict(change.closed_rungs(context))
    assert set(found) == set(NAMES)
    assert all("one scheme" in reason for reason in found.values())


def test_int8_names_a_calibration_set_of_one_image(context: PlanContext) -> None:
    one = Dataset("calibration", cast(Any, (None,)), (), labelled=False)
    alone = replace(context, video=False, calibration=one)
    change = QuantizeInt8("onnxruntime")
    assert "a single image to calibrate on" in (change.applies(alone) or "")
    assert "some tens of images" in (change.applies(alone) or "")
