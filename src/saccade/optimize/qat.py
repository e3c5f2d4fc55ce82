"""Quantization-aware training: weights that learn to live with int8, the last rung of the ladder.

NNCF puts its quantizers into the PyTorch model that the file came from, calibrated as after
training; then weights and ranges are trained together with the float model as the teacher, and
the result becomes an OpenVINO IR, or ONNX for ONNX Runtime, like that of any other rung.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.errors import RuntimeFailure, first_line
from saccade.models.conversions.contract import program_of
from saccade.optimize.distill import Distillation, Lesson, TrainingFrames, distill
from saccade.optimize.quantization.nncf_call import post_training
from saccade.optimize.quantization.recipe import Recipe
from saccade.optimize.worker import Worker
from saccade.pipeline.config import PipelineConfig

# Small steps: the weights are good, only their rounding is not. Attention maps of a quantized
# model differ by rounding alone, so answers are all that is learnt from.
# Statistics of normalization belong to the float weights, whose rounding is not theirs to repair.
TEACHING = Distillation(learning_rate=3e-5, attention_weight=0.0, batch=4, statistics=False)
# Ranges are trained as well, and a frame takes NNCF's PyTorch operators up to seconds.
CALIBRATION_FRAMES = 16
TIMEOUT_S = 300.0
TRAINER = "saccade.optimize.qat:QuantizedTrainer"
# NNCF compiles its quantizers when they are first used, which takes minutes and a compiler; where
# there is none it falls back on PyTorch's own operators. So none is offered, and PyTorch is kept
# from compiling those operators anew for every layer's shape.
ENVIRONMENT = {"CXX": "no-compiler", "TORCHDYNAMO_DISABLE": "1"}
# What NNCF calls layers with weights; a product of two activations is a "matmul".
KINDS = ("conv1d", "conv2d", "conv3d", "conv_transpose2d", "linear")


@dataclass(frozen=True)
class Written:
    """What becomes of a trained model.

    Attributes:
        runtime: that the file is for, one of `WRITERS`.
        input_name: of the model's input, which ONNX keeps.
        free: whether the file takes every height and width.
    """

    runtime: str = "openvino"
    input_name: str = "images"
    free: bool = False


class NncfTrainer:
    """Trains models that came from PyTorch; a plug-in of the repair ladder."""

    @staticmethod
    def why_not(config: PipelineConfig, runtime: str) -> str | None:
        """None where it can train this configuration's model for a runtime, else why it cannot."""
        from importlib.util import find_spec

        if runtime not in WRITERS:
            return f"what it trains can be written for {' and '.join(WRITERS)}, not for {runtime}"
        program = program_of(config.model)
        if program is None or not Path(program).is_file():
            return (
                "the model does not come straight from a PyTorch program; give it as torch to "
                "open this rung"
            )
        missing = [name for name in ("torch", "nncf", "openvino") if find_spec(name) is None]
        if missing:
            return f"{' and '.join(missing)} not installed (pip install 'saccade[torch,openvino]')"
        return None

    @staticmethod
    def quantize(
        config: PipelineConfig,
        samples: Sequence[NDArray[np.float32]],
        recipe: Recipe,
        runtime: str,
        target: Path,
    ) -> None:
        """Train on calibration inputs, with the float model as teacher, and write the file.

        Raises:
            RuntimeFailure: NNCF or the runtime refused the model.
        """
        program = program_of(config.model)
        assert program is not None  # `why_not` has looked
        alike = [sample for sample in samples if sample.shape == samples[0].shape]
        frames = TrainingFrames(np.concatenate(alike))
        shape = config.description.input
        file = Written(runtime, shape.name, shape.dynamic)
        train_int8(program, frames, recipe, TEACHING, file, target)


def train_int8(
    program: str | Path,
    frames: TrainingFrames,
    recipe: Recipe,
    settings: Distillation,
    file: Written,
    target: Path,
) -> Lesson:
    """Train a program for int8 in a process of its own and write it for a runtime.

    Args:
        program: the exported program.
        frames: what it is calibrated on and learns from.
        recipe: what stays float.
        settings: how it is taught.
        file: what is written.
        target: the ``.onnx`` file, or the ``.xml`` file, whose weights go beside it.

    Raises:
        RuntimeFailure: NNCF or OpenVINO refused it.
    """
    with Worker(TRAINER, (str(program),), environment=ENVIRONMENT) as worker:
        lesson: Lesson = worker.call(
            "run",
            frames,
            recipe,
            settings,
            file,
            str(target),
            timeout_s=settings.budget_s + TIMEOUT_S,
        )
    return lesson


class QuantizedTrainer:
    """Quantizes and trains one program. Lives in a worker process: NNCF is heavy and may fail."""

    def __init__(self, program: str) -> None:
        from saccade.models.torch_layers import with_layers
        from saccade.models.torch_program import read_program

        self._module = with_layers(read_program(program))

    def run(
        self,
        frames: TrainingFrames,
        recipe: Recipe,
        settings: Distillation,
        file: Written,
        target: str,
    ) -> Lesson:
        """Quantize, train, and write the file whole or not at all; see `train_int8`."""
        teacher = plain_module(self._module)
        # ONNX Runtime has no int8 kernels for activations with a range per channel.
        per_tensor = file.runtime == "onnxruntime"
        few = frames.tensors[:CALIBRATION_FRAMES]
        student = quantized_module(teacher, few, recipe, per_tensor)
        lesson = distill(student, teacher, frames, settings)
        WRITERS[file.runtime](student, frames.tensors[:1], file, Path(target))
        return lesson


def plain_module(module: Any) -> Any:
    """The module in one that NNCF takes for PyTorch's, not for an exported graph."""
    import torch

    class Plain(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, image: Any) -> Any:
            return self.inner(image)

    return Plain().eval()


def quantized_module(module: Any, tensors: Any, recipe: Recipe, per_tensor: bool = False) -> Any:
    """A module with NNCF's quantizers, calibrated.

    Args:
        module: an ``nn.Module`` with one input, in ``eval`` mode.
        tensors: ``(N, 3, H, W)`` float32, to calibrate on.
        recipe: what stays float.
        per_tensor: activations of depthwise layers have one range as well, not one per channel.

    Raises:
        RuntimeFailure: NNCF refused it.
    """
    import torch

    samples = [torch.from_numpy(tensor[None]) for tensor in tensors]
    ignored = float_layers(module, samples[0], recipe.float_depth)
    return post_training(module, samples, recipe, ignored, per_tensor=per_tensor)


def float_layers(module: Any, example: Any, depth: int) -> list[str]:
    """NNCF's names of what lies fewer than ``depth`` layers with weights before an output."""
    if not depth:
        return []
    from nncf.torch.function_hook import wrap_model
    from nncf.torch.function_hook.nncf_graph.nncf_graph_builder import build_nncf_graph

    graph = build_nncf_graph(wrap_model(copy.deepcopy(module)), example)
    seen: dict[str, int] = {}
    queue = [(node, 0) for node in graph.get_output_nodes()]
    while queue:
        node, passed = queue.pop()
        if passed >= depth or seen.get(node.node_name, depth) <= passed:
            continue
        seen[node.node_name] = passed
        step = node.node_type in KINDS
        queue += [(before, passed + step) for before in graph.get_previous_nodes(node)]
    return sorted(seen)


def write_ir(module: Any, example: Any, free: bool, target: Path) -> None:
    """Save the trained model as an IR, in a fixed shape unless the sides were free.

    Raises:
        RuntimeFailure: OpenVINO cannot take it.
    """
    import warnings

    import openvino as ov
    import torch

    sides = (-1, -1) if free else example.shape[2:]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the trace holds for the shape that it is made for
            model = ov.convert_model(
                module.eval(), example_input=torch.from_numpy(example), input=[1, 3, *sides]
            )
    except Exception as error:
        raise RuntimeFailure(f"OpenVINO refused the model: {first_line(error)}") from error
    partial = target.with_name("partial-" + target.name)
    ov.save_model(model, str(partial), compress_to_fp16=False)
    partial.with_suffix(".bin").replace(target.with_suffix(".bin"))
    partial.replace(target)


def _as_ir(module: Any, example: Any, file: Written, target: Path) -> None:
    write_ir(module, example, file.free, target)


def _as_qdq(module: Any, example: Any, file: Written, target: Path) -> None:
    from saccade.optimize.qat_onnx import write_qdq

    write_qdq(module, example, file.input_name, file.free, target)


WRITERS: Mapping[str, Callable[[Any, Any, Written, Path], None]] = {
    "openvino": _as_ir,
    "onnxruntime": _as_qdq,
}
