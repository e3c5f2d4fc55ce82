"""What several processes would bring to a job: what `saccade train scale` runs."""

from __future__ import annotations

from pathlib import Path

from saccade.optimize.training.scaling import measure_scaling
from saccade.playbook.training.prepare import prepare
from saccade.profile.training_machine import training_machine
from saccade.progress import Progress
from saccade.study import RunFolder
from saccade.train.scaling import Link
from saccade.train.scaling_report import ScalingReport
from saccade.train.spec import TrainingSpec

REPORT, TABLE = "scaling.json", "scaling.md"


def scaling_of_job(
    spec: TrainingSpec, out: Path, network: Link, progress: Progress | None = None
) -> ScalingReport:
    """Predict how a job scales as the user's own script trains it.

    Writes ``environment.json``, ``scaling.json`` and ``scaling.md``.

    Args:
        spec: names the job; its goals and budget do not matter here.
        out: the run folder.
        network: between machines, which cannot be measured here.
        progress: told what is being done.

    Raises:
        SpecError: it is no job, or its batch cannot be divided.
        DataError: its data cannot be read.
        StorageError: the run folder cannot be written.
    """
    run = RunFolder(out)
    task = prepare(spec, out)
    run.write_json("environment.json", task.environment.to_dict())
    gpus = training_machine(out, task.baseline).gpus
    report = measure_scaling(task.baseline, network=network, gpus=gpus, progress=progress)
    run.write_json(REPORT, report.document())
    run.write_text(TABLE, report.table() + "\n")
    return report
