"""Quantization-aware training: a job whose model computes with int8 rounding while it learns.

NNCF puts its quantizers in and calibrates them on the job's own samples.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any, ClassVar

from saccade.errors import MissingExtraError, SpecError
from saccade.optimize.qat import ENVIRONMENT, plain_module, quantized_module, write_ir
from saccade.optimize.quantization.recipe import Recipe
from saccade.optimize.recipes.pruned import first_samples
from saccade.train.job import TrainingJob

CALIBRATION_SAMPLES = 32
FILE = "model.xml"


class QuantizeRecipe:
    """``quantize`` or ``quantize=2``: layers with weights before an output that stay float."""

    usage: ClassVar[str] = "quantize, or quantize=DEPTH to keep that many last layers float"

    @staticmethod
    def apply(job: TrainingJob, original: TrainingJob, argument: str) -> TrainingJob:
        """The job of the model that rounds to int8.

        Raises:
            SpecError: the argument is no depth.
        """
        if argument and not argument.isdigit():
            raise SpecError(f"'{argument}' is no depth. Expected {QuantizeRecipe.usage}.")
        return quantization_aware(job, int(argument or 0))


def quantization_aware(job: TrainingJob, float_depth: int = 0) -> TrainingJob:
    """The job as a fine-tuning of its quantized model; what is deployed is an OpenVINO IR.

    Args:
        job: whose model begins with trained weights; images in one tensor are its input. Its
            optimizer's learning rate is used: choose a small one.
        float_depth: how many layers with weights before an output stay float.
    """

    def model() -> Any:
        try:
            import nncf  # noqa: F401 - asked before anything is trained
        except ImportError as error:
            raise MissingExtraError("nncf", "openvino", "Quantization-aware training") from error
        # NNCF compiles its quantizers for minutes unless the process says otherwise.
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        found = plain_module(job.model())
        samples = first_samples(job, CALIBRATION_SAMPLES)
        return quantized_module(found, samples.numpy(), Recipe(float_depth=float_depth))

    return dataclasses.replace(job, model=model, export=_export)


def _export(model: Any, example: Any, folder: Path) -> Path:
    write_ir(model, example.numpy(), False, folder / FILE)
    return folder / FILE
