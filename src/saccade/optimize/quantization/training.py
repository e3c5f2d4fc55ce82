"""The last rung: training with rounding in place, by plug-ins ``quantization_trainers``.

A trainer knows how to train one kind of model. The rung is open where one of them takes the model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from saccade import plugins
from saccade.optimize.quantization.contract import Samples
from saccade.optimize.quantization.recipe import Recipe
from saccade.pipeline.config import PipelineConfig


class QuantizationTrainer(Protocol):
    """Trains a model with rounding in place and writes the int8 file for a runtime."""

    @staticmethod
    def why_not(config: PipelineConfig, runtime: str) -> str | None:
        """None where it can train this configuration's model for a runtime, else why it cannot."""
        ...

    @staticmethod
    def quantize(
        config: PipelineConfig, samples: Samples, recipe: Recipe, runtime: str, target: Path
    ) -> None:
        """Train on calibration inputs, with the float model as teacher, and write the file.

        Raises:
            RuntimeFailure: training failed.
        """
        ...


def why_not_trained(config: PipelineConfig, runtime: str) -> str | None:
    """None where a trainer takes the model and writes for the runtime, else what is missing."""
    reasons = []
    for name in plugins.names("quantization_trainers"):
        trainer: QuantizationTrainer = plugins.load("quantization_trainers", name)
        reason = trainer.why_not(config, runtime)
        if reason is None:
            return None
        reasons.append(f"{name}: {reason}")
    said = "; ".join(reasons) or "there is no trainer"
    return f"needs a torch model, and a trainer that writes for {runtime} ({said})"


def train(
    config: PipelineConfig, samples: Samples, recipe: Recipe, runtime: str, target: Path
) -> None:
    """Let the first trainer that takes the model write the int8 file.

    Raises:
        StopIteration: no trainer takes it; ask `why_not_trained` before.
    """
    loaded = (
        plugins.load("quantization_trainers", name)
        for name in plugins.names("quantization_trainers")
    )
    trainer: QuantizationTrainer = next(t for t in loaded if t.why_not(config, runtime) is None)
    trainer.quantize(config, samples, recipe, runtime, target)
