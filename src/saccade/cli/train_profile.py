"""`saccade train profile`: where the time of a training step goes."""

from __future__ import annotations

import shlex
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from saccade.cli.common import (
    AsJson,
    Out,
    print_json,
    print_table,
    progress_for,
    remember_folder,
)
from saccade.cli.train_optimize import (
    DEFAULT_OUT,
    Device,
    Job,
    JobData,
    JobTask,
    MaxCorrupt,
    Recipes,
    Strategy,
    Weights,
    job_document,
)

if TYPE_CHECKING:
    from saccade.diagnose.records import Finding
    from saccade.train.config import Strategy as HowShared
    from saccade.train.profile import TrainingProfile

TOP, BAR = 10, 30
# Below this share of a step, no gain is printed beside a finding.
LEAST_SHARE = 0.005
Seconds = Annotated[float, typer.Option(help="About how long it takes; slow steps take longer.")]
LeastSteps = Annotated[
    int, typer.Option("--steps", help="Steps to measure at least, to see a loss go wrong later.")
]
Nvtx = Annotated[
    bool, typer.Option("--nvtx", help="Name the parts of steps for Nsight Systems (needs a GPU).")
]

Processes = Annotated[
    int, typer.Option(min=1, help="Processes on this machine, which share every batch.")
]


def profile(
    job: Job,
    data: JobData = None,
    task: JobTask = None,
    weights: Weights = None,
    recipe: Recipes = None,
    device: Device = None,
    seconds: Seconds = 30.0,
    steps: LeastSteps = 0,
    max_corrupt: MaxCorrupt = None,
    nvtx: Nvtx = False,
    processes: Processes = 1,
    strategy: Strategy = None,
    out: Out = DEFAULT_OUT,
    as_json: AsJson = False,
) -> None:
    """Say where a training step's time goes, and name what holds it back; write a Chrome trace.

    With several processes one of them is profiled, and how evenly all share the work is measured.
    Example: saccade train profile job.py --out runs/unet
    """
    from saccade.diagnose.diagnose import findings_document
    from saccade.optimize.training_profile import nsys_command
    from saccade.playbook.training.profile import profile_document, profile_job
    from saccade.train.spec import make_training_spec

    flags = {
        "data": data,
        "task": task,
        "weights": weights,
        "recipe": recipe,
        "device": device,
        "max_corrupt": max_corrupt,
    }
    given = {name: value for name, value in flags.items() if value is not None}
    spec = make_training_spec({**job_document(job), **given})
    shared_by: HowShared = strategy.value if strategy is not None else "ddp"
    remember_folder(out)
    with closing(progress_for()) as progress:
        found, findings = profile_job(
            spec,
            out,
            seconds,
            least_steps=steps,
            nvtx=nvtx,
            processes=processes,
            strategy=shared_by,
            progress=progress,
        )
    command = nsys_command(sys.argv, out) if _on_gpu(found) else None
    if as_json:
        document = {**profile_document(found), **findings_document(findings)}
        print_json({**document, "nsys_command": command})
        return
    _print_steps(found)
    _print_ranks(found)
    _print_syncs(found)
    _print_findings(findings)
    for name, reason in found.missing.items():
        print(f"not seen: {name} ({reason})")
    print(f"trace  {out / 'trace.json'} (open it in https://ui.perfetto.dev)")
    if command is not None:
        print(f"nsys   {shlex.join(command)}")


def _on_gpu(profile: TrainingProfile) -> bool:
    """Whether the job itself trains on a GPU, whose timeline Nsight Systems shows."""
    return profile.config is not None and profile.config.compute.device.startswith("cuda")


def _print_steps(profile: TrainingProfile) -> None:
    block = profile.block
    steps, step_s = len(block.step_s), block.wall_s / len(block.step_s)
    print(
        f"{block.samples_per_s:.3g} samples/s over {steps} steps of {1e3 * step_s:.1f} ms "
        f"({len(profile.warmup.step_s) if profile.warmup else 0} of warm-up before); on one cached "
        f"batch {profile.synthetic.samples_per_s:.3g}"
        + (f", the loader alone {_rate(profile):.3g}" if profile.loader else "")
    )
    rows = []
    for part, times in block.part_s.items():
        share = block.share(part)
        rows.append(
            (part, f"{1e3 * sum(times) / steps:.2f}", f"{share:.0%}", "█" * round(BAR * share))
        )
    print_table("A step", ("part", "ms", "share", ""), rows)
    gpu = block.device_busy_share
    print(f"busy: CPU {block.busy_share:.0%}" + (f", GPU {gpu:.0%}" if gpu is not None else ""))
    memory = [(name, f"{mb:.1f}") for name, mb in profile.memory_mb.items()]
    print_table("Memory of a step", ("category", "MB"), memory)
    operators = [(op.name[:60], op.kind, f"{op.wall_ms:.3f}") for op in profile.operators[:TOP]]
    print_table("Slowest operators of a step", ("operator", "kind", "ms"), operators)
    if profile.overhead is not None:
        slower = f"the profiler made steps {max(0.0, profile.overhead):.0%} slower"
        print(f"{slower}; times of operators are no measurement")


def _rate(profile: TrainingProfile) -> float:
    """Samples per second of the loader alone, once its workers have started."""
    assert profile.loader is not None
    batch = profile.loader.samples / len(profile.loader.batch_s)
    return batch / profile.loader.steady_batch_s


def _print_ranks(profile: TrainingProfile) -> None:
    """Each process's own part of a step; nothing for one process."""
    rows = [(str(rank), f"{ms:.2f}") for rank, ms in enumerate(profile.ranks_ms)]
    if rows:
        print_table("Processes", ("rank", "own work in a step, ms"), rows)


def _print_syncs(profile: TrainingProfile) -> None:
    rows = [
        (sync.operator, f"{sync.where} {sync.function}()", sync.part, f"{sync.per_step:.0f}")
        for sync in profile.syncs[:TOP]
    ]
    columns = ("call", "where", "seen in", "calls")
    print_table("Single values that the job asks for", columns, rows)


def _print_findings(findings: tuple[Finding, ...]) -> None:
    print("Bottlenecks" if findings else "No bottleneck was found.")
    for number, finding in enumerate(findings, 1):
        print(f"{number}. {finding.name}{_worth(finding)}: {finding.title}")
        if finding.hints:
            print(f"   try: {', '.join(finding.hints)}")


def _worth(finding: Finding) -> str:
    """What could be gained in brackets; nothing where it is no matter of time, such as a leak."""
    gain = finding.max_gain_sequential
    if finding.share < LEAST_SHARE and gain < 1 + LEAST_SHARE:
        return ""
    return f" ({finding.share:.0%} of a step, gain at most {gain:.2f}x)"


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(profile)
