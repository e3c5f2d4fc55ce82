"""int8 of an OpenVINO IR by NNCF, which needs no ONNX model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.optimize.change import PlanContext
from saccade.optimize.quantization.activations import Ranges
from saccade.optimize.quantization.calibration import CalibrationData, calibration_tensors
from saccade.optimize.quantization.checked import check_calibration, spread
from saccade.optimize.quantization.contract import Samples
from saccade.optimize.quantization.make import (
    TIMEOUT_S,
    calibration_data,
    calibration_key,
    details_path,
    quantized_model,
    write_details,
)
from saccade.optimize.quantization.nncf_ir import fused, head_nodes, weighted_layers, write_int8
from saccade.optimize.quantization.recipe import Recipe
from saccade.optimize.workshop import workshop
from saccade.pipeline.config import ModelFile, PipelineConfig, digest
from saccade.runtimes.openvino_core import openvino_core

# Part of a file's name: raised when the same recipe is made in another way.
METHOD = "nncf ir 2"
WORKER = "saccade.optimize.ir_quantization:IrQuantizer"


@dataclass(frozen=True)
class IrJob:
    """What to quantize, how, and on what.

    Attributes:
        config: how the model is fed; its model is the float IR.
        recipe: how; what is made in ONNX graphs only was refused before.
        data: what to calibrate on.
    """

    config: PipelineConfig
    recipe: Recipe
    data: CalibrationData


def quantize_ir(context: PlanContext, recipe: Recipe) -> ModelFile:
    """The context's IR in int8; a file that is already there is used again.

    Raises:
        DataError: the calibration images are too few, or not of the kind the model is used on.
        RuntimeFailure: there are no frames, NNCF refused the model, or the process failed.
    """
    target = quantized_path(context, recipe)
    if not details_path(target).exists():
        context.folder.mkdir(parents=True, exist_ok=True)
        job = IrJob(context.config, recipe, calibration_data(context, recipe))
        with workshop(WORKER, context.config.preprocessor) as worker:
            worker.call("run", job, str(target), timeout_s=TIMEOUT_S)
    return quantized_model(target)


def quantized_path(context: PlanContext, recipe: Recipe) -> Path:
    """Where the file is or will be: equal path means equal file."""
    calibrated = calibration_key(context.config, calibration_data(context, recipe))
    key = digest([context.config.model.sha256, METHOD, asdict(recipe), calibrated])
    return context.folder / f"int8-{key}.xml"


class IrQuantizer:
    """Runs a job. Lives in a worker process, because the libraries are heavy and may fail."""

    def run(self, job: IrJob, target: str) -> None:
        """Quantize and write the file and, last, the document beside it."""
        samples, path = calibration_tensors(job.config, job.data), Path(target)
        model = fused(openvino_core().read_model(job.config.model.path))
        observe = partial(observe_ir, model)
        doubts = check_calibration(job.config, job.data, observe(spread(samples)), observe)
        ignored = head_nodes(model, job.recipe.float_depth)
        write_int8(model, samples, job.recipe, ignored, path)
        document = {"recipe": job.recipe.label, "images": len(samples), "doubts": doubts}
        write_details(details_path(path), document)


def observe_ir(model: Any, samples: Samples) -> Ranges:
    """Run the float model and note the ranges of what layers with weights give.

    Args:
        model: an ``openvino.Model``; not changed.
        samples: inputs ``(1, 3, H, W)``.
    """
    watched = model.clone()
    kept, weighted = len(watched.outputs), weighted_layers(model)
    inside = [n for n in watched.get_ordered_ops() if n.get_friendly_name() in weighted]
    inside = [node for node in inside if not _comes_out(node)]  # those would not be added again
    names = [node.get_friendly_name() for node in inside]
    watched.add_outputs([node.output(0) for node in inside])
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    request = openvino_core().compile_model(watched, "CPU", settings).create_infer_request()

    def each() -> Iterator[dict[str, NDArray[np.float32]]]:
        for sample in samples:
            request.infer([np.ascontiguousarray(sample)])
            tensors = request.output_tensors[kept:]
            yield {n: np.array(t.data) for n, t in zip(names, tensors, strict=True)}

    return Ranges.gathered(each())


def _comes_out(node: Any) -> bool:
    """Whether what a node gives is an output of the model as it is."""
    readers = node.output(0).get_target_inputs()
    return any(reader.get_node().get_type_name() == "Result" for reader in readers)
