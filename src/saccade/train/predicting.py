"""How much faster steps get when their compute does, before anybody has tried.

The factors are starting points: the search measures, and asks again with what it has kept, so what
counts is that a pair which belongs together is expected to. On CPUs they are what one U-Net of a
million parameters did on two cores with ``avx512_bf16``; on GPUs they are taken from what vendors
publish and are not verified on hardware.
"""

from __future__ import annotations

from collections.abc import Iterable

from saccade.train.change import Prediction, TrainingContext
from saccade.train.compiling import WITHOUT_GRAPHS
from saccade.train.config import ComputeSettings
from saccade.train.records import COMPUTE_PARTS

# Channels last, reduced precision, compiled → speed on a CPU relative to none of them. Each of the
# last two brings its own layout or kernels, so together they bring less than their product, while
# reduced precision without the layout spends most of its time on reordering.
ON_CPU = {
    (False, False, False): 1.0,
    (True, False, False): 1.3,
    (False, True, False): 1.9,
    (True, True, False): 7.5,
    (False, False, True): 4.3,
    (True, False, True): 4.5,
    (False, True, True): 7.0,
    (True, True, True): 7.7,
}
# The same for GPUs with tensor cores; reduced precision includes TF32 at a discount.
ON_GPU = {
    (False, False): 1.0,
    (True, False): 1.0,
    (False, True): 1.5,
    (True, True): 2.2,
}
TF32_SHARE = 0.6
COMPILED_ON_GPU = 1.3
AUTOTUNED = 1.1
# Below this busy share the host is what a GPU waits for.
KEPT_BUSY = 0.9
# Share of the kernels that compiled code still starts.
FEWER_KERNELS = 0.5


def speed(settings: ComputeSettings) -> float:
    """How many times faster than plain eager fp32 a step's compute is expected to be."""
    reduced, compiled = settings.precision != "fp32", bool(settings.compile)
    if not settings.device.startswith("cuda"):
        return ON_CPU[settings.channels_last, reduced, compiled]
    found = ON_GPU[settings.channels_last, reduced]
    if settings.tf32 and not reduced:
        found = 1 + TF32_SHARE * (ON_GPU[settings.channels_last, True] - 1)
    if settings.autotune:
        found *= AUTOTUNED
    return found * (COMPILED_ON_GPU if compiled else 1.0)


def expected_gain(
    context: TrainingContext, after: ComputeSettings, convolutional: bool = True
) -> float:
    """How many times faster steps are expected to be with other compute settings.

    Args:
        context: of the incumbent.
        after: the settings to judge.
        convolutional: whether what changes is known to matter for this model; an unknown one
            counts as that.
    """
    before = context.config.compute
    factor = speed(after) / speed(before) if convolutional else 1.0
    busy = context.profile.synthetic.device_busy_share or context.profile.block.device_busy_share
    if busy is not None and busy < KEPT_BUSY:
        factor = _while_the_host_is_slow(busy, factor, before, after)
    return gain_of(context, factor)


def _while_the_host_is_slow(
    busy: float, factor: float, before: ComputeSettings, after: ComputeSettings
) -> float:
    """A step lasts as long as the slower of the device's work and the host's starting of it."""
    device, host = busy / factor, 1.0
    if after.compile and not before.compile:
        host = FEWER_KERNELS
    if after.compile in WITHOUT_GRAPHS:
        host = 0.0
    return 1 / max(device, host)


def gain_of(context: TrainingContext, factor: float, parts: Iterable[str] = COMPUTE_PARTS) -> float:
    """How many times faster steps are when some parts of them take 1/``factor`` of their time.

    With workers, batches come no faster than the loader makes them, so what a faster step saves
    may be waited for instead.
    """
    block, config = context.profile.block, context.config
    sped = sum(sum(block.part_s[part]) for part in parts)
    waited = sum(block.part_s["data"])
    working = block.wall_s - sped - waited + sped / factor
    after = working + waited
    if config.loader.workers and context.profile.loader is not None:
        # Measured alone it may seem slower than it has been beside the steps.
        loading = min(block.wall_s, block.samples / context.profile.loader.samples_per_s)
        after = max(working, loading)
    return block.wall_s / max(after, 1e-9)


def predicted(
    context: TrainingContext,
    gain: float,
    basis: str,
    cost_s: float = 0.0,
    odds: float = 1.0,
    bound: float | None = None,
) -> Prediction:
    """A prediction that keeps below its bound, by default that of compute that takes no time."""
    most = context.compute_bound if bound is None else bound
    return Prediction(min(gain, most), most, basis, cost_s, odds)
