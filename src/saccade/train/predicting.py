"""How much faster steps get when their compute does, before anybody has tried.

The factors are starting points: the search measures, and asks again with what it has kept, so what
counts is that a pair which belongs together is expected to. On CPUs they are what one U-Net of a
million parameters did on two cores with ``avx512_bf16``; on GPUs they are taken from what vendors
publish and are not verified on hardware.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from saccade.train.change import Prediction, TrainingContext
from saccade.train.compiling import WITHOUT_GRAPHS
from saccade.train.config import ComputeSettings
from saccade.train.faults import faulting_s
from saccade.train.profile import TrainingProfile
from saccade.train.records import COMPUTE_PARTS

# Channels last, reduced precision, compiled → speed on a CPU relative to none of them, without page
# faults, and the pages that a step faults for, likewise. Compiling brings its own layout and
# kernels, so that little is left for the others. Each makes fewer tensors that are as large as what
# malloc gives back at once.
ON_CPU = {
    (False, False, False): (1.0, 1.0),
    (True, False, False): (1.26, 0.45),
    (False, True, False): (1.6, 0.2),
    (True, True, False): (2.0, 0.1),
    (False, False, True): (1.2, 0.2),
    (True, False, True): (1.2, 0.15),
    (False, True, True): (1.9, 0.08),
    (True, True, True): (1.9, 0.08),
}
# What our own kernels for batch normalization bring beside each of these (decision 0034). They
# want channels last, and stand in the way of what a compiler fuses.
FUSED_NORMS = {
    (False, False, False): 1.05,
    (True, False, False): 1.15,
    (False, True, False): 1.0,
    (True, True, False): 1.35,
    (False, False, True): 0.9,
    (True, False, True): 1.0,
    (False, True, True): 0.8,
    (True, True, True): 1.12,
}
# A step's wall time falls by this share of the CPU seconds that faults took: most of them are the
# one thread's that allocates. From a U-Net in four configurations (docs/decisions/0029).
SAVED = 0.75
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
    """How many times faster than plain eager fp32 a step's arithmetic is expected to be."""
    reduced, compiled = settings.precision != "fp32", bool(settings.compile)
    if not settings.device.startswith("cuda"):
        return _on_cpu(settings)[0]
    found = ON_GPU[settings.channels_last, reduced]
    if settings.tf32 and not reduced:
        found = 1 + TF32_SHARE * (ON_GPU[settings.channels_last, True] - 1)
    if settings.autotune:
        found *= AUTOTUNED
    return found * (COMPILED_ON_GPU if compiled else 1.0)


def _on_cpu(settings: ComputeSettings) -> tuple[float, float]:
    """Speed and faults."""
    chosen = settings.channels_last, settings.precision != "fp32", bool(settings.compile)
    arithmetic, faults = ON_CPU[chosen]
    return arithmetic * (FUSED_NORMS[chosen] if settings.norms == "fused" else 1.0), faults


def fault_share(profile: TrainingProfile) -> float:
    """Share 0-1 of a step's compute that would go away if memory were kept."""
    compute_s = profile.synthetic.compute_s
    return min(0.9, SAVED * faulting_s(profile.synthetic) / compute_s) if compute_s > 0 else 0.0


def _duration(context: TrainingContext, settings: ComputeSettings) -> float:
    """Compute of a step relative to the profiled one's: its arithmetic, and its page faults."""
    profiled = (context.profile.config or context.config).compute
    if settings.device.startswith("cuda"):
        return speed(profiled) / speed(settings)
    share = fault_share(context.profile)
    faults = 0.0
    if settings.allocator == "default":
        faults = _on_cpu(settings)[1] / _on_cpu(profiled)[1]
    return (1 - share) * speed(profiled) / speed(settings) + share * faults


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
    factor = _duration(context, before) / _duration(context, after) if convolutional else 1.0
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
    shrinks: Mapping[str, float] | None = None,
) -> Prediction:
    """A prediction that keeps below its bound, by default that of compute that takes no time."""
    most = context.compute_bound if bound is None else bound
    return Prediction(min(gain, most), most, basis, cost_s, odds, shrinks or {})
