"""Situations that optimizations are asked about: common ones, and those of single devices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from saccade.data.contract import Dataset
from saccade.models.files import model_file
from saccade.optimize.change import ModelCandidate, PlanContext
from saccade.pipeline.config import PipelineConfig, RuntimeOptions, TrackerOptions
from saccade.runtimes.contract import Availability
from saccade.testing.planted import healthy, planted
from saccade.testing.tiny_auxiliary import tiny_auxiliary_config
from saccade.testing.tiny_finished import tiny_finished_config
from saccade.testing.tiny_instance_segmenter import tiny_instance_segmenter_config
from saccade.testing.tiny_models import tiny_config, write_tiny
from saccade.testing.tiny_quantized import write_quantized_tiny
from saccade.testing.tiny_segmenter import tiny_segmenter_config
from saccade.testing.tiny_yolo import tiny_yolo_config

FRAME_HW = (36, 64)
OFFERED = {
    "onnxruntime": Availability(True, "1", "CPU"),
    "openvino": Availability(True, "1", "CPU", "openvino", ("fp32", "bf16", "int8")),
}
IN_TORCH = {"torch": Availability(True, "1", "CPU", "torch", ("fp32", "bf16"))}
IN_TORCH_CUDA = {
    "torch-cuda": Availability(True, "1", "GPU", "torch", ("fp32", "fp16"), ("torch_export",))
}


def example_contexts(
    folder: Path,
    calibration: Dataset | None = None,
    runtimes: Mapping[str, Availability] | None = None,
) -> Iterator[PlanContext]:
    """Common situations: naive, half and fully optimized; video and images; both objectives.

    Args:
        folder: an existing folder; a tiny model and whatever `apply` writes go there.
        calibration: images to quantize with; None where there are none.
        runtimes: what is installed; by default OpenVINO with every precision, for optimizations
            that only look at what is offered.
    """
    naive = PlanContext(
        config=tiny_config(folder),
        profile=planted("compute_bound"),
        objective="throughput",
        cores=2,
        frame_hw=FRAME_HW,
        video=True,
        source="rtsp://camera.invalid/1",  # live, so nobody looks into a file
        runtimes=dict(runtimes or OFFERED),
        calibration=calibration,
        folder=folder / "models",
        labelled=False,
    )
    yield naive
    yield from _stages_of_a_search(naive, folder)
    yield from _kinds_of_models(naive, folder)
    yield from _candidates(naive, folder)
    yield from _other_runtimes(naive, folder, runtimes)
    yield from _missed_sizes(naive)
    yield replace(naive, profile=replace(naive.profile, operators=(), roofline=None))
    nothing = {name: Availability(False, detail="not installed") for name in naive.runtimes}
    yield replace(naive, runtimes=nothing)


def _stages_of_a_search(naive: PlanContext, folder: Path) -> Iterator[PlanContext]:
    """From the pipeline as most people write it to one that leaves little to do."""
    halfway = replace(naive.config, runtime="openvino", preprocessor="fused", reader="pyav")
    yield replace(naive, objective="latency")
    yield replace(naive, video=False, source=str(folder), labelled=True)
    yield replace(naive, config=halfway)
    yield replace(naive, config=_whole(halfway), profile=healthy())
    yield replace(naive, config=replace(naive.config, score_threshold=0.001))


def _whole(halfway: PipelineConfig) -> PipelineConfig:
    """Everything that a search can do to a pipeline without another model file."""
    return replace(
        halfway,
        preprocessor="graph",
        resize="planes",
        shape="rect",
        nms="vectorized",
        execution="overlapped",
        options=RuntimeOptions("bf16", threads=2, streams=2, in_flight=3, spinning=False),
    )


def _kinds_of_models(naive: PlanContext, folder: Path) -> Iterator[PlanContext]:
    """Every task, and every way in which a detector answers."""
    yield replace(naive, config=tiny_config(folder, (64, 64)))
    yield replace(naive, config=tiny_yolo_config(folder))
    yield replace(naive, config=tiny_finished_config(folder))
    yield replace(naive, config=tiny_instance_segmenter_config(folder))
    segmenter = tiny_segmenter_config(folder)
    yield replace(naive, config=segmenter, video=False, source=str(folder), labelled=True)
    yield replace(naive, config=replace(segmenter, runtime="openvino"), labelled=True)
    yield replace(naive, config=tiny_auxiliary_config(folder), video=False, labelled=True)
    tracking = replace(naive.config, task="tracking", tracker=TrackerOptions())
    yield replace(naive, config=tracking, labelled=True)
    yield replace(naive, config=replace(tracking, detect_every=2))
    came_quantized = model_file(write_quantized_tiny("QDQ", folder))
    rounded = tiny_config(folder, (64, 64), model=came_quantized)
    yield replace(naive, config=rounded, unquantized=rounded, labelled=True)


def _candidates(naive: PlanContext, folder: Path) -> Iterator[PlanContext]:
    """Other models that the user names."""
    fixed = tiny_config(folder, (64, 64))
    yield replace(naive, candidates=(ModelCandidate("fixed", fixed),), labelled=True)
    other = ModelCandidate("free", naive.config)
    yield replace(naive, config=replace(fixed, runtime="openvino"), candidates=(other,))


def _other_runtimes(
    naive: PlanContext, folder: Path, runtimes: Mapping[str, Availability] | None
) -> Iterator[PlanContext]:
    """Models in the formats of single runtimes; those that write a file need their library."""
    fixed = tiny_config(folder, (64, 64))
    # Alone, so that nothing is converted: there is no such file.
    program = replace(fixed.model, path="model.pt2", format="torch_export")
    eager = replace(fixed, model=program, runtime="torch")
    yield replace(naive, config=eager, runtimes=runtimes or IN_TORCH)
    on_cuda = replace(eager, runtime="torch-cuda")
    yield replace(naive, config=on_cuda, runtimes=runtimes or IN_TORCH_CUDA)
    if find_spec("openvino") is not None:
        only = {"openvino": Availability(True, "1", "CPU", "openvino", ("fp32", "bf16", "int8"))}
        given = model_file(write_tiny("openvino_ir", folder, (64, 64)))
        as_ir = replace(fixed, model=given, runtime="openvino")
        yield replace(naive, config=as_ir, runtimes=runtimes or only, video=False)
    if find_spec("ai_edge_litert") is not None:
        in_litert = {"litert": Availability(True, "1", "CPU", "litert", ("fp32", "int8"))}
        tflite = model_file(write_tiny("tflite", folder, (64, 64)))
        on_phone = replace(fixed, model=tflite, runtime="litert")
        yield replace(naive, config=on_phone, runtimes=runtimes or in_litert, video=False)
    if find_spec("tensorrt") is not None:
        on_gpu = {"tensorrt": Availability(True, "1", "GPU", "tensorrt", ("fp32", "fp16", "int8"))}
        planned = replace(fixed, runtime="tensorrt")
        yield replace(naive, config=planned, runtimes=runtimes or on_gpu, video=False)
    if find_spec("torchao") is not None:
        exported = model_file(write_tiny("torch_export", folder, (64, 64)))
        in_torch = replace(fixed, model=exported, runtime="torch")
        yield replace(naive, config=in_torch, runtimes=runtimes or IN_TORCH, video=False)
    if find_spec("executorch") is not None:
        both = {**IN_TORCH, "executorch": Availability(True, "1", "CPU", "executorch")}
        exported = model_file(write_tiny("torch_export", folder, (64, 64)))
        in_torch = replace(fixed, model=exported, runtime="torch")
        yield replace(naive, config=in_torch, runtimes=runtimes or both, video=False)


def _missed_sizes(naive: PlanContext) -> Iterator[PlanContext]:
    """Goals of size that are missed, with one frame at a time and with several."""
    yield replace(naive, missed=frozenset({"model_mb"}))
    # A process of unknown size, of which the tiny model may be a part that counts.
    unseen = replace(naive.profile, resources=())
    tight = replace(naive, profile=unseen, missed=frozenset({"peak_rss_mb"}))
    yield tight
    busy = RuntimeOptions(threads=2, streams=2, in_flight=4)
    overlapped = replace(naive.config, execution="overlapped", options=busy, queue_depth=2)
    yield replace(tight, config=overlapped)
