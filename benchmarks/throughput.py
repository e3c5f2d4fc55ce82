"""The main job on YOLO11n and the street video: ratio, bounded drop, busy cores, time taken."""

from __future__ import annotations

import numpy as np
import psutil

from benchmarks.pairs import Pair, alternate, median
from benchmarks.setting import THROUGHPUT_GOALS, Setting, bundle_of, note
from benchmarks.table import Row
from saccade.duration import parse_duration
from saccade.goals import parse_goal
from saccade.optimize.metrics import speed_metrics
from saccade.optimize.race import Runner
from saccade.playbook.judge import config_at
from saccade.statistics import ratio_of_blocks
from saccade.study import Study

RATIO_BAR = 3.5
BUSY_BAR = 95.0
# What the hand-written prototype spent.
CORE_MS_BAR = 19.4
BUDGET_TOLERANCE = 1.1
LONG_BLOCKS = 3


def measure(setting: Setting) -> list[Row]:
    """Search, then race the bundle against the baseline again, after the search is over."""
    study = setting.throughput()
    source = str(setting.inputs.video)
    baseline = Runner(config_at(study.folder / "baseline.json"), source)
    try:
        best = Runner(config_at(bundle_of(study)), source)
        try:
            note("race: baseline against bundle")
            frames = baseline.frames_for(setting.sizes.block_s)
            pairs = alternate(baseline, best, frames, setting.sizes.pairs)
            cores = _busy_cores(best, setting.sizes.long_frames)
        finally:
            best.close()
    finally:
        baseline.close()
    return [
        *ratio_rows(pairs, best.config.model.size_mb),
        drop_row(study),
        _busy_row(cores),
        wall_row(setting, study, "throughput"),
    ]


def ratio_rows(pairs: list[Pair], model_mb: float) -> list[Row]:
    """End-to-end ratio and CPU time per frame, from interleaved blocks."""
    before, after = [a for a, _ in pairs], [b for _, b in pairs]
    ratio = ratio_of_blocks([b.fps for b in after], [a.fps for a in before])
    core = speed_metrics(after, model_mb)["core_ms_per_frame"]
    core_before = median([block.core_ms_per_frame for block in before])
    fps = (median([b.fps for b in before]), median([b.fps for b in after]))
    return [
        Row(
            "end-to-end throughput over the baseline",
            ratio.value,
            ratio.interval.low,
            ratio.interval.high,
            "x",
            RATIO_BAR,
            detail=f"{fps[0]:.1f} -> {fps[1]:.1f} FPS, {ratio.pairs} interleaved pairs",
        ),
        Row(
            "core-milliseconds per frame",
            core.value,
            core.low,
            core.high,
            " ms",
            CORE_MS_BAR,
            at_least=False,
            detail=f"the baseline: {core_before:.1f}; the hand-written prototype: {CORE_MS_BAR}",
        ),
    ]


def drop_row(
    study: Study, figure: str = "mAP50-95 drop, bounded", goal: str = THROUGHPUT_GOALS[1]
) -> Row:
    """The drop with the bounds of the final, on images that the search did not see."""
    wanted = parse_goal(goal)
    drop = (study.best or {}).get("drop")
    if not drop or drop["metric"] != wanted.base:
        return Row(figure, None, bar=wanted.bound, at_least=False, detail="not judged")
    changes = "; ".join(study.best["changes"]) if study.best else ""
    return Row(
        figure,
        drop["estimate"],
        drop["lower"],
        drop["upper"],
        bar=wanted.bound,
        at_least=False,
        detail=f"one-sided at {drop['level']:.2%} on {drop['images']} images: {changes}",
    )


def wall_row(setting: Setting, study: Study, name: str) -> Row:
    """How long the search took, from outside."""
    allowed = parse_duration(setting.sizes.budget) * BUDGET_TOLERANCE
    taken = setting.wall_s.get(name, float(study.result["wall_s"]))
    return Row(
        f"wall time of the search ({name})",
        taken,
        unit=" s",
        bar=allowed,
        at_least=False,
        detail=f"budget {setting.sizes.budget} + 10%; status {study.status}, "
        f"{len(study.trials)} trials",
    )


def _busy_cores(runner: Runner, frames: int) -> list[list[float]]:
    """Percent busy of each core over long blocks of the bundle running alone."""
    runner.block(frames // 4)
    found = []
    for _ in range(LONG_BLOCKS):
        psutil.cpu_percent(percpu=True)
        runner.block(frames)
        found.append(psutil.cpu_percent(percpu=True))
    return found


def _busy_row(blocks: list[list[float]]) -> Row:
    cores = np.asarray(blocks)
    idlest = cores.min(axis=1)
    return Row(
        "busy share of the idlest core while the bundle runs",
        float(idlest.mean()),
        float(idlest.min()),
        float(idlest.max()),
        "%",
        BUSY_BAR,
        detail="cores: " + ", ".join(f"{share:.1f}%" for share in cores.mean(axis=0)),
    )
