"""Steps two to four: baseline, profile, diagnosis and plan, each leaving its document behind."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from saccade.diagnose.diagnose import diagnose, findings_document
from saccade.diagnose.records import Finding
from saccade.environment import Environment
from saccade.measurement import Block, Measurement
from saccade.optimize.job import Job
from saccade.optimize.metrics import Estimate, speed_metrics
from saccade.optimize.race import Runner, against_itself, resolution_of
from saccade.optimize.worker import Worker
from saccade.pipeline.config import PipelineConfig
from saccade.profile import roofline as roofs
from saccade.profile.records import Profile, Roofline
from saccade.profile.trace import write_trace
from saccade.progress import Progress
from saccade.stream_address import without_password
from saccade.study import RunFolder, block_from_dict

AA_PAIRS = 6
AA_BLOCK_S = 0.6
# On a slow machine fewer pairs have to do, so that the budget is kept.
AA_MIN_PAIRS, AA_SHARE = 3, 0.1
PROFILE_FRAMES = 30
PROFILE_TIMEOUT_S = 180.0


@dataclass(frozen=True)
class Baseline:
    """The naive pipeline, measured against itself.

    Attributes:
        blocks: all of them.
        resolution: relative difference that this machine can resolve now, from A against A.
    """

    config: PipelineConfig
    blocks: tuple[Block, ...]
    resolution: float

    @property
    def metrics(self) -> dict[str, Estimate]:
        """Metrics of speed and size."""
        return speed_metrics(self.blocks, self.config.model.size_mb)


def measure_baseline(job: Job, run: RunFolder, progress: Progress) -> Baseline:
    """Measure the baseline, two workers in turns, so that the noise is known too.

    A measurement of the same configuration in the same environment is used again.
    """
    known = _known_baseline(job, run)
    if known is not None:
        progress.note("the baseline was measured before and is used again")
        return known
    first = Runner(job.baseline, job.source)
    try:
        second = Runner(job.baseline, job.source)
        try:
            blocks, resolution = _against_itself(job, first, second)
        finally:
            second.close()
    finally:
        first.close()
    baseline = Baseline(job.baseline, blocks, resolution)
    run.write_json("baseline.json", baseline_document(job, baseline))
    return baseline


def _against_itself(job: Job, first: Runner, second: Runner) -> tuple[tuple[Block, ...], float]:
    began = time.monotonic()

    def go_on(pairs: int) -> bool:
        late = time.monotonic() - began > AA_SHARE * job.spec.budget
        return pairs < AA_PAIRS and not (late and pairs >= AA_MIN_PAIRS)

    frames = first.frames_for(AA_BLOCK_S)
    return against_itself(first, second, job.objective, frames, go_on)


def baseline_document(job: Job, baseline: Baseline) -> dict[str, Any]:
    """Content of ``baseline.json``; raw samples included."""
    measurement = Measurement(
        baseline.config.hash,
        job.environment.hash,
        baseline.blocks,
        baseline.config.model.size_mb,
    )
    return {
        "config": baseline.config.to_dict(),
        "source": without_password(job.source),
        "labels": job.spec.labels.given(),
        "resolution": baseline.resolution,
        "metrics": {name: asdict(value) for name, value in baseline.metrics.items()},
        **asdict(measurement),
    }


def _known_baseline(job: Job, run: RunFolder) -> Baseline | None:
    document = run.read_json("baseline.json")
    if document is None:
        return None
    same = (
        document.get("config_hash") == job.baseline.hash
        and document.get("environment_hash") == job.environment.hash
        and document.get("source") == without_password(job.source)
        and document.get("resolution") is not None
    )
    if not same:
        return None
    blocks = tuple(block_from_dict(block) for block in document["blocks"])
    # The objective may be another by now.
    return Baseline(job.baseline, blocks, resolution_of(blocks, job.objective))


def profiler_of(job: Job, roofline: Roofline | None) -> Callable[[PipelineConfig], Profile]:
    """A function that profiles a configuration in a worker of its own."""

    def profile_of(config: PipelineConfig) -> Profile:
        kind = "saccade.profile.profiler:Profiler"
        with Worker(kind, (job.source, PROFILE_FRAMES)) as worker:
            found: Profile = worker.call("profile", config, timeout_s=PROFILE_TIMEOUT_S)
        return replace(found, roofline=roofline)

    return profile_of


def measure_roofline(run: RunFolder, environment: Environment) -> Roofline:
    """This machine's peaks; those in the run folder where the environment is the same."""
    known = run.read_json("roofline.json")
    if known is not None and known.get("environment_hash") == environment.hash:
        return roofs.from_dict(known["roofline"])
    with Worker("saccade.playbook.steps:RooflineMeter", ()) as worker:
        found: Roofline = worker.call("measure")
    run.write_json(
        "roofline.json",
        {"environment_hash": environment.hash, "roofline": roofs.to_dict(found)},
    )
    return found


class RooflineMeter:
    """Measures the roofline; lives in a worker, so that its libraries leave this process clean."""

    def measure(self) -> Roofline:
        """Measure."""
        return roofs.measure_roofline()


def write_profile(run: RunFolder, profile: Profile) -> tuple[Finding, ...]:
    """Write ``profile.json``, ``trace.json`` and ``findings.json``; the findings."""
    document = asdict(profile)
    document.pop("spans")
    run.write_json("profile.json", document)
    write_trace(run.path / "trace.json", profile)
    findings = diagnose(profile)
    run.write_json("findings.json", findings_document(findings))
    return findings
