"""What changes of compute are expected to bring, before anybody has tried."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from saccade import plugins
from saccade.testing.training_change_conformance import example_contexts, example_profile
from saccade.train.change import TrainingContext
from saccade.train.load_prediction import LoadWork


@pytest.fixture
def context(tmp_path: Path) -> TrainingContext:
    return next(iter(example_contexts(tmp_path)))


def gain(name: str, context: TrainingContext) -> float:
    kind = plugins.load("training_changes", name)
    change = next(change for change in kind.variants(context) if change.applies(context) is None)
    return float(change.predict(context).gain)


def after(name: str, context: TrainingContext) -> TrainingContext:
    kind = plugins.load("training_changes", name)
    change = next(change for change in kind.variants(context) if change.applies(context) is None)
    return replace(context, config=change.apply(context))


def test_where_memory_is_mapped_anew_smaller_tensors_pay_twice(context: TrainingContext) -> None:
    synthetic = context.profile.synthetic
    steps = len(synthetic.step_s)
    faulting = replace(synthetic, kernel_s=0.4 * steps, page_faults=200_000 * steps)
    dear = replace(context, profile=replace(context.profile, synthetic=faulting))
    assert gain("channels_last", dear) > 1.3 * gain("channels_last", calm(context))
    assert gain("autocast", dear) > 1.3 * gain("autocast", calm(context))
    assert gain("keep_memory", dear) > 2
    assert gain("channels_last", after("keep_memory", dear)) == pytest.approx(1.26, rel=0.05)


def calm(context: TrainingContext) -> TrainingContext:
    quiet = replace(context.profile.synthetic, page_faults=0)
    return replace(context, profile=replace(context.profile, synthetic=quiet))


def test_a_step_that_waits_for_data_gains_little(context: TrainingContext) -> None:
    waiting = replace(context, profile=example_profile(context.config, data_share=0.6))
    assert gain("autocast", waiting) < gain("autocast", context)


def test_with_workers_the_loader_sets_the_pace(context: TrainingContext) -> None:
    config = context.config.with_loader(workers=2)
    # Batches take half of a step to make, and are waited for no longer than now.
    profile = example_profile(config, data_share=0.0)
    assert profile.loader is not None
    slow = replace(profile.loader, batch_s=(0.32,) * len(profile.loader.batch_s))
    held = replace(context, config=config, profile=replace(profile, loader=slow))
    free = replace(context, config=config, profile=profile)
    fast = after("channels_last", free).config
    assert gain("autocast", replace(held, config=fast)) == pytest.approx(1.25, rel=0.05)
    assert gain("autocast", replace(free, config=fast)) > 1.5


def test_a_gpu_that_waits_for_its_host_gains_by_graphs_only(tmp_path: Path) -> None:
    on_gpu = next(c for c in example_contexts(tmp_path) if c.config.compute.device == "cuda")
    block = replace(on_gpu.profile.synthetic, device_busy_share=0.3)
    idle = replace(on_gpu, profile=replace(on_gpu.profile, synthetic=block))
    graphs = plugins.load("training_changes", "compile")("reduce-overhead")
    assert gain("autocast", idle) == pytest.approx(1.0)
    assert graphs.predict(idle).gain > 1.3


def test_fused_norms_are_for_channels_last_and_not_beside_a_compiler(
    context: TrainingContext,
) -> None:
    both = after("autocast", after("channels_last", calm(context)))
    assert gain("fused_norm", both) > 1.2
    assert gain("fused_norm", after("compile", both)) < gain("fused_norm", both)
    assert gain("fused_norm", after("compile", calm(context))) < 1


def test_workers_pay_where_there_is_more_to_load_than_to_compute() -> None:
    """On two cores that the compute takes: a U-Net (468 and 51 ms a step) and small crops."""
    unet = LoadWork(0, 0.003, 0.0034, 0, 0, compute=0.0585)
    crops = LoadWork(0, 0.02, 0.01, 0, 0, compute=0.002)
    for work, least, most in ((unet, 0.9, 1.0), (crops, 1.6, 2.0)):
        alone = work.per_sample_s(0, 2, 2)
        assert least < alone / work.per_sample_s(2, 2, 2) < most
    # On cores of their own, or beside a GPU, they cost nothing.
    assert unet.per_sample_s(2, 4, 2) == unet.per_sample_s(2, 2, 0) == unet.compute
