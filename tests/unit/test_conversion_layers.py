"""The layer that a conversion got wrong is named, for every format that models become."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from saccade.errors import ModelError
from saccade.models.conversions import (
    onnx_to_ncnn,
    onnx_to_tflite,
    torch_to_executorch,
    torch_to_tflite,
)
from saccade.models.conversions.contract import ConversionRequest
from saccade.models.conversions.layers import ALL_FOUND, Layer, by_name, by_value
from saccade.models.conversions.torch_to_onnx import TorchToOnnx
from saccade.models.files import model_file
from saccade.testing.runtime_conformance import tensor
from saccade.testing.tiny_formats import write_tflite
from saccade.testing.tiny_models import write_tiny
from saccade.testing.tiny_torch import HW, exported, residual_net

TINY_HW = (64, 96)


def noise(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def asked(folder: Path, hw: tuple[int, int]) -> ConversionRequest:
    return ConversionRequest(folder / "models", hw, tensor(0, hw))


class TestByValue:
    """A chain of three with a branch that is right."""

    a, b, c, side = (noise(1, 4, 6, 8) for _ in range(4))

    def layers(self) -> list[Layer]:
        one, two, three = (noise(1, 4, 6, 8 + n) for n in range(3))
        return [
            Layer("stem", one, ("images",)),
            Layer("norm", two, ("stem",)),
            Layer("side", noise(1, 2, 3, 4), ("stem",)),
            Layer("sum", three, ("norm", "side")),
        ]

    def found(self, *names: str) -> list[NDArray[Any]]:
        """Values as an NHWC format has them."""
        return [x.value.transpose(0, 2, 3, 1) for x in self.layers() if x.name in names]

    def test_a_fused_layer_is_not_wrong(self) -> None:
        assert by_value(self.layers(), self.found("norm", "side", "sum")) == ALL_FOUND

    def test_the_first_without_a_right_successor_is_named(self) -> None:
        off = [self.found("norm")[0] * 1.5, self.found("sum")[0] * 1.2]
        said = by_value(self.layers(), [*self.found("stem", "side"), *off])
        assert said.startswith("The first layer whose value it lacks is 'norm', the worst 'norm'")

    def test_a_branch_that_is_right_does_not_hide_it(self) -> None:
        said = by_value(self.layers(), self.found("side"))
        assert "'norm'" in said
        assert "'stem'" not in said

    def test_values_without_a_batch_axis_are_found(self) -> None:
        assert by_value(self.layers(), [x.value[0] for x in self.layers()]) == ALL_FOUND

    def test_what_is_the_same_everywhere_says_nothing(self) -> None:
        layers = [*self.layers(), Layer("zeros", np.zeros((1, 9), np.float32), ("sum",))]
        assert by_value(layers, self.found("stem", "norm", "side", "sum")) == ALL_FOUND


def test_by_name_says_first_and_worst() -> None:
    right = {"a": noise(8), "b": noise(9), "c": noise(10)}
    said = by_name(right, {"a": right["a"], "b": right["b"] * 1.01, "c": right["c"] * 1.5})
    assert said == "The first layer to differ is 'b', the worst 'c' (50.0%)."


class TestExecuTorch:
    @pytest.fixture(autouse=True)
    def installed(self) -> None:
        pytest.importorskip("executorch")

    def test_a_planted_mismatch_names_its_layer(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = exported(residual_net(8), tmp_path / "net.pt2")
        real = torch_to_executorch.lowered
        monkeypatch.setattr(
            torch_to_executorch, "lowered", lambda program, name: real(scaled(program), name)
        )
        with pytest.raises(ModelError, match=r"The first layer to differ is 'conv2d_2'"):
            torch_to_executorch.TorchToExecuTorch.convert(model_file(path), asked(tmp_path, HW))
        assert not list((tmp_path / "models").iterdir())

    def test_what_is_right_knows_its_program(self, tmp_path: Path) -> None:
        path = exported(residual_net(8), tmp_path / "net.pt2")
        convert = torch_to_executorch.TorchToExecuTorch.convert
        made = convert(model_file(path), asked(tmp_path, HW))
        assert made.program == str(path)
        assert convert(model_file(path), asked(tmp_path, HW)) == made


def scaled(program: Any) -> Any:
    """The program as a converter would leave it that gets the depthwise convolution wrong."""
    wrong = copy.deepcopy(program)
    wrong.state_dict["depth.weight"].data.mul_(1.5)
    return wrong


def wrong_onnx(path: Path, target: Path, name: str) -> Path:
    """The same graph with one constant of it scaled."""
    model = onnx.load(str(path))
    for constant in model.graph.initializer:
        if constant.name == name:
            values = numpy_helper.to_array(constant) * np.float32(1.5)
            constant.CopyFrom(numpy_helper.from_array(values, name))
    onnx.save(model, str(target))
    return target


class TestNcnn:
    @pytest.fixture(autouse=True)
    def installed(self) -> None:
        if onnx_to_ncnn.OnnxToNcnn.why_not() is not None:
            pytest.skip(str(onnx_to_ncnn.OnnxToNcnn.why_not()))

    def test_a_planted_mismatch_names_its_layer(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        program = exported(residual_net(8), tmp_path / "net.pt2")
        model = TorchToOnnx.convert(model_file(program), asked(tmp_path, HW))
        graph = onnx.load(model.path)
        wide = [node for node in graph.graph.node if node.op_type == "Conv"][2]
        real = onnx_to_ncnn._converted

        def converted(_: onnx.ModelProto, name: str, hw: tuple[int, int], folder: Path) -> Path:
            wrong = wrong_onnx(Path(model.path), folder / "wrong.onnx", wide.input[1])
            return real(onnx.load(wrong), name, hw, folder)

        monkeypatch.setattr(onnx_to_ncnn, "_converted", converted)
        with pytest.raises(ModelError) as raised:
            onnx_to_ncnn.OnnxToNcnn.convert(model, asked(tmp_path, HW))
        assert f"The first layer whose value it lacks is '{wide.output[0]}'" in str(raised.value)


class TestTflite:
    """Files are written by hand: the converters live in environments of their own."""

    @pytest.fixture(autouse=True)
    def installed(self) -> None:
        pytest.importorskip("ai_edge_litert")

    @staticmethod
    def plant(target: Path, factor: float) -> None:
        """The tiny detector whose convolution is off by a factor."""
        graph = onnx.load(str(write_tiny("onnx", target.parent, TINY_HW)))
        weight, bias = (numpy_helper.to_array(t) for t in list(graph.graph.initializer)[:2])
        write_tflite(target, weight * np.float32(factor), bias, TINY_HW)

    @pytest.mark.parametrize("factor", [1.0, 1.5])
    def test_from_onnx(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factor: float
    ) -> None:
        monkeypatch.setattr(
            onnx_to_tflite, "_write", lambda graph, name, target, hw: self.plant(target, factor)
        )
        model = model_file(write_tiny("onnx", tmp_path, TINY_HW))
        convert = onnx_to_tflite.OnnxToTflite.convert
        if factor == 1:
            assert convert(model, asked(tmp_path, TINY_HW)).format == "tflite"
            return
        with pytest.raises(ModelError, match="value it lacks is 'features', the worst 'features'"):
            convert(model, asked(tmp_path, TINY_HW))
        assert not list((tmp_path / "models").glob("*.draft.tflite"))

    @pytest.mark.parametrize("factor", [1.0, 1.5])
    def test_from_torch(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factor: float
    ) -> None:
        monkeypatch.setattr(
            torch_to_tflite, "_write", lambda model, target, hw: self.plant(target, factor)
        )
        model = model_file(write_tiny("torch_export", tmp_path, TINY_HW))
        convert = torch_to_tflite.TorchToTflite.convert
        if factor == 1:
            assert convert(model, asked(tmp_path, TINY_HW)).program == model.path
            return
        with pytest.raises(ModelError, match="The first layer whose value it lacks is 'conv2d'"):
            convert(model, asked(tmp_path, TINY_HW))


def test_four_dimensional_outputs_keep_their_order(tmp_path: Path) -> None:
    from saccade.models.onnx_run import run_once

    model = onnx.load(str(write_tiny("onnx", tmp_path, TINY_HW)))
    planes = model.graph.node[1].output[0]
    model.graph.output.append(onnx.ValueInfoProto(name=planes))
    feed = {"images": tensor(0, TINY_HW)}
    before = run_once(model, feed)
    wrapped = onnx_to_tflite.with_planes(model, [value.shape for value in before])
    assert [node.op_type for node in wrapped.graph.node].count("Reshape") == 3
    assert [value.name for value in wrapped.graph.output] == ["output0", planes]
    for one, other in zip(before, run_once(wrapped, feed), strict=True):
        np.testing.assert_array_equal(one, other)
