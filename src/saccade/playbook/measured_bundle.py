"""A bundle of the candidate that a device measured best, where a bundle can run it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from saccade import plugins
from saccade.deploy.bundle import write_bundle
from saccade.deploy.kit.judge import Row, blocks_of
from saccade.deploy.kit.read import Kit, Measurements
from saccade.optimize.job import Job
from saccade.pipeline.config import PipelineConfig
from saccade.runtimes.contract import Availability
from saccade.study import Ratio


@dataclass(frozen=True)
class Runnable:
    """How a pipeline runs a candidate of a kit.

    Attributes:
        config: None where it cannot.
        why_not: the reason then; one clause for a person.
    """

    config: PipelineConfig | None
    why_not: str = ""


@dataclass(frozen=True)
class Bundled:
    """A bundle that was written.

    Attributes:
        path: None where there is none.
        why_not: the reason then; one clause for a person.
    """

    path: str | None
    why_not: str = ""


def bundle_of(job: Job, kit: Kit, measured: Measurements, row: Row, out: Path) -> Bundled:
    """Write a bundle of the winner at ``out``, where a bundle can run it."""
    entry = kit.candidates[row.id]
    found = runnable(kit.config(entry["file"]), entry["runtime"], entry["precision"])
    if found.config is None:
        return Bundled(None, found.why_not)
    ratio = ratio_of(row)
    assert ratio is not None
    provenance = {
        "original_model": {"name": Path(job.spec.model).name, "sha256": job.baseline.model.sha256},
        "changes": [row.id],
        "kit_id": measured.kit_id,
        "device": dict(measured.environment),
        "blocks": len(blocks_of(measured, row.id)),
        "baseline_hash": job.baseline.hash,
        "speedup": [ratio.low, ratio.value, ratio.high],
        "labels": job.spec.labels.given(),
    }
    return Bundled(str(write_bundle(found.config, provenance, out)))


def ratio_of(row: Row) -> Ratio | None:
    """Its speed over the reference's; None where it was not compared."""
    if row.comparison is None:
        return None
    found = row.comparison.ratio
    return Ratio(found.value, found.interval.low, found.interval.high)


def runnable(config: PipelineConfig, runtime: str, precision: str) -> Runnable:
    """How a pipeline runs a candidate as the kit's script did.

    Args:
        config: how its file runs on this machine.
        runtime: that measured it.
        precision: of the arithmetic there.
    """
    if runtime not in plugins.names("runtimes"):
        return Runnable(None, f"a pipeline has no runtime '{runtime}'")
    offered: Availability = plugins.load("runtimes", runtime).availability()
    if config.model.format not in offered.formats:
        kind = config.model.format
        return Runnable(None, f"a pipeline runs no {kind} file in {runtime}")
    return _IN[precision](replace(config, runtime=runtime), offered)


def _plain(config: PipelineConfig, offered: Availability) -> Runnable:
    return Runnable(config)


def _bf16(config: PipelineConfig, offered: Availability) -> Runnable:
    return Runnable(replace(config, options=replace(config.options, precision="bf16")))


def _fp16(config: PipelineConfig, offered: Availability) -> Runnable:
    """By the runtime's own option, or because the file's arithmetic is in halves."""
    if "fp16" in offered.precisions:
        return Runnable(replace(config, options=replace(config.options, precision="fp16")))
    if config.model.format == "onnx" and config.model.stored == "fp16":
        return Runnable(config)
    return Runnable(None, f"a pipeline has no fp16 in {config.runtime}")


def _int8(config: PipelineConfig, offered: Availability) -> Runnable:
    """A property of the file: an engine that a calibration cache made int8 is not in it."""
    if config.model.quantized:
        return Runnable(config)
    return Runnable(None, "its file is in float, and only the device's engine is in int8")


_IN = {"fp32": _plain, "bf16": _bf16, "fp16": _fp16, "int8": _int8}
