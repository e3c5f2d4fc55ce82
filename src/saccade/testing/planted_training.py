"""Trainings with a planted bottleneck, whose right diagnosis is known.

`healthy_training` is a profile of which no rule may complain but that it computes;
`planted_training` spoils it in one way, after which the rule of that name must give the first
finding. `write_job` writes a real job for each of `JOBS`, to be profiled as it runs.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from saccade.runtimes.contract import OperatorTime
from saccade.train.config import (
    BatchSettings,
    JobReference,
    LoaderSettings,
    TrainingConfig,
)
from saccade.train.profile import (
    SampleFacts,
    SampleScan,
    Synchronisation,
    TrainingProfile,
)
from saccade.train.records import PARTS, LoaderBlock, TrainingBlock
from saccade.train.samples import Corrupt, LoadTimes

STEPS, BATCH = 40, 8
NAN_STEP = 37
FILES, BROKEN_FILE = 1000, 617
LEAK_MB = 2.0
# Milliseconds of a healthy step's parts.
HEALTHY_MS = {"data": 0.5, "copy": 1.0, "forward": 30.0, "loss": 1.0, "backward": 60.0}


@dataclass(frozen=True)
class PlantedJob:
    """A job file with something wrong.

    Attributes:
        rule: the rule that has to name it, first.
        text: of the file; ``FOLDER`` stands for the folder that it is in.
        prepare: writes what the job needs beside it.
    """

    rule: str
    text: str
    prepare: Callable[[Path], None] | None = None


def write_job(folder: Path, case: str) -> Path:
    """Write the job of a case, with its data, into a folder.

    Raises:
        KeyError: there is no such case.
    """
    job = JOBS[case]
    if job.prepare is not None:
        job.prepare(folder)
    path = folder / f"{case}.py"
    path.write_text(job.text.replace("FOLDER", repr(str(folder))), encoding="utf-8")
    return path


def _write_images(folder: Path) -> None:
    """Small JPEGs, one of which ends too early."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.effect_noise((32, 32), 60).convert("RGB").save(buffer, "JPEG")
    for number in range(FILES):
        data = buffer.getvalue()
        end = len(data) // 2 if number == BROKEN_FILE else len(data)
        (folder / f"{number:04}.jpg").write_bytes(data[:end])


HEALTHY = """from saccade.testing.planted_jobs import Model, loss, optimizer, transforms
from saccade.testing.planted_jobs import arrays as dataset

model = Model()
batch_size = 4
"""
JOBS: dict[str, PlantedJob] = {
    "slow_transform": PlantedJob(
        "slow_transform", f"{HEALTHY}from saccade.testing.planted_jobs import slow_transforms\n"
        "transforms = slow_transforms\n",
    ),
    "disk_bound": PlantedJob(
        "disk_bound", f"{HEALTHY}from saccade.testing.planted_jobs import blocked_reads\n"
        "dataset = blocked_reads\n",
    ),
    "item_in_loss": PlantedJob(
        "synchronisation",
        f"""{HEALTHY}
from saccade.testing.planted_jobs import loss as cross_entropy

def loss(output, target):
    found = cross_entropy(output, target)
    seen.append(found.item())
    return found

seen = []
""",
    ),
    "slow_console": PlantedJob(
        "logging_bound",
        f"""{HEALTHY}
from saccade.testing.planted_jobs import SlowConsole
from saccade.testing.planted_jobs import loss as cross_entropy

def loss(output, target):
    found = cross_entropy(output, target)
    print(found, file=console)
    return found

console = SlowConsole()
""",
    ),
    "tiny_batch": PlantedJob(
        "tiny_batch", f"{HEALTHY}from saccade.testing.planted_jobs import many_layers\n"
        "from saccade.testing.planted_jobs import small_arrays\n"
        "dataset, model, batch_size = small_arrays, many_layers, 1\n",
    ),
    "leaking_loader": PlantedJob(
        "leaking_loader", f"{HEALTHY}from saccade.testing.planted_jobs import leaking\n"
        "dataset = leaking\n",
    ),
    "corrupt_samples": PlantedJob(
        "corrupt_samples",
        f"""{HEALTHY}
from pathlib import Path

from saccade.testing.planted_jobs import Files

def dataset(split):
    return Files(Path(FOLDER))
""",
        _write_images,
    ),
    "nan_at_step_37": PlantedJob(
        "nonfinite_loss", f"{HEALTHY}from saccade.testing.planted_jobs import NanAt\n"
        f"loss = NanAt({NAN_STEP})\n",
    ),
}  # fmt: skip


def healthy_training() -> TrainingProfile:
    """Batches are there when they are asked for, and steps are convolutions of large batches."""
    config = TrainingConfig(
        JobReference("job.py", "python_file", "healthy"),
        LoaderSettings(workers=2),
        batch=BatchSettings(size=BATCH),
    )
    operators = (
        OperatorTime("aten::convolution_backward", "convolution_backward", 55.0),
        OperatorTime("aten::mkldnn_convolution", "Conv", 26.0),
        OperatorTime("aten::native_batch_norm", "BatchNormalization", 8.0),
    )
    return TrainingProfile(
        config_hash="healthy",
        block=training_block(optimizer=2.0),
        synthetic=training_block(data=0.0, optimizer=2.0),
        loader=loader_block(batch_ms=40.0, load=LoadTimes(0.1, 1.0, 1.0, 0.1)),
        facts=SampleFacts(samples=1000),
        operators=operators,
        memory_mb={"parameters": 4.0, "gradients": 4.0, "activations": 300.0, "batch": 6.0},
        overhead=0.1,
        effective_cores=2,
        config=config,
        launches=120.0,
        operators_share=0.9,
        scaled_ms={BATCH: 90.0, 4 * BATCH: 350.0},
        memory_limit_mb=8000.0,
        scan=SampleScan(1000),
    )


def planted_training(rule: str) -> TrainingProfile:
    """A profile in which ``rule`` names the largest bottleneck.

    Raises:
        KeyError: there is no planted training for a rule of that name.
    """
    return replace(PLANTED[rule](healthy_training()), config_hash=f"planted-{rule}")


def training_block(**parts_ms: float) -> TrainingBlock:
    """`STEPS` equal steps; parts that are not named take what they take in a healthy training."""
    found = {**dict.fromkeys(PARTS, 0.0), **HEALTHY_MS, **parts_ms}
    step_s = sum(found.values()) / 1e3
    return TrainingBlock(
        step_s=(step_s,) * STEPS,
        part_s={part: (ms / 1e3,) * STEPS for part, ms in found.items()},
        losses=tuple(2.0 - 0.01 * step for step in range(STEPS)),
        samples=STEPS * BATCH,
        cpu_s=STEPS * step_s,
        busy_share=0.95,
        peak_rss_mb=900.0,
        output_s=STEPS * found["logging"] / 1e3,
    )


def loader_block(
    batch_ms: float, load: LoadTimes, batches: int = STEPS, mb_per_batch: float = 0.0
) -> LoaderBlock:
    """Batches at an even pace, after a first one for which workers had to start."""
    return LoaderBlock(
        batch_s=(0.5, *(batch_ms / 1e3,) * (batches - 1)),
        samples=batches * BATCH,
        load=load,
        cpu_s=batches * batch_ms / 1e3,
        read_mb=10.0,
        rss_mb=tuple(500.0 + mb_per_batch * number for number in range(batches)),
    )


def _waiting(profile: TrainingProfile, **load_ms: float) -> TrainingProfile:
    """Steps that wait for a loader, in the training process, one part of which is slow."""
    parts_ms = {"read": 1.0, "decode": 2.0, "transform": 2.0, "collate": 1.0, "waited": 0.0}
    parts_ms |= load_ms
    load = LoadTimes(**{f"{name}_s": STEPS * ms / 1e3 for name, ms in parts_ms.items()})
    batch_ms = 1e3 * load.total_s() / STEPS
    assert profile.config is not None
    return replace(
        profile,
        block=training_block(data=batch_ms, optimizer=2.0),
        loader=loader_block(batch_ms, load),
        config=profile.config.with_loader(workers=0),
    )


def _python(profile: TrainingProfile) -> TrainingProfile:
    """No part of loading stands out, and fourteen cores have nothing to do."""
    even = _waiting(profile, read=40.0, decode=40.0, transform=40.0, collate=40.0)
    return replace(even, effective_cores=16)


def _between_processes(profile: TrainingProfile) -> TrainingProfile:
    """Workers are done quickly with batches that then take long to arrive."""
    load = LoadTimes(*(STEPS * 0.01 for _ in range(4)))
    return replace(
        profile,
        block=training_block(data=300.0, optimizer=2.0),
        loader=loader_block(400.0, load),
    )


def _computing(profile: TrainingProfile, **ms: float) -> TrainingProfile:
    """Steps whose parts take other times, with and without loading."""
    parts = {"optimizer": 2.0, **ms}
    synthetic = training_block(**{**parts, "data": 0.0})
    return replace(profile, block=training_block(**parts), synthetic=synthetic)


def _light(profile: TrainingProfile) -> TrainingProfile:
    moved = OperatorTime("aten::native_batch_norm", "BatchNormalization", 70.0, bytes=1.4e9)
    few = OperatorTime("aten::mkldnn_convolution", "Conv", 12.0)
    return replace(profile, operators=(moved, few))


def _faulting(profile: TrainingProfile) -> TrainingProfile:
    """Of 180 ms of CPU in a step, 72 are the kernel's, which provides 40,000 pages."""
    synthetic = replace(
        profile.synthetic,
        cpu_s=STEPS * 0.18,
        kernel_s=STEPS * 0.072,
        page_faults=STEPS * 40_000,
    )
    return replace(profile, synthetic=synthetic)


def _launches(profile: TrainingProfile) -> TrainingProfile:
    kernels = (OperatorTime("void cudnn::conv", "conv", 12.0), OperatorTime("add", "add", 8.0))
    return replace(profile, operators=kernels, launches=2400.0, device_ms=20.0, scaled_ms={})


def _ranks(profile: TrainingProfile) -> TrainingProfile:
    """Three processes wait for a fourth: what is computed could not be faster by as much."""
    slow = _computing(profile, forward=5.0, backward=5.0)
    return replace(slow, ranks_ms=(10.0, 10.0, 10.0, 200.0))


def _recompiling(profile: TrainingProfile) -> TrainingProfile:
    quick = _computing(profile, forward=5.0, backward=5.0).block
    steps = tuple(s * (60 if k % 4 == 0 else 1) for k, s in enumerate(quick.step_s))
    block = replace(quick, step_s=steps)
    return replace(profile, block=block, recompilations=10, graph_breaks=2)


def _waits(profile: TrainingProfile) -> TrainingProfile:
    item = Synchronisation("Tensor.item", "job.py:12", 8.0, "loss", 75.0, "cuda")
    slow = _computing(profile, forward=2.0, backward=3.0, loss=86.0)
    return replace(slow, syncs=(item,), device_ms=15.0, launches=20.0)


def _says(profile: TrainingProfile) -> TrainingProfile:
    """A step prints its loss, for which it asks a tensor."""
    asked = Synchronisation("Tensor.__repr__", "job.py:12", 1.0, "loss", 9.0, within_output=True)
    printed = Synchronisation("print", "job.py:12", 1.0, "loss", 395.0)
    return replace(_computing(profile, logging=400.0), syncs=(printed, asked))


def _broken(profile: TrainingProfile) -> TrainingProfile:
    broken = Corrupt(BROKEN_FILE, "DataError: image file is truncated")
    return replace(profile, scan=SampleScan(FILES, (broken,)))


def _nan(profile: TrainingProfile) -> TrainingProfile:
    losses = profile.block.losses[:NAN_STEP] + (float("nan"),) * (STEPS - NAN_STEP)
    return replace(profile, block=replace(profile.block, losses=losses))


def _leaking(profile: TrainingProfile) -> TrainingProfile:
    loader = loader_block(40.0, LoadTimes(0.1, 1.0, 1.0, 0.1), mb_per_batch=LEAK_MB)
    return replace(profile, loader=loader)


def _full(profile: TrainingProfile) -> TrainingProfile:
    return replace(profile, block=replace(profile.block, peak_device_mb=7900.0))


PLANTED: dict[str, Callable[[TrainingProfile], TrainingProfile]] = {
    "nonfinite_loss": _nan,
    "corrupt_samples": _broken,
    "leaking_loader": _leaking,
    "page_fault_bound": _faulting,
    "disk_bound": lambda p: _waiting(p, read=300.0, waited=298.0),
    "decode_bound": lambda p: _waiting(p, decode=300.0),
    "slow_transform": lambda p: _waiting(p, transform=300.0),
    "slow_collate": lambda p: _waiting(p, collate=300.0),
    "interprocess_copy": _between_processes,
    "python_loading": _python,
    "copy_bound": lambda p: _computing(p, copy=400.0),
    "launch_bound": _launches,
    "compute_bound": lambda p: p,
    "memory_bandwidth_bound": _light,
    "memory_capacity": _full,
    "optimizer_bound": lambda p: _computing(p, optimizer=400.0),
    "tiny_batch": lambda p: replace(p, scaled_ms={BATCH: 90.0, 4 * BATCH: 100.0}),
    "logging_bound": _says,
    "synchronisation": _waits,
    "recompilation": _recompiling,
    "unbalanced_ranks": _ranks,
}
