"""What every change of a training must do, as checks that need no test framework.

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_change(check, tmp_path):
        for context in example_contexts(tmp_path):
            check(MyChange, context)

    @pytest.mark.parametrize("other", plugins.names("training_changes"))
    def test_together(other, tmp_path):
        for context in example_contexts(tmp_path):
            works_on_top(MyChange, plugins.load("training_changes", other), context)

Each check raises an ``AssertionError`` that says which rule of `saccade.train.change` was broken.
A change whose `apply` tries something in a worker process, or writes a cache, is tested with that
part replaced; the suite only ever calls `variants`, `applies`, `predict` and `apply`.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from saccade.goals import Goal
from saccade.train.change import (
    Effect,
    Part,
    Prediction,
    TrainingChange,
    TrainingContext,
    TrainingMachine,
)
from saccade.train.config import TrainingConfig
from saccade.train.job import refer
from saccade.train.memory import PEAKS
from saccade.train.profile import SampleFacts, TrainingProfile
from saccade.train.records import PARTS, LoaderBlock, TrainingBlock
from saccade.train.samples import LoadTimes

Check = Callable[[type[TrainingChange], TrainingContext], None]

SLACK = 1e-9
STEPS = 5

# A job that can be opened, for changes that look into it.
JOB = '''"""A tiny job."""

import torch
from torch import nn

batch_size = 4
epochs = 2


def model():
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
        nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()),
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)),
    )


class Noise:
    """Pictures of noise, brighter where the class is higher."""

    def __len__(self):
        return 32

    def __getitem__(self, index):
        random = torch.Generator().manual_seed(index)
        return torch.rand(3, 16, 16, generator=random) + index % 4, index % 4


def dataset(split):
    return Noise()


def loss(output, target):
    return nn.functional.cross_entropy(output, target)


def optimizer(model):
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
'''


def is_a_frozen_dataclass(kind: type[TrainingChange], context: TrainingContext) -> None:
    """A change is a value: its parameters, and nothing that could change."""
    _expect(dataclasses.is_dataclass(kind), f"{kind.__name__} is no dataclass")
    params = kind.__dataclass_params__  # type: ignore[attr-defined]
    _expect(params.frozen, f"{kind.__name__} is not frozen")
    _expect(bool(kind.name), f"{kind.__name__} has no name")
    _expect(kind.part in get_args(Part), f"unknown part {kind.part!r}")
    for change in kind.variants(context):
        copied = replace(change)  # type: ignore[type-var]
        _expect(change == copied, f"{change!r} is not equal to its copy")
        _expect(hash(change) == hash(copied), f"{change!r} has no stable hash")
        _expect(change.effect in get_args(Effect), f"unknown effect {change.effect!r}")


def labels_are_unique(kind: type[TrainingChange], context: TrainingContext) -> None:
    """Labels tell the variants apart, and say which change they are of."""
    labels = [change.label for change in kind.variants(context)]
    _expect(len(set(labels)) == len(labels), f"labels are not unique: {labels}")
    for label in labels:
        _expect(label.startswith(kind.name), f"the label '{label}' does not begin with the name")


def applies_gives_none_or_a_reason(kind: type[TrainingChange], context: TrainingContext) -> None:
    """`applies` answers None or a clause for people, the same one when asked again."""
    for change in kind.variants(context):
        reason = change.applies(context)
        _expect(reason is None or (isinstance(reason, str) and bool(reason)), f"got {reason!r}")
        _expect(change.applies(context) == reason, "asked again, applies() answers differently")


def predictions_are_bounded(kind: type[TrainingChange], context: TrainingContext) -> None:
    """What is expected does not exceed what is possible, and both are numbers."""
    for change in applying(kind, context):
        found = change.predict(context)
        _expect(isinstance(found, Prediction), f"predict() returned {found!r}")
        numbers = (found.gain, found.bound, found.cost_s)
        _expect(all(map(math.isfinite, numbers)), f"{change.label}: not finite: {found}")
        _expect(found.gain > 0, f"{change.label}: a gain of {found.gain}")
        _expect(found.gain <= found.bound + SLACK, f"{change.label}: gain above bound: {found}")
        _expect(found.cost_s >= 0, f"{change.label}: costs {found.cost_s} s")
        _expect(0 <= found.odds <= 1, f"{change.label}: odds of {found.odds}")
        _expect(bool(found.basis), f"{change.label}: does not say what the prediction rests on")
        for metric, ratio in found.shrinks.items():
            _expect(metric in PEAKS, f"{change.label}: there is no memory called {metric}")
            _expect(0 < ratio < math.inf, f"{change.label}: {metric} times {ratio}")


def apply_changes_the_configuration(kind: type[TrainingChange], context: TrainingContext) -> None:
    """`apply` gives another configuration, the same one each time, that survives its document."""
    for change in applying(kind, context):
        after = change.apply(context)
        _is_a_configuration(change, after)
        _expect(after.hash != context.config.hash, f"{change.label}: nothing changed")
        _expect(after.job == context.config.job, f"{change.label}: it is another job now")
        _expect(after.seed == context.config.seed, f"{change.label}: it has another seed now")
        _expect(change.apply(context) == after, f"{change.label}: two results")


def recipes_are_kept(kind: type[TrainingChange], context: TrainingContext) -> None:
    """What a step learns from changes only where the user allows that."""
    for change in applying(kind, context):
        before, after = context.config, change.apply(context)
        samples = (c.batch.effective * c.scale.world for c in (before, after))
        _expect(
            "batch" in context.allow or len(set(samples)) == 1,
            f"{change.label}: another effective batch, which the user did not allow",
        )
        _expect(
            "batch" in context.allow
            or before.batch.learning_rate_scale == after.batch.learning_rate_scale,
            f"{change.label}: another learning rate, which the user did not allow",
        )
        _expect(
            "model" in context.allow or before.model_change == after.model_change,
            f"{change.label}: another model, which the user did not allow",
        )


def applied_once_is_enough(kind: type[TrainingChange], context: TrainingContext) -> None:
    """Where a change has been made, the same change is not offered again."""
    for change in applying(kind, context):
        after = replace(context, config=change.apply(context))
        offered = [other.label for other in applying(kind, after)]
        _expect(change.label not in offered, f"'{change.label}' is offered again after itself")
        _expect(change.applies(after) is not None, f"'{change.label}' applies to its own result")


def contexts_are_left_alone(kind: type[TrainingChange], context: TrainingContext) -> None:
    """Nothing a change is asked changes what it was asked about."""
    before = copy.deepcopy(context)
    for change in applying(kind, context):
        change.predict(context)
        change.apply(context)
    _expect(context == before, f"{kind.__name__} changed the context")


CHECKS: tuple[Check, ...] = (
    is_a_frozen_dataclass,
    labels_are_unique,
    applies_gives_none_or_a_reason,
    predictions_are_bounded,
    apply_changes_the_configuration,
    recipes_are_kept,
    applied_once_is_enough,
    contexts_are_left_alone,
)


def works_on_top(
    kind: type[TrainingChange], other: type[TrainingChange], context: TrainingContext
) -> None:
    """On top of another change it applies or says why not; apart from each other they commute."""
    for first, second in itertools.product(_ends(other, context), _ends(kind, context)):
        under = replace(context, config=first.apply(context))
        reason = second.applies(under)
        _expect(reason is None or bool(reason), f"{second.label}: got {reason!r}")
        if reason is not None:
            continue
        pair = f"{second.label} on top of {first.label}"
        both = second.apply(under)
        _is_a_configuration(second, both)
        _expect(both.hash != under.config.hash, f"{pair}: nothing changed")
        expected = second.predict(under)
        _expect(0 < expected.gain <= expected.bound + SLACK, f"{pair}: predicted {expected}")
        reverse = replace(context, config=second.apply(context))
        apart = not _touched(context, first) & _touched(context, second)
        if apart and first.applies(reverse) is None:
            _expect(first.apply(reverse) == both, f"{pair}: the other order gives another result")


def _ends(kind: type[TrainingChange], context: TrainingContext) -> list[Any]:
    """The first and the last of the variants that apply."""
    found = applying(kind, context)
    return found[:1] + found[1:][-1:]


def _touched(context: TrainingContext, change: TrainingChange) -> set[str]:
    """Dotted names of the fields that a change turns."""
    before = _flat(context.config.to_dict())
    after = _flat(change.apply(context).to_dict())
    return {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}


def _flat(document: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in document.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def _is_a_configuration(change: TrainingChange, config: TrainingConfig) -> None:
    _expect(isinstance(config, TrainingConfig), f"{change.label}: apply() gave {config!r}")
    again = TrainingConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    _expect(again == config, f"{change.label}: the configuration cannot be written down")
    _expect(config.batch.size >= 1, f"{change.label}: a batch of {config.batch.size}")
    _expect(config.batch.accumulation >= 1, f"{change.label}: no forward pass in a step")


def applying(kind: type[TrainingChange], context: TrainingContext) -> list[Any]:
    """The variants that can be used."""
    return [change for change in kind.variants(context) if change.applies(context) is None]


def example_contexts(folder: Path) -> Iterator[TrainingContext]:
    """Common situations: CPU and GPU, waiting for data and for compute, plain and all turned on.

    Args:
        folder: an existing folder; a tiny job and whatever `apply` writes go there.
    """
    job = folder / "tiny_job.py"
    if not job.exists():
        job.write_text(JOB)
    base = TrainingConfig(refer(str(job))).with_batch(size=4)
    cpu = TrainingMachine(4, 16_000.0, 50_000.0, frozenset({"avx2", "avx512f", "avx512_bf16"}))
    plain = TrainingContext(base, example_profile(base), cpu, folder, epochs=10)
    yield plain
    yield replace(plain, profile=example_profile(base, data_share=0.6))
    yield replace(plain, machine=replace(cpu, cores=1, isa=frozenset({"avx2"})), epochs=1)
    yield replace(plain, allow=frozenset({"batch", "model"}))
    yield replace(plain, config=base.with_batch(size=1, accumulation=4))
    less = (Goal("peak_rss_mb", "<=", 500.0),)
    yield replace(plain, config=base.with_loader(workers=2), memory_goals=less)
    tight = replace(cpu, free_memory_mb=1100.0, free_disk_mb=10.0)
    yield replace(plain, machine=tight)
    loading = {"workers": 2, "persistent": True, "cache": "memory", "decode": "scaled"}
    busy = base.with_loader(**loading).with_compute(precision="bf16", channels_last=True)
    yield replace(plain, config=busy, profile=example_profile(busy, data_share=0.3))
    yield replace(plain, config=base.with_loader(workers=2))
    files = SampleFacts(
        samples=5000,
        jpeg=1.0,
        file_kb=400.0,
        decoded_mb=6.2,
        source_hw=(1080, 1920),
        input_hw=(224, 224),
        scalable=0.25,
    )
    yield replace(plain, profile=replace(example_profile(base, data_share=0.7), facts=files))
    # As the RAM's mark on the CPU, so the GPU's: most of it is in use.
    card = replace(
        cpu, cores=16, gpu="a GPU", compute_capability=(9, 0), gpus=2, gpu_memory_mb=9000.0
    )
    gpu = base.with_compute(device="cuda")
    on_gpu = replace(plain, config=gpu, machine=card, profile=example_profile(gpu, data_share=0.4))
    yield on_gpu
    everything = {"batch", "model", "scale"}
    yield replace(on_gpu, profile=replace(on_gpu.profile, facts=files), allow=frozenset(everything))
    crowded = {"parameters": 2500.0, "gradients": 2500.0, "optimizer": 2500.0, "activations": 500.0}
    yield replace(on_gpu, profile=replace(on_gpu.profile, memory_mb=crowded))
    old = replace(card, compute_capability=(7, 0), gpus=1)
    yield replace(on_gpu, machine=old)
    full = gpu.with_compute(
        precision="bf16",
        tf32=True,
        channels_last=True,
        compile="default",
        fused_optimizer=True,
        autotune=True,
        checkpointing=True,
    ).with_loader(workers=8, prefetch=4, persistent=True, pinned=True, vectorized_collate=True)
    yield replace(on_gpu, config=full, profile=example_profile(full))


def example_profile(
    config: TrainingConfig, data_share: float = 0.05, step_s: float = 0.4
) -> TrainingProfile:
    """A profile as it might have been measured, with ``data_share`` of a step waiting for data."""
    gpu = config.compute.device.startswith("cuda")
    rest = 1 - data_share
    shares = {
        "data": data_share,
        "copy": 0.02 * rest,
        "forward": 0.30 * rest,
        "loss": 0.02 * rest,
        "backward": 0.58 * rest,
        "optimizer": 0.07 * rest,
        "logging": 0.01 * rest,
    }
    assert tuple(shares) == PARTS
    effective = config.batch.effective
    block = TrainingBlock(
        step_s=(step_s,) * STEPS,
        part_s={part: (share * step_s,) * STEPS for part, share in shares.items()},
        losses=(1.0,) * STEPS,
        samples=effective * STEPS,
        cpu_s=2 * step_s * STEPS,
        busy_share=0.5,
        peak_rss_mb=1000.0,
        device_busy_share=0.7 if gpu else None,
        peak_device_mb=8000.0 if gpu else None,
        kernel_s=0.3 * step_s * STEPS,
        page_faults=100_000 * STEPS,
    )
    without = replace(
        block,
        step_s=(step_s * rest,) * STEPS,
        part_s={**block.part_s, "data": (0.0,) * STEPS},
    )
    batches = STEPS * config.batch.accumulation
    batch_s = max(data_share, 0.02) * step_s / config.batch.accumulation
    load = LoadTimes(*(share * batch_s * batches for share in (0.2, 0.5, 0.2, 0.1)))
    loader = LoaderBlock(
        (batch_s,) * batches, effective * STEPS, load, batch_s * batches, 1.0, (900.0,) * batches
    )
    return TrainingProfile(
        config_hash=config.hash,
        block=block,
        synthetic=without,
        loader=loader,
        facts=SampleFacts(samples=32),
        memory_mb={
            "parameters": 10.0,
            "gradients": 10.0,
            "optimizer": 10.0,
            "activations": 600.0,
            "batch": 20.0,
        },
        effective_cores=4,
    )


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise AssertionError(otherwise)
