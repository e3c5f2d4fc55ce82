"""Changes of weights go back to the float model, and what had been rounded is rounded again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from test_pruning import QUICK, compute_bound

from saccade.optimize.change import PlanContext
from saccade.optimize.changes.fp16_weights import StoreFp16
from saccade.optimize.changes.int8 import QuantizeInt8
from saccade.optimize.changes.int8_weights import CompressWeights
from saccade.optimize.changes.prune import Prune
from saccade.optimize.float_model import (
    float_config,
    float_context,
    rounded_again,
    why_not_rounded_again,
)
from saccade.optimize.float_versions import float_document, last_exact, last_float, last_unquantized
from saccade.optimize.pruning import pruned, pruned_float
from saccade.optimize.quantization.recipe import Recipe
from saccade.pipeline.config import PipelineConfig
from saccade.runtimes.contract import Availability
from saccade.study import Trial
from saccade.testing.tiny_torch import classifier_context, exported, residual_net

pytest.importorskip("torch")
pytest.importorskip("torch_pruning")
pytest.importorskip("onnxscript")

RUNTIME = "onnxruntime"
RECIPE = Recipe(estimator="min_max", bias_correction=True)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> PlanContext:
    folder = tmp_path_factory.mktemp("float")
    program = exported(residual_net(), folder / "net.pt2")
    offered = {RUNTIME: Availability(True, "1", "CPU", precisions=("fp32", "int8"))}
    context = classifier_context(folder, program, RUNTIME)
    return replace(context, runtimes=offered, unquantized=context.config)


@pytest.fixture(scope="module")
def quantized(plain: PlanContext) -> PlanContext:
    """The search after it has kept int8."""
    return replace(plain, config=QuantizeInt8(RUNTIME, RECIPE).apply(plain))


@pytest.fixture(scope="module")
def compressed(plain: PlanContext) -> PlanContext:
    """The search after it has kept int8 weights for a goal of size."""
    missed = replace(plain, missed=frozenset({"model_mb"}))
    return replace(plain, config=CompressWeights().apply(missed))


def test_int8_can_follow_int8_weights(compressed: PlanContext) -> None:
    assert compressed.config.model.stored == "int8_weights"
    change = QuantizeInt8(RUNTIME, RECIPE)
    assert change.applies(compressed) is None
    assert change.apply(compressed).model.stored == "int8"
    alone = replace(compressed, unquantized=None)
    assert change.applies(alone) == "the model's weights are stored as int8_weights"


def test_a_float_model_is_taken_as_it_is(plain: PlanContext, quantized: PlanContext) -> None:
    assert float_config(plain) == plain.config
    assert float_context(plain) is plain
    assert rounded_again(plain, plain.config) == plain.config
    before = float_context(quantized)
    assert before is not None and before.config.model == plain.config.model


@pytest.mark.slow
def test_pruning_starts_from_the_float_model_and_rounds_again(
    plain: PlanContext, quantized: PlanContext
) -> None:
    assert Prune(0.5).applies(quantized) is None
    after = pruned(quantized, 0.5, compute_bound_by_program, QUICK)
    assert after.model.stored == "int8"
    assert after.model.sha256 != quantized.config.model.sha256
    assert after.model.size_mb < quantized.config.model.size_mb
    before = pruned_float(quantized, 0.5, compute_bound_by_program, QUICK)
    assert before.model.stored == "fp32" and before.model.program is not None
    # The same recipe, on the pruned model.
    again = QuantizeInt8(RUNTIME, RECIPE).apply(replace(plain, config=before, unquantized=before))
    assert again == after


def test_int8_weights_are_made_again(compressed: PlanContext) -> None:
    after = pruned(compressed, 0.5, compute_bound_by_program, QUICK)
    assert after.model.stored == "int8_weights"
    assert after.model.size_mb < compressed.config.model.size_mb


def test_a_file_whose_making_is_not_on_record_is_left_alone(
    quantized: PlanContext, tmp_path: Path
) -> None:
    copy = tmp_path / "int8.onnx"
    copy.write_bytes(Path(quantized.config.model.path).read_bytes())
    model = replace(quantized.config.model, path=str(copy))
    foreign = replace(quantized, config=replace(quantized.config, model=model))
    assert "not on record" in (why_not_rounded_again(foreign) or "")
    assert "not on record" in (Prune(0.5).applies(foreign) or "")
    unknown = replace(quantized, unquantized=None)
    assert "no float model is known" in (why_not_rounded_again(unknown) or "")


def test_the_float_version_of_a_rounded_change_is_remembered(
    plain: PlanContext, quantized: PlanContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the next int8 file would be made of the model before it was pruned."""
    before = pruned_float(quantized, 0.5, compute_bound_by_program, QUICK)
    after = rounded_again(quantized, before)
    monkeypatch.setattr(Prune, "unrounded", lambda *_: before)
    document = float_document(Prune(0.5), after, quantized)
    assert document == before.to_dict()
    assert float_document(Prune(0.5), before, plain) is None
    assert float_document(QuantizeInt8(RUNTIME), after, plain) is None
    trials = [kept(quantized.config), replace(kept(after), float_config=document)]
    trials.append(kept(replace(after, execution="overlapped")))
    assert last_float(plain.config, trials).model == before.model
    assert last_unquantized(plain.config, trials).model == before.model
    assert last_float(plain.config, trials[:1]) == plain.config
    through_json = [Trial.from_dict(trial.to_dict()) for trial in trials]
    assert last_float(plain.config, through_json) == before


def test_what_is_stored_as_fp16_is_quantized_from_what_was_trained(plain: PlanContext) -> None:
    """Its program is known, so that the rung of training is open, and nothing is rounded twice."""
    halved = StoreFp16().apply(plain)
    trials = [kept(plain.config), kept(halved), kept(replace(halved, execution="overlapped"))]
    assert last_exact(plain.config, trials) == plain.config
    assert last_float(plain.config, trials).model == halved.model
    found = float_config(replace(plain, config=halved, unquantized=plain.config))
    assert found is not None
    assert found.model.program == plain.config.model.program
    assert float_config(replace(plain, config=halved, unquantized=halved)) == halved
    assert float_config(replace(plain, config=halved, unquantized=None)) == halved


def test_after_a_swap_the_old_model_is_no_float_version_of_the_new(plain: PlanContext) -> None:
    own = replace(plain.config, model=replace(plain.config.model, stored="fp16", path="other"))
    swap = replace(kept(own), name="model_swap")
    assert last_exact(plain.config, [kept(plain.config), swap, kept(own)]) == own


def test_pruned_weights_are_stored_again_as_they_were(plain: PlanContext) -> None:
    halved = replace(plain, config=StoreFp16().apply(plain))
    again = rounded_again(halved, plain.config)
    assert (again.model.stored, again.model.sha256) == ("fp16", halved.config.model.sha256)
    assert rounded_again(plain, plain.config) == plain.config


def test_int8_weights_count_as_float_arithmetic_only(compressed: PlanContext) -> None:
    trials = [kept(compressed.config)]
    assert compressed.unquantized is not None
    assert last_unquantized(compressed.unquantized, trials) == compressed.config
    assert last_float(compressed.unquantized, trials) == compressed.unquantized


def kept(config: PipelineConfig) -> Trial:
    return Trial(1, 0, "x", "x", config.to_dict(), config.hash, "", "better", "", kept=True)


def compute_bound_by_program(context: PlanContext, changed: PipelineConfig):  # type: ignore[no-untyped-def]
    """Candidates must race the float model: an int8 file would look like the smaller one."""
    assert context.config.model.stored == "fp32"
    return compute_bound(context, changed)
