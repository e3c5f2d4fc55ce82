"""int8 after training with NNCF, in a process of its own, one file per rung of the repair ladder.

The ladder answers broken accuracy: everything quantized → all but the output layers → without the
detection head → without the head and the layers that turned out most sensitive. Above it lies
bf16, which is a change of its own. Heads are found in the graph, not by name: the last convolutions
before an output and everything after them. Sensitivity is measured: the signal-to-noise ratio of
every convolution's output, int8 against fp32, on calibration frames.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.data.frame_roles import OFFSETS, STEP
from saccade.data.images import read_image
from saccade.errors import RuntimeFailure
from saccade.models.files import model_file
from saccade.optimize.change import PlanContext
from saccade.optimize.worker import Worker
from saccade.pipeline.config import ModelFile, PipelineConfig, digest
from saccade.pipeline.frames import ArrayFrame
from saccade.pipeline.pipeline import Pipeline

RUNGS = (
    "everything",
    "without the output layers",
    "without the detection head",
    "without the head and the most sensitive layers",
)
# Boxes in pixels and scores below 1 share the output tensor of a whole graph, so quantizing that
# ruins one of them: there the ladder begins below the output layers.
EVERYTHING, OUTPUT_FLOAT = 0, 1
SENSITIVE_RUNG = 3
# Convolutions before an output that stay float, by rung. A head is three deep in the YOLO family:
# box and class branches of three convolutions.
FLOAT_DEPTH = (0, 1, 3, 3)
# Part of a file's name: raised when the same rung is made in another way.
METHOD = "fused 2"
SENSITIVE_SHARE = 0.1
CALIBRATION_IMAGES = 64
VIDEO_FRAMES = 16
SENSITIVITY_IMAGES = 4
TIMEOUT_S = 180.0
# Preprocessors that feed the model the same values; one of the user's own is used as it is.
FLOAT_EQUIVALENT = ("numpy", "graph")


def quantize(context: PlanContext, rung: int) -> ModelFile:
    """Quantize the context's model; a file that is already there is used again.

    Raises:
        RuntimeFailure: NNCF or OpenVINO refused the model.
    """
    config = context.config
    images = [image.path for image in context.calibration.images] if context.calibration else []
    images = images[:CALIBRATION_IMAGES]
    key = digest(
        [
            config.model.sha256,
            RUNGS[rung],
            METHOD,
            [str(p.name) for p in images],
            config.shape,
            config.input_size,
        ]
    )
    target = context.folder / f"int8-{key}.xml"
    if not (target.exists() and target.with_suffix(".bin").exists()):
        context.folder.mkdir(parents=True, exist_ok=True)
        job = QuantizationJob(
            config, rung, tuple(images), context.source if context.video else None
        )
        run_job(job, target)
    return ir_file(target)


def run_job(job: QuantizationJob, target: Path) -> None:
    """Quantize in a process of its own and write the IR to ``target``.

    Raises:
        RuntimeFailure: NNCF or OpenVINO refused the model.
    """
    with Worker("saccade.optimize.quantize:Quantizer", ()) as worker:
        worker.call("run", job, str(target), timeout_s=TIMEOUT_S)


def ir_file(xml: Path) -> ModelFile:
    """An OpenVINO IR on disk; its hash covers both files."""
    import openvino as ov

    weights = xml.with_suffix(".bin")
    parts = [model_file(xml).sha256, model_file(weights).sha256]
    shape = ov.Core().read_model(str(xml)).inputs[0].partial_shape
    dynamic = any(side.is_dynamic for side in list(shape)[2:])
    return ModelFile(str(xml), digest(parts), "openvino_ir", str(weights), dynamic)


class QuantizationJob:
    """What to quantize and on what."""

    def __init__(
        self, config: PipelineConfig, rung: int, images: tuple[Path, ...], video: str | None
    ) -> None:
        self.config = config
        self.rung = rung
        self.images = images
        self.video = video


class Quantizer:
    """Runs a job. Lives in a worker process, because NNCF is heavy and may fail."""

    def run(self, job: QuantizationJob, target: str) -> None:
        """Quantize and write the IR whole or not at all."""
        import logging

        import nncf
        import openvino as ov

        nncf.set_log_level(logging.ERROR)
        samples = calibration_tensors(job)
        model = fused(ov.Core().read_model(_source(job.config, samples)))
        ignored = head_nodes(model, FLOAT_DEPTH[job.rung])
        quantized = _quantize(nncf, model, samples, ignored)
        if job.rung >= SENSITIVE_RUNG:
            sensitive = most_sensitive(ov, model, quantized, samples, ignored)
            quantized = _quantize(nncf, model, samples, ignored + sensitive)
        partial = Path(target).with_name("partial-" + Path(target).name)
        ov.save_model(quantized, str(partial), compress_to_fp16=False)
        partial.with_suffix(".bin").replace(Path(target).with_suffix(".bin"))
        partial.replace(target)


def fused(model: Any) -> Any:
    """The OpenVINO model with its common patterns as single operators, in place.

    ONNX spells SiLU as a sigmoid and a product. NNCF would quantize both inputs of that product,
    which costs accuracy, and the plug-in could no longer fuse it with the convolution before,
    which makes int8 as slow as bf16.
    """
    from openvino._offline_transformations import apply_moc_transformations

    apply_moc_transformations(model, cf=False)
    return model


def _source(config: PipelineConfig, samples: list[NDArray[np.float32]]) -> str | bytes:
    """The ONNX model, made dynamic where it can be, so that its shape may change later.

    Raises:
        ModelError: it cannot be made dynamic, and its fixed shape is not that of every sample.
    """
    shape = config.description.input
    if shape.dynamic:
        return config.model.path
    from saccade.models.onnx_model import read_onnx
    from saccade.models.reshape import can_reshape, reshape

    model = read_onnx(config.model.path)
    same = {sample.shape for sample in samples} == {(1, 3, shape.height, shape.width)}
    if same and can_reshape(model, None) is not None:
        return config.model.path
    return bytes(reshape(model, None).SerializeToString())


def calibration_tensors(job: QuantizationJob) -> list[NDArray[np.float32]]:
    """Real frames as the model sees them, images and video both."""
    from dataclasses import replace

    config = replace(job.config, execution="sequential")
    if config.preprocessor in FLOAT_EQUIVALENT:
        config = replace(config, preprocessor="fused")
    with Pipeline(config) as pipeline:
        tensors = [_tensor(pipeline, ArrayFrame(read_image(p), "rgb")) for p in job.images]
        if job.video is not None:
            frames = list(_spread(pipeline, job.video))
            tensors += [_tensor(pipeline, frame) for frame in frames]
    if not tensors:
        raise RuntimeFailure("There are no frames to calibrate on.")
    return tensors


def _spread(pipeline: Pipeline, video: str) -> Any:
    """The video's frames that serve calibration, `VIDEO_FRAMES` of them."""
    start = OFFSETS["calibration"]
    return itertools.islice(pipeline.frames(video), start, start + STEP * VIDEO_FRAMES, STEP)


def _tensor(pipeline: Pipeline, frame: Any) -> NDArray[np.float32]:
    box = pipeline.letterbox(frame.hw)
    out = pipeline.preprocessor.allocate(box)
    return np.array(pipeline.preprocessor.run(frame, box, out))


def _quantize(nncf: Any, model: Any, samples: list[NDArray[np.float32]], ignored: list[str]) -> Any:
    scope = nncf.IgnoredScope(names=sorted(set(ignored)), validate=False) if ignored else None
    return nncf.quantize(
        model,
        nncf.Dataset(samples),
        # Symmetric weights and asymmetric activations: SiLU and its kin are not symmetric.
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(samples),
        ignored_scope=scope,
    )


def head_nodes(model: Any, limit: int) -> list[str]:
    """Nodes of the head: fewer than ``limit`` convolutions away from an output."""
    names: list[str] = []
    seen: dict[str, int] = {}
    queue = [(result.input_value(0).get_node(), 0) for result in model.get_results()]
    while queue:
        node, depth = queue.pop()
        name = node.get_friendly_name()
        if depth >= limit or seen.get(name, limit) <= depth:
            continue
        if name not in seen and node.get_type_name() not in ("Constant", "Parameter"):
            names.append(name)
        seen[name] = depth
        step = 1 if node.get_type_name() in ("Convolution", "GroupConvolution") else 0
        queue += [(value.get_node(), depth + step) for value in node.input_values()]
    return names


def most_sensitive(
    ov: Any, model: Any, quantized: Any, samples: list[NDArray[np.float32]], ignored: list[str]
) -> list[str]:
    """The convolutions whose outputs int8 disturbs most, by measured signal-to-noise ratio."""
    names = [
        op.get_friendly_name()
        for op in model.get_ops()
        if op.get_type_name() in ("Convolution", "GroupConvolution")
        and op.get_friendly_name() not in ignored
    ]
    exact = _activations(ov, model, names, samples[:SENSITIVITY_IMAGES])
    rough = _activations(ov, quantized, names, samples[:SENSITIVITY_IMAGES])
    noise = {name: _noise_ratio(exact[name], rough[name]) for name in names if name in rough}
    ranked = sorted(noise, key=lambda name: -noise[name])
    return ranked[: max(1, round(SENSITIVE_SHARE * len(ranked)))]


def _activations(
    ov: Any, model: Any, names: list[str], samples: list[NDArray[np.float32]]
) -> dict[str, list[NDArray[np.float32]]]:
    copy = model.clone()
    found = {op.get_friendly_name(): op for op in copy.get_ops()}
    wanted = [name for name in names if name in found]
    first = len(copy.outputs)
    copy.add_outputs([found[name].output(0) for name in wanted])
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = ov.Core().compile_model(copy, "CPU", settings)
    values: dict[str, list[NDArray[np.float32]]] = {name: [] for name in wanted}
    for sample in samples:
        results = compiled(sample)
        for offset, name in enumerate(wanted):
            values[name].append(np.array(results[first + offset]))
    return values


def _noise_ratio(exact: list[NDArray[np.float32]], rough: list[NDArray[np.float32]]) -> float:
    signal = sum(float(np.square(a, dtype=np.float64).sum()) for a in exact)
    noise = sum(
        float(np.square(a - b, dtype=np.float64).sum()) for a, b in zip(exact, rough, strict=True)
    )
    return noise / signal if signal else 0.0
