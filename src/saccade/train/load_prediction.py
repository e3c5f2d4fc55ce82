"""What a change of loading is expected to bring: a small model of loader and compute together."""

from __future__ import annotations

from dataclasses import dataclass

from saccade import plugins
from saccade.prediction import Prediction
from saccade.train.change import TrainingContext
from saccade.train.loaders.contract import LoaderTraits
from saccade.train.profile import TrainingProfile

_TINY = 1e-9
# What workers on the cores of the compute cost it, of their own time: 1.17 with one and 1.35 with
# two beside a U-Net on two cores.
CONTENTION = 1.25
# Share of Pillow's time that OpenCV takes: 0.2 to 0.5 of 1080p JPEGs, 0.85 of JPEGs of COCO and
# 0.8 of PNGs of CamVid, tried on one machine.
_LARGE_MB, _LARGE_JPEG, _OTHER = 2.0, 0.4, 0.85


@dataclass(frozen=True)
class LoadWork:
    """Seconds of one core that a sample costs, by part, and what handing it over costs beside.

    Attributes:
        handover: between a worker process and the training, where there are workers.
        compute: wall seconds of a step, per sample, with its batch there.
    """

    read: float
    decode: float
    transform: float
    collate: float
    handover: float
    compute: float

    @classmethod
    def of(cls, profile: TrainingProfile, workers: int) -> LoadWork:
        """As profiled."""
        block = profile.loader or profile.block
        load, samples = block.load, max(1, block.samples)
        wall = sum(profile.loader.batch_s) / samples if profile.loader is not None else 0.0
        alone = load.total_s() / samples / max(1, workers)
        return cls(
            load.read_s / samples,
            load.decode_s / samples,
            load.transform_s / samples,
            load.collate_s / samples,
            max(0.0, wall - alone) if workers else 0.0,
            profile.synthetic.wall_s / max(1, profile.synthetic.samples),
        )

    @property
    def total(self) -> float:
        """Core seconds of loading."""
        return self.read + self.decode + self.transform + self.collate

    def per_sample_s(self, workers: int, cores: int, computing_on: int) -> float:
        """Wall seconds per sample of training.

        In the training process loading and compute take turns. Workers load beside the compute
        and the slower of the two decides, if they have cores of their own. Else a thread of the
        compute waits for its core while a worker has it, and all others spin until it comes: what
        the workers take is lost, and a little more. Where there is more to load than to compute,
        compute waits for batches instead, and workers have the cores meanwhile.

        Args:
            workers: processes that load.
            cores: of the machine.
            computing_on: of them, how many the compute takes; none on a GPU.
        """
        if workers == 0:
            return self.total + self.compute
        shared = self.total / min(workers, cores)
        loading = max(shared, self.handover)
        if not computing_on or workers <= cores - computing_on:
            return max(loading, self.compute)
        waiting = min(1.0, shared / max(self.compute, _TINY))
        lost = waiting * shared + (1 - waiting) * CONTENTION * self.total
        return max(loading, self.compute + lost)


def predicted(
    context: TrainingContext,
    basis: str,
    *,
    workers: int | None = None,
    read: float = 1.0,
    decode: float = 1.0,
    transform: float = 1.0,
    collate: float = 1.0,
    handover: float = 1.0,
    cost_s: float = 0.0,
    odds: float = 1.0,
) -> Prediction:
    """The gain of loading with parts of it multiplied by these factors.

    Args:
        context: with the profile of the incumbent.
        basis: what the factors rest on.
        workers: afterwards; by default as many as now.
        read: factor on reading, and so on for the other parts.
        decode: see ``read``.
        transform: see ``read``.
        collate: see ``read``.
        handover: see ``read``.
        cost_s: seconds that the change takes once.
        odds: that the loss curves allow it.
    """
    now = context.config.loader.workers
    work = LoadWork.of(context.profile, now)
    after = LoadWork(
        work.read * read,
        work.decode * decode,
        work.transform * transform,
        work.collate * collate,
        work.handover * handover,
        work.compute,
    )
    cores, compute = context.machine.cores, context.config.compute
    computing_on = 0 if compute.device.startswith("cuda") else min(cores, compute.threads or cores)
    before_s = work.per_sample_s(now, cores, computing_on)
    then = now if workers is None else workers
    after_s = max(after.per_sample_s(then, cores, computing_on), _TINY)
    bound = max(1.0, context.profile.loading_bound)
    # Too many workers can be slower than now; otherwise nothing beats batches that are there.
    return Prediction(min(before_s / after_s, bound), bound, basis, cost_s=cost_s, odds=odds)


def opencv_share(context: TrainingContext) -> float:
    """Share of the decoding time now that OpenCV would take; 1 where it decodes already."""
    facts, settings = context.profile.facts, context.config.loader
    if settings.decoder == "opencv" or traits(context).decodes != "as_set":
        return 1.0
    return _LARGE_JPEG if facts.jpeg > 0.5 and facts.decoded_mb > _LARGE_MB else _OTHER


def traits(context: TrainingContext) -> LoaderTraits:
    """What the loader of the configuration does by itself."""
    found: LoaderTraits = plugins.load("loaders", context.config.loader.backend).traits
    return found


def refusal(context: TrainingContext, change: str) -> str | None:
    """Why the job's samples or transforms do not allow a change, as `facts` found it."""
    return context.profile.facts.refusals.get(change)
