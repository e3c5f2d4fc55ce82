"""MobileNetV2 on the runtimes of phones: size, top-1 and latency against eager PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.pairs import alternate, pooled_ratio
from benchmarks.setting import Setting, note
from benchmarks.table import Row
from benchmarks.weights import mobilenet_weights
from saccade.data.contract import Dataset
from saccade.environments.tool_environment import named
from saccade.errors import SaccadeError
from saccade.models.conversions.contract import ConversionRequest
from saccade.optimize.change import PlanContext
from saccade.optimize.converting import converted
from saccade.optimize.executorch_quantization import quantize_executorch
from saccade.optimize.job import Job, plan_context
from saccade.optimize.litert_calibrated import float_operators
from saccade.optimize.litert_quantization import quantize_litert
from saccade.optimize.litert_recipe import LiteRtRecipe, Ports
from saccade.optimize.race import Runner
from saccade.optimize.real_inputs import real_inputs
from saccade.pipeline.config import ModelFile, PipelineConfig
from saccade.playbook.prepare import prepare
from saccade.progress import SilentProgress
from saccade.spec import make_spec
from saccade.study import RunFolder
from saccade.testing.planted import planted
from saccade.validate.bootstrap import resample_weights
from saccade.validate.drop_bound import paired_drop
from saccade.validate.referee import judge_of, results_on

SMALLER_BAR, DROP_BAR = 3.3, 0.01
FRAMES = 40
SEED = 0
# The figure is about this one; the others are told beside it.
PHONE = "LiteRT int8"


@dataclass(frozen=True)
class Judged:
    """One configuration beside the baseline.

    Attributes:
        infer_ms: median wall time of one inference.
    """

    size_mb: float
    infer_ms: float
    speedup: tuple[float, float, float]
    top1: float
    drop: float
    drop_interval: tuple[float, float]


def measure(setting: Setting) -> list[Row]:
    """Convert and quantize, then judge each on the images that calibration did not see.

    Raises:
        SaccadeError: the tools that make LiteRT's format, which the bar is about, are not there.
    """
    litert = named("litert")
    if not litert.ready:
        litert.install(note)
    job = prepare(_spec(setting), RunFolder(setting.folder / "mobile"), SilentProgress())
    # What is done here looks at the configuration and the data, not at the profile.
    context = plan_context(job, job.baseline, planted("compute_bound"))
    rows: list[Row] = []
    with _running(job.baseline, job.source) as baseline:
        for name, config in _candidates(context):
            note(f"mobile: {name}")
            with _running(config, job.source) as runner:
                found = _judged(setting, job, baseline, runner)
            rows += _rows(name, found, job.baseline.model.size_mb, config)
    return rows


def _spec(setting: Setting) -> Any:
    return make_spec(
        {
            "task": "classification",
            "model": "torchvision:mobilenet_v2",
            "weights": str(mobilenet_weights()),
            "data": str(setting.inputs.data.parent.parent / "imagenet" / "labels.csv"),
        }
    )


def _candidates(context: PlanContext) -> Iterator[tuple[str, PipelineConfig]]:
    """Each runtime in float and, where it has that, in int8; one that cannot be made is told."""
    for runtime, title, kind in (
        ("litert", "LiteRT", "tflite"),
        ("ncnn", "ncnn", "ncnn"),
        ("executorch", "ExecuTorch", "executorch"),
    ):
        try:
            inside = _in(context, runtime, kind)
            yield f"{title} fp32", inside.config
            if runtime == "litert":
                yield PHONE, replace(inside.config, model=_litert_int8(inside, "float"))
                strict = _litert_int8(inside, "int8")
                yield f"{title} int8 to its ends", replace(inside.config, model=strict)
            if runtime == "executorch":
                model = quantize_executorch(inside, context.config.model)
                yield f"{title} int8", replace(inside.config, model=model)
            if runtime == "ncnn":
                options = replace(inside.config.options, precision="bf16")
                yield f"{title} bf16", replace(inside.config, options=options)
        except SaccadeError as error:
            note(f"{title} is left out: {error}")


def _litert_int8(context: PlanContext, ports: Ports) -> ModelFile:
    model = quantize_litert(context, LiteRtRecipe(ports))
    left = float_operators(Path(model.path))
    note(f"{ports} ports, operators that read floats: {', '.join(left) or 'none'}")
    return model


def _in(context: PlanContext, runtime: str, kind: str) -> PlanContext:
    """The context with its model converted for a runtime, everything else as it was."""
    config = context.config
    hw = config.description.input_hw or (config.input_size,) * 2
    request = ConversionRequest(context.folder, hw, real_inputs(context))
    model = converted(config.model, (kind,), request)
    options = replace(config.options, threads=context.cores)
    return replace(context, config=replace(config, runtime=runtime, model=model, options=options))


@contextmanager
def _running(config: PipelineConfig, source: str) -> Iterator[Runner]:
    runner = Runner(config, source)
    try:
        yield runner
    finally:
        runner.close()


def _judged(setting: Setting, job: Job, baseline: Runner, runner: Runner) -> Judged:
    dataset = _unseen(job)
    weights = resample_weights(len(dataset), seed=SEED)
    judge = judge_of(baseline)
    before, after = (
        judge.scored(dataset, results_on(side, dataset), weights).metrics["top1"]
        for side in (baseline, runner)
    )
    drop = paired_drop(before, after)
    pairs = alternate(baseline, runner, FRAMES, setting.sizes.pairs)
    infer = np.concatenate([block.stage_ms["infer"] for _, block in pairs])
    return Judged(
        runner.config.model.size_mb,
        float(np.median(infer)),
        pooled_ratio(pairs, lambda ms: float(np.median(ms))),
        after.point,
        drop.estimate,
        (drop.lower, drop.upper),
    )


def _unseen(job: Job) -> Dataset:
    """All images but those that calibrate."""
    roles = job.roles
    if roles is None or roles.selection is None or roles.report is None:
        raise RuntimeError("there are too few images to calibrate and to judge")
    return replace(roles.report, images=(*roles.selection.images, *roles.report.images))


def _rows(name: str, found: Judged, baseline_mb: float, config: PipelineConfig) -> list[Row]:
    smaller = baseline_mb / found.size_mb
    detail = (
        f"{found.infer_ms:.2f} ms per inference, {config.options.threads} threads; top-1 "
        f"{found.top1:.3f}, {found.size_mb:.2f} MB ({smaller:.2f}x smaller)"
    )
    rows = [Row(f"MobileNetV2 {name}, latency of a frame", *found.speedup, "x", detail=detail)]
    if name == PHONE:
        rows += [
            Row(f"MobileNetV2 {name}, size", smaller, unit="x smaller", bar=SMALLER_BAR),
            Row(
                f"MobileNetV2 {name}, top-1 drop",
                found.drop,
                *found.drop_interval,
                bar=DROP_BAR,
                at_least=False,
            ),
        ]
    return rows
