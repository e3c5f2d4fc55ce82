"""int8 for PyTorch on x86: torchao's PT2E flow with the quantizer of PyTorch's own compiler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from saccade.errors import ModelError, first_line
from saccade.models.files import model_file
from saccade.models.torch_lowering import quiet
from saccade.models.torch_nms import DOCUMENT, read_suppressing
from saccade.optimize.change import PlanContext
from saccade.optimize.quantization.calibration import CalibrationData, calibration_tensors
from saccade.optimize.quantization.checked import check_calibration, spread
from saccade.optimize.quantization.contract import Samples
from saccade.optimize.quantization.kept_float import kept_float
from saccade.optimize.quantization.make import (
    calibration_data,
    calibration_key,
    details_path,
    ranked_or_cached,
    write_details,
)
from saccade.optimize.quantization.overflow import products_overflow
from saccade.optimize.quantization.recipe import Estimator, Recipe
from saccade.optimize.quantization.sensitivity import BUDGET_S, SHOWN_S
from saccade.optimize.quantization.torch_activations import observe_program
from saccade.optimize.torch_sensitivity import measure, output_layers
from saccade.optimize.workshop import workshop
from saccade.pipeline.config import ModelFile, PipelineConfig, digest

# Part of a file's name: raised when the same settings are made in another way.
METHOD = "pt2e x86 1"
TIMEOUT_S = 900.0
WORKER = "saccade.optimize.torch_quantization:TorchQuantizer"
# Ranges, the default first; "mse" searches histograms, which takes several times as long.
ESTIMATORS: tuple[Estimator, ...] = ("mean_min_max", "min_max", "mse")
FULL, REDUCED = 255, 127
# What nodes say about where they came from, which would be a tenth of a file.
_ORIGINS = ("stack_trace", "from_node", "nn_module_stack", "source_fn_stack", "torch_fn")


@dataclass(frozen=True)
class TorchJob:
    """What to quantize, how, and on what.

    Attributes:
        config: how the model is fed; its model is the float ``.pt2`` file.
        recipe: how; what torchao does not know of it was refused before.
        data: what to calibrate on.
        levels: steps of an activation's range.
        cache: file for the measured sensitivity, which several recipes share.
    """

    config: PipelineConfig
    recipe: Recipe
    data: CalibrationData
    levels: int
    cache: Path


def activation_levels() -> int:
    """Steps of an activation's range on this machine: sums of two products overflow at 8 bits."""
    return REDUCED if products_overflow() else FULL


def quantize_torch(context: PlanContext, recipe: Recipe) -> ModelFile:
    """The context's program in int8; a file that is already there is used again.

    Raises:
        DataError: the calibration images are too few, or not of the kind the model is used on.
        ModelError: torchao refused the program.
        RuntimeFailure: there are no frames, or the process failed.
    """
    target = quantized_path(context, recipe)
    if not details_path(target).exists():
        context.folder.mkdir(parents=True, exist_ok=True)
        usual = calibration_key(context.config, calibration_data(context, Recipe()))
        ranked = digest([context.config.model.sha256, METHOD, activation_levels(), usual])
        job = TorchJob(
            context.config,
            recipe,
            calibration_data(context, recipe),
            activation_levels(),
            context.folder / f"sensitivity-{ranked}.json",
        )
        with workshop(WORKER, context.config.preprocessor) as worker:
            worker.call("run", job, str(target), timeout_s=TIMEOUT_S)
    return replace(model_file(target), stored="int8")


def quantized_path(context: PlanContext, recipe: Recipe) -> Path:
    """Where the file is or will be: equal path means equal file."""
    calibrated = calibration_key(context.config, calibration_data(context, recipe))
    key = [context.config.model.sha256, METHOD, activation_levels(), asdict(recipe), calibrated]
    return context.folder / f"int8-{digest(key)}.pt2"


class TorchQuantizer:
    """Runs a job. Lives in a worker process, because the libraries are heavy and may fail."""

    def run(self, job: TorchJob, target: str) -> None:
        """Quantize and write the file whole or not at all and, last, the document beside it."""
        samples, path = calibration_tensors(job.config, job.data), Path(target)
        program, suppression = read_suppressing(job.config.model.path)
        module = program.module(check_guards=False)
        observe = partial(observe_program, module)
        doubts = check_calibration(job.config, job.data, observe(spread(samples)), observe)
        needed = job.recipe.sensitive != "none"
        how = (BUDGET_S, True) if needed else (SHOWN_S, False)
        measured = partial(measure, module, samples, job.levels, *how)
        ranked = ranked_or_cached(job.cache, measured)
        kept = kept_float(job.recipe.sensitive, ranked)
        outputs = output_layers(module, job.recipe.float_depth)
        made = quantized(module, samples, job.recipe, [*kept, *outputs], job.levels)
        beside = {DOCUMENT: suppression.to_json()} if suppression is not None else None
        _save(made, path, beside)
        document = {
            "recipe": job.recipe.label,
            "images": len(samples),
            "activation_levels": job.levels,
            "float_layers": kept,
            "sensitivity": [asdict(item) for item in ranked],
            "doubts": doubts,
        }
        write_details(details_path(path), document)


def quantized(
    module: Any, samples: Samples, recipe: Recipe, kept: Sequence[str], levels: int = FULL
) -> Any:
    """The exported program of a module with roundings in it, for one input size.

    Args:
        module: the ``torch.fx.GraphModule`` of the float program; it is changed.
        samples: inputs ``(1, 3, H, W)`` of one size.
        recipe: how ranges are told.
        kept: names of nodes that stay float.
        levels: steps of an activation's range.

    Raises:
        ModelError: torchao refused the program.
    """
    import torch

    inputs = [torch.from_numpy(np.ascontiguousarray(sample)) for sample in samples]
    try:
        with quiet(), torch.no_grad():
            from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

            observed = prepare_pt2e(module, _quantizer(recipe, frozenset(kept), levels))
            for image in inputs:
                observed(image)
            converted = convert_pt2e(observed)
            # Float weights that nobody reads any more would be written as well.
            alone = torch.fx.GraphModule(converted, converted.graph)
            return torch.export.export(alone, (inputs[0],))
    except Exception as error:  # torchao's exceptions share no base
        raise ModelError(
            f"torchao cannot quantize the program: {first_line(error)}. It still runs in float; "
            "or quantize it for another runtime."
        ) from error


def _quantizer(recipe: Recipe, kept: frozenset[str], levels: int) -> Any:
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    annotation = "quantization_annotation"

    class Keeping(x86.X86InductorQuantizer):  # type: ignore[misc]
        """Leaves named nodes as they are; what is added to their outputs as well."""

        def annotate(self, model: Any) -> Any:
            annotated = super().annotate(model)
            for node in annotated.graph.nodes:
                if node.name in kept:
                    for one in (node, *node.users):
                        one.meta.pop(annotation, None)
            return annotated

    usual = x86.get_default_x86_inductor_quantization_config(reduce_range=levels == REDUCED)
    spec = _with_ranges(usual.input_activation, recipe.estimator or ESTIMATORS[0])
    return Keeping().set_global(replace(usual, input_activation=spec, output_activation=spec))


def _with_ranges(spec: Any, estimator: str) -> Any:
    """The specification of activations with ranges told as the estimator does."""
    from torchao.quantization.pt2e import observer

    class MeanMinMax(observer.MovingAverageMinMaxObserver):  # type: ignore[misc]
        """The mean of single images' ranges: a moving average that forgets nothing."""

        seen = 0

        def forward(self, tensor: Any) -> Any:
            self.seen += 1
            self.averaging_constant = 1 / self.seen
            return super().forward(tensor)

    kinds = {
        "mean_min_max": MeanMinMax,
        "min_max": observer.MinMaxObserver,
        "mse": observer.HistogramObserver,
    }
    return replace(spec, observer_or_fake_quant_ctr=kinds[estimator].with_args(eps=2**-12))


def _save(program: Any, path: Path, documents: dict[str, str] | None) -> None:
    import torch

    for node in program.graph.nodes:
        for origin in _ORIGINS:
            node.meta.pop(origin, None)
    draft = path.with_name("partial-" + path.name)
    torch.export.save(program, str(draft), extra_files=documents)
    draft.replace(path)
