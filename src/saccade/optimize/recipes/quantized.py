"""Quantization-aware training: a job whose model computes with int8 rounding while it learns.

NNCF puts its quantizers in and calibrates them on the job's own samples. It compiles them when
they are first used, which takes minutes, unless the process runs with `saccade.optimize.qat`'s
``ENVIRONMENT``: train in a worker with it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from saccade.errors import MissingExtraError
from saccade.optimize.qat import plain_module, quantized_module
from saccade.optimize.recipes.pruned import first_samples, trained
from saccade.train.job import TrainingJob

CALIBRATION_SAMPLES = 32


def quantization_aware(
    job: TrainingJob, weights: Mapping[str, Any], float_depth: int = 0
) -> TrainingJob:
    """The job as a fine-tuning of its quantized model.

    Args:
        job: that the weights are of; images in one tensor are its input. Its optimizer's learning
            rate is used: choose a small one.
        weights: of the trained model, as ``state_dict`` gives them.
        float_depth: how many convolutions before an output stay float.
    """

    def model() -> Any:
        try:
            import nncf  # noqa: F401 - asked before anything is trained
        except ImportError as error:
            raise MissingExtraError("nncf", "openvino", "Quantization-aware training") from error
        found = plain_module(trained(job, weights))
        samples = first_samples(job, CALIBRATION_SAMPLES)
        return quantized_module(found, samples.numpy(), float_depth)

    return dataclasses.replace(job, model=model)
