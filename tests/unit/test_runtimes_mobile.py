"""What is special about LiteRT, ncnn and ExecuTorch; the contract is checked by the suite."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from saccade.errors import RuntimeFailure
from saccade.models.description import Preprocessing
from saccade.models.files import model_file
from saccade.pipeline.config import RuntimeOptions
from saccade.runtimes.contract import Runtime, Session, SessionRequest
from saccade.runtimes.litert import LiteRt
from saccade.runtimes.ncnn import Ncnn
from saccade.runtimes.pixel_input import normalized, quantized_table, to_planes, to_steps
from saccade.testing.runtime_conformance import tensor
from saccade.testing.tiny_models import reference, write_tiny

HW = (64, 96)
IMAGENET = Preprocessing("rgb", 1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def opened(
    runtime: type[Runtime],
    path: Path,
    hw: tuple[int, int] | None = HW,
    options: RuntimeOptions | None = None,
    pre: Preprocessing | None = None,
) -> Session:
    options = options or RuntimeOptions()
    return runtime.open(SessionRequest(model_file(path), hw, options, "images", pre))


class TestLiteRt:
    @pytest.fixture(autouse=True)
    def installed(self) -> None:
        pytest.importorskip("ai_edge_litert")

    def test_an_input_is_resized_where_the_graph_allows_it(self, tmp_path: Path) -> None:
        path = write_tiny("tflite", tmp_path)
        session = opened(LiteRt, path, (32, 32))
        for hw in ((32, 32), (64, 96)):
            image = tensor(1, hw)
            assert session.infer(image)[0] == pytest.approx(reference(image), abs=1e-3)

    def test_a_size_that_the_graph_refuses_is_named(self, tmp_path: Path) -> None:
        """Zero rows cannot be convolved; the session still works afterwards."""
        path = write_tiny("tflite", tmp_path, HW)
        with pytest.raises(RuntimeFailure, match=r"does not take \(1, 4, 4, 3\).*Convert it again"):
            opened(LiteRt, path, (4, 4))
        session = opened(LiteRt, path)
        with pytest.raises(RuntimeFailure, match="Convert it again"):
            session.infer(tensor(1, (4, 4)))
        image = tensor(2, HW)
        assert session.infer(image)[0] == pytest.approx(reference(image), abs=1e-3)

    def test_bf16_is_refused(self, tmp_path: Path) -> None:
        path = write_tiny("tflite", tmp_path, HW)
        with pytest.raises(RuntimeFailure, match="no bf16"):
            opened(LiteRt, path, options=RuntimeOptions("bf16"))

    def test_another_format_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(RuntimeFailure, match="onnx format"):
            opened(LiteRt, write_tiny("onnx", tmp_path))

    @pytest.mark.parametrize("ports", ["int8", "float"])
    def test_full_integer_models_answer_nearly_the_same(self, tmp_path: Path, ports: str) -> None:
        pytest.importorskip("ai_edge_quantizer")
        from saccade.optimize.litert_calibrated import Calibrated, float_operators
        from saccade.optimize.litert_recipe import LiteRtRecipe

        float_file = write_tiny("tflite", tmp_path, HW)
        samples = [tensor(seed, HW) for seed in range(4)]
        path = tmp_path / "int8.tflite"
        recipe = LiteRtRecipe(ports, "widest")  # type: ignore[arg-type]
        path.write_bytes(Calibrated.of(float_file, samples, recipe).quantized(recipe))
        assert float_operators(float_file)
        assert float_operators(path) == []
        assert path.stat().st_size < float_file.stat().st_size
        exact = reference(samples[0])
        found = opened(LiteRt, path).infer(samples[0])[0]
        assert found.dtype == np.float32
        assert np.abs(found - exact).max() < 0.02 * exact.max()

    def test_pixels_reach_an_int8_input_as_floats_would(self, tmp_path: Path) -> None:
        pytest.importorskip("ai_edge_quantizer")
        from saccade.optimize.litert_calibrated import Calibrated
        from saccade.optimize.litert_recipe import LiteRtRecipe

        pixels = np.random.default_rng(0).integers(0, 256, (1, *HW, 3), np.uint8)
        planes = to_planes(pixels, IMAGENET)
        path = tmp_path / "int8.tflite"
        recipe = LiteRtRecipe("int8")
        made = Calibrated.of(write_tiny("tflite", tmp_path, HW), [planes], recipe)
        path.write_bytes(made.quantized(recipe))
        by_pixels = opened(LiteRt, path, pre=IMAGENET).infer(pixels)[0]
        by_floats = opened(LiteRt, path).infer(planes)[0]
        assert np.array_equal(by_pixels, by_floats)


class TestNcnn:
    @pytest.fixture(autouse=True)
    def installed(self) -> None:
        pytest.importorskip("ncnn")

    def test_bf16_storage_rounds(self, tmp_path: Path) -> None:
        path = write_tiny("ncnn", tmp_path)
        image = tensor(1, HW)
        exact = reference(image)
        found = opened(Ncnn, path, options=RuntimeOptions("bf16")).infer(image)[0]
        assert 0 < np.abs(found - exact).max() < 0.02 * exact.max()

    def test_weights_cut_short_are_refused(self, tmp_path: Path) -> None:
        path = write_tiny("ncnn", tmp_path)
        weights = path.with_suffix(".bin")
        weights.write_bytes(weights.read_bytes()[:100])
        with pytest.raises(RuntimeFailure, match="both files have to come from one conversion"):
            opened(Ncnn, path)

    def test_a_graph_cut_short_is_refused(self, tmp_path: Path) -> None:
        path = write_tiny("ncnn", tmp_path)
        path.write_text("\n".join(path.read_text().splitlines()[:-1]))
        with pytest.raises(RuntimeFailure, match="3 layers and has 2"):
            opened(Ncnn, path)

    def test_both_files_count(self, tmp_path: Path) -> None:
        path = write_tiny("ncnn", tmp_path)
        before = model_file(path)
        assert before.format == "ncnn"
        assert before.weights == str(path.with_suffix(".bin"))
        path.with_suffix(".bin").write_bytes(b"other")
        assert model_file(path).sha256 != before.sha256


def test_pixels_by_plane_and_by_pixel_are_the_same() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1, 5, 7, 3), np.uint8)
    by_pixel = normalized(pixels, IMAGENET)
    assert by_pixel.transpose(0, 3, 1, 2) == pytest.approx(to_planes(pixels, IMAGENET), abs=1e-6)


def test_a_table_holds_what_every_pixel_becomes() -> None:
    table = quantized_table(IMAGENET, 0.02, -10, np.int8)
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 1, 256, 1).repeat(3, 3)
    steps = to_steps(normalized(pixels, IMAGENET), 0.02, -10, np.int8)
    assert np.array_equal(table, steps[0, 0].T)


def test_steps_are_held_within_their_type() -> None:
    values = np.array([-100, 0, 0.26, 100], np.float32)
    assert to_steps(values, 0.5, 3, np.int8).tolist() == [-128, 3, 4, 127]
