"""The one table of plug-ins: kind → name → ``module:attribute``, imported when first used.

Adding a runtime, task, data format, rule or optimization is one new file and one
line here. Packages outside saccade add theirs through the entry-point group
``saccade.<kind>``. Nothing registers itself by being imported.
"""

from __future__ import annotations

import importlib
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from saccade.errors import SpecError, first_line

TABLE: dict[str, dict[str, str]] = {
    "tasks": {
        "classification": "saccade.tasks.classification:ClassificationTask",
        "detection": "saccade.tasks.detection:DetectionTask",
        "segmentation": "saccade.tasks.segmentation:SegmentationTask",
        "instance_segmentation": ("saccade.tasks.instance_segmentation:InstanceSegmentationTask"),
        "tracking": "saccade.tasks.tracking:TrackingTask",
    },
    # Metric, agreement and bounds of each task's results.
    "judges": {
        "classification": "saccade.validate.classification:ClassificationJudge",
        "detection": "saccade.validate.detection:DetectionJudge",
        "segmentation": "saccade.validate.segmentation:SegmentationJudge",
        "instance_segmentation": (
            "saccade.validate.instance_segmentation:InstanceSegmentationJudge"
        ),
        "tracking": "saccade.validate.tracking:TrackingJudge",
    },
    "runtimes": {
        "onnxruntime": "saccade.runtimes.onnxruntime:OnnxRuntime",
        "openvino": "saccade.runtimes.openvino:OpenVino",
        "torch": "saccade.runtimes.torch:Torch",
        "torch-cuda": "saccade.runtimes.torch_cuda:TorchCuda",
        "litert": "saccade.runtimes.litert:LiteRt",
        "ncnn": "saccade.runtimes.ncnn:Ncnn",
        "executorch": "saccade.runtimes.executorch:ExecuTorch",
        "onnxruntime-cuda": "saccade.runtimes.onnxruntime_gpu:OnnxRuntimeCuda",
        "onnxruntime-tensorrt": "saccade.runtimes.onnxruntime_gpu:OnnxRuntimeTensorRt",
        "tensorrt": "saccade.runtimes.tensorrt:TensorRt",
    },
    # Where models come from, tried in this order by `saccade.models.sources.resolve`.
    "sources": {
        "onnx": "saccade.models.sources.onnx:OnnxSource",
        "torch_export": "saccade.models.sources.torch_export:TorchExportSource",
        "openvino_ir": "saccade.models.sources.openvino_ir:OpenVinoIrSource",
        "torchvision": "saccade.models.sources.torchvision:TorchvisionSource",
        "timm": "saccade.models.sources.timm:TimmSource",
        "ultralytics": "saccade.models.sources.ultralytics:UltralyticsSource",
        # After those that a prefix tells: what comes behind it may end in .pt as well.
        "torchscript": "saccade.models.sources.torchscript:TorchScriptSource",
        "factory": "saccade.models.sources.factory:FactorySource",
    },
    # From one model format to another.
    "conversions": {
        "torch_to_onnx": "saccade.models.conversions.torch_to_onnx:TorchToOnnx",
        "torch_to_executorch": ("saccade.models.conversions.torch_to_executorch:TorchToExecuTorch"),
        "torch_to_tflite": "saccade.models.conversions.torch_to_tflite:TorchToTflite",
        "onnx_to_tflite": "saccade.models.conversions.onnx_to_tflite:OnnxToTflite",
        "onnx_to_ncnn": "saccade.models.conversions.onnx_to_ncnn:OnnxToNcnn",
    },
    # Where frames come from: each turns a source into decoded frames.
    "readers": {
        "opencv": "saccade.pipeline.readers:OpenCvReader",
        "pyav": "saccade.pipeline.readers:PyAvReader",
    },
    "preprocessors": {
        "numpy": "saccade.pipeline.preprocess:NumpyPreprocessor",
        "fused": "saccade.pipeline.preprocess:FusedPreprocessor",
        "graph": "saccade.pipeline.preprocess:GraphPreprocessor",
    },
    # int8 after training. Of one runtime's quantizers the first is what its name stands for.
    "quantizers": {
        "openvino": "saccade.optimize.quantization.nncf_ir:NncfOpenVino",
        "onnxruntime": "saccade.optimize.quantization.qdq:OnnxRuntimeQdq",
        "onnxruntime-nncf": "saccade.optimize.quantization.nncf_qdq:NncfOnnxRuntime",
    },
    # Quantization-aware training, the last rung of the repair ladder.
    "quantization_trainers": {
        "nncf": "saccade.optimize.qat:NncfTrainer",
    },
    # Labelled data formats, tried in this order by `saccade.data.open_labelled`.
    "datasets": {
        "yolo": "saccade.data.yolo:YoloFormat",
        "coco": "saccade.data.coco:CocoFormat",
        "yolo_segments": "saccade.data.yolo_segments:YoloSegmentsFormat",
        "coco_segments": "saccade.data.coco_segments:CocoSegmentsFormat",
        "class_labels": "saccade.data.class_labels:ClassLabelsFormat",
        "masks": "saccade.data.masks:MasksFormat",
        "motchallenge": "saccade.data.motchallenge:MotChallengeFormat",
        "image_folder": "saccade.data.image_folder:ImageFolderFormat",
    },
    "rules": {
        "decode_bound": "saccade.diagnose.decode_bound:decode_bound",
        "preprocess_bound": "saccade.diagnose.preprocess_bound:preprocess_bound",
        "compute_bound": "saccade.diagnose.compute_bound:compute_bound",
        "memory_bandwidth_bound": "saccade.diagnose.memory_bandwidth_bound:memory_bandwidth_bound",
        "postprocess_bound": "saccade.diagnose.postprocess_bound:postprocess_bound",
        "mask_bound": "saccade.diagnose.mask_bound:mask_bound",
        "io_bound": "saccade.diagnose.io_bound:io_bound",
        "serialized_stages": "saccade.diagnose.serialized_stages:serialized_stages",
        "thread_oversubscription": (
            "saccade.diagnose.thread_oversubscription:thread_oversubscription"
        ),
        "resolution_overkill": "saccade.diagnose.resolution_overkill:resolution_overkill",
        "framework_overhead": "saccade.diagnose.framework_overhead:framework_overhead",
    },
    "optimizations": {
        "runtime": "saccade.optimize.changes.runtime:SwitchRuntime",
        "torch_execution": "saccade.optimize.changes.torch_execution:ExecuteTorch",
        "graph_optimization": "saccade.optimize.changes.graph_optimization:OptimizeGraph",
        "rect_letterbox": "saccade.optimize.changes.rect_letterbox:RectLetterbox",
        "raw_head": "saccade.optimize.changes.raw_head:DecodeKeptBoxes",
        "running_argmax": "saccade.optimize.changes.running_argmax:RunningArgmax",
        "graph_argmax": "saccade.optimize.changes.graph_argmax:ArgmaxInGraph",
        "slim_graph": "saccade.optimize.changes.slim_graph:SlimGraph",
        "full_rank": "saccade.optimize.changes.full_rank:FullRankConstants",
        "bf16": "saccade.optimize.changes.bf16:UseBf16",
        "int8": "saccade.optimize.changes.int8:QuantizeInt8",
        "openvino_int8": "saccade.optimize.changes.openvino_int8:QuantizeIr",
        "model_swap": "saccade.optimize.changes.model_swap:ModelSwap",
        "int8_weights": "saccade.optimize.changes.int8_weights:CompressWeights",
        "fp16_weights": "saccade.optimize.changes.fp16_weights:StoreFp16",
        "litert_int8": "saccade.optimize.changes.litert_int8:QuantizeLiteRt",
        "executorch_int8": "saccade.optimize.changes.executorch_int8:QuantizeExecuTorch",
        "torch_int8": "saccade.optimize.changes.torch_int8:QuantizeTorch",
        "tensorrt_int8": "saccade.optimize.changes.tensorrt_int8:QuantizeTensorRt",
        "prune": "saccade.optimize.changes.prune:Prune",
        "distill": "saccade.optimize.changes.distill:Distill",
        "resolution": "saccade.optimize.changes.resolution:LowerResolution",
        "dynamic_resolution": "saccade.optimize.changes.dynamic_resolution:LookTwice",
        "graph_preprocess": "saccade.optimize.changes.graph_preprocess:PreprocessInGraph",
        "fused_preprocess": "saccade.optimize.changes.fused_preprocess:FusedPreprocess",
        "fast_decode": "saccade.optimize.changes.fast_decode:FastDecode",
        "skip_loop_filter": "saccade.optimize.changes.skip_loop_filter:SkipLoopFilter",
        "vectorized_nms": "saccade.optimize.changes.vectorized_nms:VectorizedNms",
        "top_k_nms": "saccade.optimize.changes.top_k_nms:TopKNms",
        "nms_in_graph": "saccade.optimize.changes.nms_in_graph:SuppressInGraph",
        "cropped_masks": "saccade.optimize.changes.cropped_masks:CroppedMasks",
        "frame_skip": "saccade.optimize.changes.frame_skip:SkipFrames",
        "frugal_memory": "saccade.optimize.changes.frugal_memory:FrugalMemory",
        "mapped_weights": "saccade.optimize.changes.mapped_weights:MapWeights",
        "fewer_buffers": "saccade.optimize.changes.fewer_buffers:FewerBuffers",
        "overlap_stages": "saccade.optimize.changes.overlap_stages:OverlapStages",
    },
    # What training jobs are, tried in this order by `saccade.train.job.refer`.
    "training_jobs": {
        "python_file": "saccade.train.jobs.python_file:PythonFileJob",
        "lightning": "saccade.train.jobs.lightning:LightningJob",
        "module": "saccade.train.jobs.module_and_data:ModuleAndDataJob",
    },
    # Who makes batches of samples.
    "loaders": {
        "torch": "saccade.train.loaders.torch_loader:TorchLoader",
        "threads": "saccade.train.loaders.threads:ThreadLoader",
        "dali": "saccade.train.loaders.dali:DaliLoader",
    },
    # Changes of a training's configuration, as `saccade.train.change` describes them.
    "training_changes": {
        "workers": "saccade.train.changes.workers:LoaderWorkers",
        "prefetch": "saccade.train.changes.prefetch:Prefetch",
        "persistent": "saccade.train.changes.persistent:PersistentWorkers",
        "pinned": "saccade.train.changes.pinned:PinnedMemory",
        "fast_decode": "saccade.train.changes.fast_decode:FastDecode",
        "scaled_decode": "saccade.train.changes.scaled_decode:ScaledDecode",
        "cache": "saccade.train.changes.cache:CacheSamples",
        "normalize_on_device": "saccade.train.changes.normalize_on_device:NormalizeOnDevice",
        "vectorized_collate": "saccade.train.changes.vectorized_collate:VectorizedCollate",
        "thread_loader": "saccade.train.changes.thread_loader:LoadByThreads",
        "dali": "saccade.train.changes.dali:LoadByDali",
        "shards": "saccade.train.changes.shards:ReadShards",
        "channels_last": "saccade.train.changes.channels_last:ChannelsLast",
        "autocast": "saccade.train.changes.autocast:Autocast",
        "fused_norm": "saccade.train.changes.fused_norm:FusedNorm",
        "compile": "saccade.train.changes.compile:Compile",
        "tf32": "saccade.train.changes.tf32:Tf32",
        "autotune": "saccade.train.changes.autotune:Autotune",
        "keep_memory": "saccade.train.changes.keep_memory:KeepMemory",
        "fused_optimizer": "saccade.train.changes.fused_optimizer:FusedOptimizer",
        "threads": "saccade.train.changes.threads:Threads",
        "activation_checkpointing": (
            "saccade.train.changes.activation_checkpointing:ActivationCheckpointing"
        ),
        "accumulate": "saccade.train.changes.accumulate:Accumulate",
        "largest_batch": "saccade.train.changes.largest_batch:LargestBatch",
        "larger_batch": "saccade.train.changes.larger_batch:LargerBatch",
        "ddp": "saccade.train.changes.ddp:DataParallel",
        "fsdp": "saccade.train.changes.fsdp:FullyShard",
        "architecture": "saccade.train.changes.architecture:ChangeArchitecture",
    },
    # Fine-tunings of a trained model, in the order in which they are made together.
    "recipes": {
        "prune": "saccade.optimize.recipes.pruned:PruneRecipe",
        "quantize": "saccade.optimize.recipes.quantized:QuantizeRecipe",
        "distill": "saccade.optimize.recipes.taught:DistillRecipe",
    },
    # Where the course of a training is written; ``files`` always.
    "training_loggers": {
        "files": "saccade.train.loggers.files:FileLogger",
        "tensorboard": "saccade.train.loggers.tensorboard:TensorBoardLogger",
        "mlflow": "saccade.train.loggers.mlflow:MlflowLogger",
    },
    # Other architectures in the place of a job's own: from a module to the one that is trained.
    "architectures": {
        "depthwise_separable": (
            "saccade.train.architectures.depthwise_separable:DepthwiseSeparable"
        ),
        "narrower": "saccade.train.architectures.narrower:Narrower",
    },
    # Bottlenecks of a training, by name.
    "training_rules": {
        "nonfinite_loss": "saccade.diagnose.training.nonfinite_loss:nonfinite_loss",
        "corrupt_samples": "saccade.diagnose.training.corrupt_samples:corrupt_samples",
        "leaking_loader": "saccade.diagnose.training.leaking_loader:leaking_loader",
        "disk_bound": "saccade.diagnose.training.disk_bound:disk_bound",
        "decode_bound": "saccade.diagnose.training.decode_bound:decode_bound",
        "slow_transform": "saccade.diagnose.training.slow_transform:slow_transform",
        "slow_collate": "saccade.diagnose.training.slow_collate:slow_collate",
        "interprocess_copy": "saccade.diagnose.training.interprocess_copy:interprocess_copy",
        "python_loading": "saccade.diagnose.training.python_loading:python_loading",
        "copy_bound": "saccade.diagnose.training.copy_bound:copy_bound",
        # Before the next one, which names the same time where both are found.
        "tiny_batch": "saccade.diagnose.training.tiny_batch:tiny_batch",
        "launch_bound": "saccade.diagnose.training.launch_bound:launch_bound",
        "compute_bound": "saccade.diagnose.training.compute_bound:compute_bound",
        "memory_bandwidth_bound": (
            "saccade.diagnose.training.memory_bandwidth_bound:memory_bandwidth_bound"
        ),
        "page_fault_bound": "saccade.diagnose.training.page_fault_bound:page_fault_bound",
        "memory_capacity": "saccade.diagnose.training.memory_capacity:memory_capacity",
        "optimizer_bound": "saccade.diagnose.training.optimizer_bound:optimizer_bound",
        "logging_bound": "saccade.diagnose.training.logging_bound:logging_bound",
        "synchronisation": "saccade.diagnose.training.synchronisation:synchronisation",
        "recompilation": "saccade.diagnose.training.recompilation:recompilation",
        "unbalanced_ranks": "saccade.diagnose.training.unbalanced_ranks:unbalanced_ranks",
    },
    # What two models on the same frames can do once, in the order in which one builds on another.
    "sharings": {
        "share_decode": "saccade.optimize.sharing.decode:ShareDecode",
        "share_preprocess": "saccade.optimize.sharing.preprocess:SharePreprocess",
        "one_pass": "saccade.optimize.sharing.one_pass:OnePass",
        "shared_backbone": "saccade.optimize.sharing.backbone:SharedBackbone",
    },
    # Model files for a kit, which is measured on a device that is not at hand.
    "exports": {
        "onnx": "saccade.deploy.exports.onnx_given:OnnxGiven",
        "onnx_fixed": "saccade.deploy.exports.onnx_fixed:OnnxFixed",
        "onnx_fp16": "saccade.deploy.exports.onnx_fp16:OnnxFp16",
        "onnx_int8": "saccade.deploy.exports.onnx_int8:OnnxInt8",
        "onnx_int8_symmetric": "saccade.deploy.exports.onnx_int8:OnnxInt8Symmetric",
        "openvino_ir": "saccade.deploy.exports.openvino_ir:OpenVinoIr",
        "openvino_int8": "saccade.deploy.exports.openvino_ir:OpenVinoInt8",
        "tflite": "saccade.deploy.exports.tflite:Tflite",
        "tflite_int8": "saccade.deploy.exports.tflite:TfliteInt8",
        "tflite_full_integer": "saccade.deploy.exports.tflite:TfliteFullInteger",
        "ncnn": "saccade.deploy.exports.ncnn_model:NcnnModel",
        "torchscript": "saccade.deploy.exports.torch_script:TorchScript",
        "executorch": "saccade.deploy.exports.executorch_program:ExecuTorchProgram",
        "executorch_int8": "saccade.deploy.exports.executorch_program:ExecuTorchInt8",
    },
}


def names(kind: str) -> list[str]:
    """Names of the plug-ins of ``kind``, built-in ones first, in table order.

    Those of other packages that cannot be imported are left out; `unusable` says why.
    """
    return [*TABLE[kind], *(name for name in _foreign(kind) if _why_not(kind, name) is None)]


def unusable() -> list[str]:
    """A sentence on every plug-in of another package that cannot be imported."""
    reasons = [_why_not(kind, name) for kind in TABLE for name in _foreign(kind)]
    return [reason for reason in reasons if reason is not None]


def load(kind: str, name: str) -> Any:
    """Import and return the plug-in ``name`` of ``kind``.

    A name of the form ``package.module:attribute`` is imported as it stands, so a
    project can use its own plug-in without packaging it.

    Raises:
        SpecError: there is no such plug-in (the message lists those there are), or one of another
            package or named by module cannot be imported.
    """
    target = TABLE[kind].get(name)
    if target is None and name in _foreign(kind):
        reason = _why_not(kind, name)
        if reason is not None:
            raise SpecError(reason)
        return _foreign(kind)[name].load()
    if target is None and ":" in name:
        target = name
    if target is None:
        raise SpecError(f"There is no {kind[:-1]} named '{name}'. Known: {', '.join(names(kind))}.")
    module, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        if target != name:  # our own table is right, so something else is wrong
            raise
        raise SpecError(
            f"The {kind[:-1]} '{name}' cannot be imported: {error}. Expected "
            "'package.module:Class'; put the folder that holds the package on PYTHONPATH."
        ) from error


@cache
def _foreign(kind: str) -> dict[str, EntryPoint]:
    """Plug-ins of other packages, by name; ours keep their names."""
    found = {point.name: point for point in entry_points(group=f"saccade.{kind}")}
    return {name: point for name, point in found.items() if name not in TABLE[kind]}


@cache
def _why_not(kind: str, name: str) -> str | None:
    """Why a plug-in of another package cannot be imported, None where it can."""
    point = _foreign(kind)[name]
    try:
        point.load()
    except Exception as error:  # whatever that package's own code raises
        package = point.dist.name if point.dist is not None else point.module
        return (
            f"The {kind[:-1]} '{name}' of the package '{package}' cannot be imported: "
            f"{type(error).__name__}: {first_line(error)}. Install a version of it that fits, or "
            "uninstall it."
        )
    return None
