"""int8 for ExecuTorch, by torchao's PT2E flow with XNNPACK's quantizer, in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from saccade.errors import ModelError, first_line
from saccade.models.files import model_file
from saccade.models.torch_lowering import lowered, quiet
from saccade.models.torch_program import read_program
from saccade.optimize.change import PlanContext
from saccade.optimize.quantization.calibration import CalibrationData, calibration_tensors
from saccade.optimize.quantization.checked import check_calibration, spread
from saccade.optimize.quantization.contract import Samples
from saccade.optimize.quantization.make import (
    calibration_data,
    calibration_key,
    details_path,
    write_details,
)
from saccade.optimize.quantization.recipe import Recipe
from saccade.optimize.quantization.torch_activations import observe_program
from saccade.optimize.workshop import workshop
from saccade.pipeline.config import ModelFile, PipelineConfig, digest

# Part of a file's name: raised when the same settings are made in another way.
METHOD = "pt2e 2"
TIMEOUT_S = 900.0
WORKER = "saccade.optimize.executorch_quantization:ExecuTorchQuantizer"


def quantize_executorch(context: PlanContext, program: ModelFile) -> ModelFile:
    """Quantize an exported program and lower it; a file that is already there is used again.

    Args:
        context: with images or video to calibrate on.
        program: the float ``.pt2`` file.

    Raises:
        DataError: the calibration images are too few, or not of the kind the model is used on.
        ModelError: the quantizer or ExecuTorch refused the program.
        RuntimeFailure: there are no frames, or the process failed.
    """
    target = quantized_path(context, program)
    if not details_path(target).exists():
        context.folder.mkdir(parents=True, exist_ok=True)
        write_quantized(context.config, calibration_data(context, Recipe()), program.path, target)
    return replace(model_file(target), stored="int8")


def quantized_path(context: PlanContext, program: ModelFile) -> Path:
    """Where the file is or will be: equal path means equal file."""
    calibrated = calibration_key(context.config, calibration_data(context, Recipe()))
    return context.folder / f"int8-{digest([program.sha256, METHOD, calibrated])}.pte"


def write_quantized(
    config: PipelineConfig, data: CalibrationData, program: str, target: Path
) -> None:
    """Quantize and lower in a process of its own.

    Args:
        config: how the model is fed.
        data: what to calibrate on.
        program: path of the float ``.pt2`` file.
        target: where to write.

    Raises:
        DataError: the calibration images are too few, or not of the kind the model is used on.
        ModelError: the quantizer or ExecuTorch refused the program.
        RuntimeFailure: there are no frames, or the process failed.
    """
    with workshop(WORKER, config.preprocessor) as worker:
        worker.call("run", config, data, program, str(target), timeout_s=TIMEOUT_S)


class ExecuTorchQuantizer:
    """Runs a job. Lives in a worker process, because the libraries are heavy and may fail."""

    def run(self, config: PipelineConfig, data: CalibrationData, program: str, target: str) -> None:
        """Quantize and write the file whole or not at all and, last, the document beside it."""
        samples, path = calibration_tensors(config, data), Path(target)
        doubts = _doubts(config, data, Path(program), samples)
        made = quantized(Path(program), samples)
        draft = path.with_name("partial-" + path.name)
        draft.write_bytes(made)
        draft.replace(path)
        write_details(details_path(path), {"images": len(samples), "doubts": doubts})


def _doubts(
    config: PipelineConfig, data: CalibrationData, program: Path, samples: Samples
) -> list[str]:
    observe = partial(observe_program, read_program(program).module(check_guards=False))
    return check_calibration(config, data, observe(spread(samples)), observe)


def quantized(program: Path, samples: Sequence[NDArray[np.float32]]) -> bytes:
    """The program in int8, symmetric weights per channel, lowered to XNNPACK.

    Args:
        program: a ``.pt2`` file.
        samples: inputs ``(1, 3, H, W)``.

    Raises:
        ModelError: the quantizer or ExecuTorch refused the program.
    """
    import torch

    module = read_program(program).module(check_guards=False)
    inputs = [torch.from_numpy(np.ascontiguousarray(sample)) for sample in samples]
    try:
        with quiet(), torch.no_grad():
            from executorch.backends.xnnpack.quantizer import xnnpack_quantizer
            from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

            settings = xnnpack_quantizer.get_symmetric_quantization_config(is_per_channel=True)
            tool = xnnpack_quantizer.XNNPACKQuantizer().set_global(settings)
            observed = prepare_pt2e(module, tool)
            for image in inputs:
                observed(image)
            exported = torch.export.export(convert_pt2e(observed), (inputs[0],))
    except Exception as error:
        raise ModelError(
            f"{program.name} cannot be quantized for ExecuTorch: {first_line(error)}. It still "
            "runs in float; or quantize it for another runtime."
        ) from error
    return lowered(exported, program.name)
