"""Which batches fit into memory, found by trying and remembered in the run folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from saccade.train import batch_probe
from saccade.train.change import TrainingContext
from saccade.train.config import BatchSettings, LoaderSettings, ScaleSettings, TrainingConfig
from saccade.train.memory import SHORT

# A worker that imports PyTorch and takes two steps.
TRY_S = 8.0


@dataclass(frozen=True)
class KnownFit:
    """What tries have shown of one job and one way of computing.

    Attributes:
        fits: samples of a forward pass that fitted, at most; 0 where nothing was tried.
        refused: samples that did not fit, at least; None where nothing was refused.
    """

    fits: int = 0
    refused: int | None = None

    def says(self, size: int) -> bool | None:
        """Whether so many samples fit; None where that was not found out."""
        if size <= self.fits:
            return True
        return False if self.refused is not None and size >= self.refused else None

    def after(self, size: int, fitted: bool) -> KnownFit:
        """The same with one more try."""
        if fitted:
            return replace(self, fits=max(self.fits, size))
        return replace(self, refused=min(self.refused or size, size))


def known_fit(context: TrainingContext) -> KnownFit:
    """What is known of the configuration's job and way of computing."""
    place = _place(context)
    return KnownFit(**json.loads(place.read_text())) if place.exists() else KnownFit()


def largest_fitting(
    context: TrainingContext, sizes: Sequence[int], config_of: Callable[[int], TrainingConfig]
) -> int | None:
    """The largest of some sizes that fits; what is known already is not tried again.

    Args:
        context: of the configuration, and where what was found is kept.
        sizes: samples of a forward pass, rising.
        config_of: size → the configuration that is tried.

    Raises:
        SaccadeError: a try failed for another reason than memory.
    """
    on_gpu = context.config.compute.device.startswith("cuda")
    limit_mb = None if on_gpu else SHORT * context.machine.free_memory_mb

    def fits(size: int) -> bool:
        said = known_fit(context).says(size)
        if said is None:
            said = batch_probe.fits_in_memory(config_of(size), limit_mb)
            _remember(context, known_fit(context).after(size, said))
        return said

    # Up to what fitted before no try is needed.
    known = known_fit(context)
    sure = [size for size in sizes if known.says(size)]
    found = batch_probe.largest_that_fits([s for s in sizes if s not in sure], fits)
    return found or max(sure, default=None)


def _remember(context: TrainingContext, known: KnownFit) -> None:
    place = _place(context)
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = place.with_suffix(".partial")
    partial.write_text(json.dumps(asdict(known)))
    partial.replace(place)


def _place(context: TrainingContext) -> Path:
    """A file for everything that decides what a sample of a forward pass takes.

    How samples are loaded and how many passes make a step matter little; compiling is not tried.
    """
    plain = replace(
        context.config.with_compute(compile=""),
        batch=BatchSettings(1),
        scale=ScaleSettings(),
        loader=LoaderSettings(),
    )
    return context.folder / f"batch-that-fits-{plain.hash[:16]}.json"
