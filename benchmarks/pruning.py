"""MobileNetV2 without 30% of its channels: faster on this machine, or refused with the reason."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.pairs import alternate, median
from benchmarks.setting import Setting, note
from benchmarks.table import Row
from benchmarks.weights import mobilenet_weights
from saccade.errors import ChangeRefused
from saccade.optimize.change import PlanContext
from saccade.optimize.changes.prune import Prune
from saccade.optimize.changes.runtime import SwitchRuntime
from saccade.optimize.job import Job, plan_context
from saccade.optimize.race import Runner
from saccade.pipeline.config import PipelineConfig
from saccade.playbook.prepare import prepare
from saccade.playbook.steps import profiler_of
from saccade.progress import SilentProgress
from saccade.spec import Spec, make_spec
from saccade.statistics import ratio_of_blocks
from saccade.study import RunFolder
from saccade.validate.referee import LabelReferee

SHARE = 0.3
METRIC = "top1"


def measure(setting: Setting) -> list[Row]:
    """Prune on PyTorch itself, and on OpenVINO in fp32."""
    job = prepare(_spec(setting), RunFolder(setting.folder / "pruning"), SilentProgress())
    context = plan_context(job, job.baseline, profiler_of(job, None)(job.baseline))
    elsewhere = SwitchRuntime("openvino").apply(context)
    rows: list[Row] = []
    for config in (job.baseline, elsewhere):
        note(f"pruning MobileNetV2 on {config.runtime}")
        rows += _rows(setting, job, replace(context, config=config))
    return rows


def _spec(setting: Setting) -> Spec:
    return make_spec(
        {
            "task": "classification",
            "model": "torchvision:mobilenet_v2",
            "weights": str(mobilenet_weights()),
            "data": str(setting.inputs.data.parents[1] / "imagenet" / "labels.csv"),
            "goals": ["latency_ms.p50<=1"],
        }
    )


def _rows(setting: Setting, job: Job, context: PlanContext) -> list[Row]:
    name = f"MobileNetV2 without {SHARE:.0%} of its channels, {context.config.runtime}"
    try:
        after = Prune(SHARE).apply(context)
    except ChangeRefused as refusal:
        return [Row(f"{name}: latency", None, detail=f"refused: {refusal}", applies=False)]
    first = Runner(context.config, job.source)
    try:
        second = Runner(after, job.source)
        try:
            frames = first.frames_for(setting.sizes.block_s)
            pairs = alternate(first, second, frames, setting.sizes.pairs)
            accuracy = _accuracy_row(name, job, first, second)
        finally:
            second.close()
    finally:
        first.close()
    before_ms = [median(block.latency_ms) for block, _ in pairs]
    after_ms = [median(block.latency_ms) for _, block in pairs]
    ratio = ratio_of_blocks(before_ms, after_ms)
    return [
        Row(
            f"{name}: median latency, times as fast",
            ratio.value,
            ratio.interval.low,
            ratio.interval.high,
            "x",
            1.0,
            detail=f"{median(before_ms):.2f} -> {median(after_ms):.2f} ms, "
            f"{_size(context.config)} -> {_size(after)}",
        ),
        accuracy,
    ]


def _accuracy_row(name: str, job: Job, before: Runner, after: Runner) -> Row:
    """What it costs, on images that neither pruning nor training has seen."""
    assert job.roles is not None and job.roles.report is not None
    referee = LabelReferee(job.roles.report, before, METRIC, 1.0, job.spec.seed)
    judged = referee.judge(after, "lossy")
    drop = judged.drop
    return Row(
        f"{name}: {METRIC} drop",
        drop.estimate if drop else None,
        drop.lower if drop else None,
        drop.upper if drop else None,
        detail=f"{referee.baseline.values[METRIC]:.3f} -> {judged.accuracy:.3f} on "
        f"{len(job.roles.report)} images",
    )


def _size(config: PipelineConfig) -> str:
    return f"{config.model.size_mb:.1f} MB"
