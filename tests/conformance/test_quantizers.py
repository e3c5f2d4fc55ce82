"""Every quantizer of the table: what it writes runs, and answers like the original."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from saccade import plugins
from saccade.models.files import model_file
from saccade.optimize.quantization.activations import float_session, observe
from saccade.optimize.quantization.contract import Quantizer
from saccade.optimize.quantization.equalize import equalized
from saccade.optimize.quantization.kept_float import worst
from saccade.optimize.quantization.layers import layers
from saccade.optimize.quantization.make import quantized_model
from saccade.optimize.quantization.recipe import Recipe
from saccade.optimize.quantization.sensitivity import measure
from saccade.pipeline.config import RuntimeOptions
from saccade.runtimes.contract import SessionRequest
from saccade.testing.tiny_depthwise import SIZE, textures, tiny_depthwise
from saccade.testing.wide_ranges import pairs, widen

NAMES = plugins.names("quantizers")
SAMPLES, UNSEEN = textures(12), textures(40, seed=9)
FACTOR = 2000.0
# Share of what one setting breaks that the ladder's rungs have to win back.
RECOVERED = 0.8

Outputs = NDArray[np.float32]


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    missing = plugins.load("quantizers", request.param).missing()
    if missing is not None:
        pytest.skip(f"{missing} is not installed")
    return str(request.param)


def answers(name: str, recipe: Recipe, folder: Path, wide: bool, kept: tuple[str, ...]) -> Outputs:
    """What the quantized model says in its runtime, ``(40, classes)``."""
    quantizer: Quantizer = plugins.load("quantizers", name)
    model = tiny_depthwise()
    if wide:
        chosen = [pair for pair in pairs(model) if pair.second in ("project1", "project2")]
        model = widen(model, chosen, FACTOR)
    if recipe.equalized:
        model, _ = equalized(model, observe(model, SAMPLES))
    if recipe.sensitive != "none":
        ranked = measure(model, SAMPLES, observe(model, SAMPLES), quantizer.scheme)
        kept = tuple(item.node for item in worst(ranked, 0.99, 0.4))
    target = folder / f"int8{quantizer.suffix}"
    quantizer.quantize(model, SAMPLES, recipe, kept, target)
    assert not list(folder.glob("partial-*"))
    request = SessionRequest(quantized_model(target), (SIZE, SIZE), RuntimeOptions(), "images")
    session = plugins.load("runtimes", quantizer.runtime).open(request)
    try:
        return np.concatenate([np.array(session.infer(sample)[0]) for sample in UNSEEN])
    finally:
        session.close()


def exact() -> Outputs:
    session = float_session(tiny_depthwise())
    return np.concatenate([session.run(None, {"images": sample})[0] for sample in UNSEEN])


def error(found: Outputs) -> float:
    """Noise over signal."""
    right = exact()
    return float(np.square(found - right).sum() / np.square(right).sum())


def disagreement(found: Outputs) -> float:
    return float((found.argmax(axis=1) != exact().argmax(axis=1)).mean())


@pytest.mark.parametrize("estimator", ["", "min_max", "percentile", "mse", "entropy"])
def test_every_estimator_stays_close_to_the_float_model(
    name: str, estimator: str, tmp_path: Path
) -> None:
    if estimator and estimator not in plugins.load("quantizers", name).estimators:
        pytest.skip(f"{name} has no {estimator}")
    found = answers(name, Recipe(estimator=estimator), tmp_path, False, ())  # type: ignore[arg-type]
    assert 0 < error(found) < 0.05


def test_what_is_kept_float_is_float(name: str, tmp_path: Path) -> None:
    every = tuple(layer.node for layer in layers(tiny_depthwise()))
    some = error(answers(name, Recipe(), tmp_path, False, ()))
    none = error(answers(name, Recipe(float_depth=1), tmp_path, False, every))
    assert none < 0.2 * some


@pytest.mark.parametrize(
    "recipe",
    [Recipe(equalized=True), Recipe(sensitive="skip")],
    ids=lambda recipe: recipe.label,
)
def test_a_rung_repairs_what_wide_ranges_break(name: str, recipe: Recipe, tmp_path: Path) -> None:
    broken = disagreement(answers(name, Recipe(), tmp_path, True, ()))
    repaired = disagreement(answers(name, recipe, tmp_path, True, ()))
    assert broken >= 0.3
    assert broken - repaired >= RECOVERED * broken


def test_the_file_is_a_model_file(name: str, tmp_path: Path) -> None:
    answers(name, Recipe(bias_correction=True), tmp_path, False, ())
    suffix = plugins.load("quantizers", name).suffix
    found = quantized_model(tmp_path / f"int8{suffix}")
    assert found.quantized
    assert model_file(found.path).format == found.format
