"""NVIDIA DALI: its decoders and kernels, fed with the parameters that the plan draws.

Which part of an image is cropped, and whether it is mirrored, is drawn as the job's own
transforms draw it and handed to DALI with the file, so that each ticket shows the same. DALI's
resizing differs from torchvision's in the last bits; its contrast turns about the middle grey
where torchvision's turns about the image's own mean, and its colour changes come in one fixed
order. Masks are prepared by the plan itself.

On a GPU files are decoded in the ``mixed`` way (entropy decoding on the CPU or the hardware
decoder) and everything else is done there.
"""

from __future__ import annotations

import collections
import copy
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from saccade.errors import DataError, MissingExtraError, SpecError
from saccade.train.decoding import is_image, opencv_pixels
from saccade.train.image_header import image_header
from saccade.train.loaders.contract import BatchLoader, LoaderRequest, LoaderTraits
from saccade.train.loaders.threads import ThreadLoader, planned_for
from saccade.train.loaders.torch_loader import in_process
from saccade.train.order import Ticket
from saccade.train.planned_samples import Form, PlannedSamples
from saccade.train.samples import PATIENCE, Corrupt, Loaded, LoadTimes
from saccade.train.transforms.chain import step_name
from saccade.train.transforms.pixel_steps import Crop, Flip, Jitter, PixelStep, ResizeTo
from saccade.train.transforms.plan import PixelPlan

_MISSING = "NVIDIA DALI is not installed (the extra `dali`)"
# By how much the bytes of any sample may differ on the mean; resizing differs by less than 1.
PARITY = 2.0


class DaliLoader:
    """Batches by NVIDIA DALI."""

    name: ClassVar[str] = "dali"
    traits: ClassVar[LoaderTraits] = replace(ThreadLoader.traits, decodes="crop", takes_cache=False)

    @staticmethod
    def available() -> str | None:
        """Where DALI is installed."""
        if find_spec("nvidia") is None or find_spec("nvidia.dali") is None:
            return _MISSING
        return None

    @staticmethod
    def open(request: LoaderRequest, count: int, dataset: Any) -> BatchLoader:
        """Open it; held-out data that it cannot express is left to PyTorch's loader.

        Raises:
            MissingExtraError: DALI is not installed.
            SpecError: the job's transforms cannot be expressed.
        """
        if DaliLoader.available() is not None:
            raise MissingExtraError("nvidia-dali", "dali", "Loading by DALI")
        # DALI decodes the crop alone, at its full size.
        whole = request.config.with_loader(decode="full")
        found = planned_for(replace(request, config=whole), dataset)
        reason = found if isinstance(found, str) else _inexpressible(request, dataset, found[1])
        if isinstance(found, str) or reason:
            if request.split != "train":
                return in_process(request, dataset)
            raise SpecError(
                f"DALI cannot do what the job's transforms do: {reason}. Use the loader 'torch'."
            )
        return OpenDaliLoader(request, *found)


def _inexpressible(request: LoaderRequest, dataset: Any, form: Form) -> str:
    if request.config.loader.cache != "none":
        return "it decodes files, and samples come from a cache here"
    if form.hwc[2] != 3:
        return "images are not RGB"
    for index in range(min(PATIENCE, len(dataset))):
        try:
            sample = dataset[index]
        except Exception:  # counted and judged where training meets it
            continue
        return "" if is_image(sample[0]) else "samples hold no image files"
    return "no sample can be read"


@dataclass(frozen=True)
class _Sample:
    """A file and what DALI does to it; ``(top, left)`` and ``(height, width)`` in pixels."""

    data: NDArray[np.uint8]
    first: NDArray[np.int32]
    first_hw: NDArray[np.int32]
    size: NDArray[np.float32]
    second: NDArray[np.int32]
    second_hw: NDArray[np.int32]
    flips: NDArray[np.int32]
    colours: NDArray[np.float32]


def _sample(data: NDArray[np.uint8], hw: tuple[int, int], steps: list[PixelStep]) -> _Sample:
    """Steps in the one form that the pipeline has: crop, resize, crop, mirror, colours.

    Raises:
        DataError: they come in another order, or twice.
    """
    crops: list[tuple[int, int, int, int] | None] = [None, None]
    size: tuple[int, int] | None = None
    flips, colours = [0, 0], dict.fromkeys(("brightness", "contrast", "saturation"), 1.0)
    colours["hue"] = 0.0
    stage = 0
    for step in steps:
        if isinstance(step, Crop) and stage in (0, 1) and crops[stage] is None:
            crops[stage] = (step.top, step.left, step.height, step.width)
        elif isinstance(step, ResizeTo) and stage == 0:
            size, stage = (step.height, step.width), 1
        elif isinstance(step, Flip):
            flips[step.axis] ^= 1
            stage = max(stage, 2)
        elif isinstance(step, Jitter):
            colours |= dict(step.changes)
            stage = 3
        else:
            raise DataError("The steps of these transforms come in an order that DALI has not.")
    first = crops[0] or (0, 0, *hw)
    size = size or (first[2], first[3])
    second = crops[1] or (0, 0, *size)
    return _Sample(
        data,
        np.array(first[:2], np.int32),
        np.array(first[2:], np.int32),
        np.array(size, np.float32),
        np.array(second[:2], np.int32),
        np.array(second[2:], np.int32),
        np.array(flips, np.int32),
        np.array([*list(colours.values())[:3], colours["hue"] * 360.0], np.float32),
    )


@dataclass
class _Beside:
    """What of a batch does not go through DALI."""

    targets: Any
    size: int
    times: LoadTimes
    corrupt: list[Corrupt]


class OpenDaliLoader:
    """See `saccade.train.loaders.contract.BatchLoader`."""

    def __init__(self, request: LoaderRequest, samples: PlannedSamples, form: Form) -> None:
        self._request, self._samples, self._form = request, samples, form
        compute = request.config.compute
        self._device = compute.device if compute.device.startswith("cuda") else ""
        self.finish: Callable[[Any], Any] | None = replace(
            samples.plan.normalization, contiguous=not compute.channels_last
        )
        self._pipes: list[Any] = []
        self._coloured = any(step_name(step) == "ColorJitter" for step in samples.plan.steps)
        taken = [field.name for field in fields(_Sample)]
        self._names = taken if self._coloured else taken[:-1]
        if request.split == "train":
            self._check_parity()

    def batches(self, start: int) -> Iterator[Loaded]:
        """Batches from the ``start``-th on."""
        order = self._request.order
        tickets = order.from_step(start)
        if not order.shuffle:
            tickets = itertools.islice(tickets, order.batches)
        yield from self._run(tickets, self._samples)

    def _run(self, batches: Iterator[list[Ticket]], samples: PlannedSamples) -> Iterator[Loaded]:
        beside: collections.deque[_Beside] = collections.deque()
        pipe = self._pipeline(self._fed(batches, beside, samples))
        self._pipes.append(pipe)
        while True:
            try:
                (images,) = pipe.run()
            except StopIteration:
                return
            aside = beside.popleft()
            data = (self._as_torch(images), aside.targets)
            yield Loaded(data, aside.size, aside.times, tuple(aside.corrupt))

    def _fed(
        self,
        batches: Iterator[list[Ticket]],
        beside: collections.deque[_Beside],
        samples: PlannedSamples,
    ) -> Iterator[tuple[list[Any], ...]]:
        """For each batch what the pipeline takes, while the rest is laid aside."""
        import torch

        form = self._form
        for tickets in batches:
            samples.announce(tickets)
            times, corrupt = LoadTimes(), []  # type: LoadTimes, list[Corrupt]
            targets = torch.empty((len(tickets), *form.target_shape), dtype=form.target_dtype)
            found = []
            for place, ticket in enumerate(tickets):
                sample, target = _Files(samples).readable(ticket, times, corrupt)
                found.append(sample)
                np.copyto(targets.numpy()[place : place + 1], np.asarray(target)[None], "unsafe")
            beside.append(_Beside(targets, len(tickets), times, corrupt))
            yield tuple([vars(sample)[name] for sample in found] for name in self._names)

    def _pipeline(self, source: Iterator[Any]) -> Any:
        from nvidia.dali import fn, types
        from nvidia.dali.pipeline import Pipeline

        on_gpu = bool(self._device)
        pipe = Pipeline(
            batch_size=self._request.order.batch,
            num_threads=max(1, self._request.config.loader.workers),
            device_id=int(self._device.partition(":")[2] or 0) if on_gpu else None,
            prefetch_queue_depth=max(1, self._request.config.loader.prefetch),
        )
        with pipe:
            # Colours come last, and only where they are used.
            data, first, first_hw, size, second, second_hw, flips, *colours = fn.external_source(
                source=source, num_outputs=len(self._names), batch=True
            )
            images = fn.decoders.image_slice(
                data,
                device="mixed" if on_gpu else "cpu",
                start=first,
                shape=first_hw,
                axes=(0, 1),
                output_type=types.RGB,
                adjust_orientation=False,
                jpeg_fancy_upsampling=True,
            )
            images = fn.resize(images, size=size, interp_type=types.INTERP_LINEAR, antialias=True)
            images = fn.slice(images, start=second, shape=second_hw, axes=(0, 1))
            images = fn.flip(images, vertical=flips[0], horizontal=flips[1])
            for values in colours:
                images = fn.color_twist(
                    images,
                    brightness=values[0],
                    contrast=values[1],
                    saturation=values[2],
                    hue=values[3],
                )
            pipe.set_outputs(images)
        pipe.build()
        return pipe

    def _as_torch(self, images: Any) -> Any:
        """``(N, C, H, W)`` uint8 with channels side by side, out of DALI's own memory."""
        import torch

        if self._device:
            return torch.from_dlpack(images.as_tensor()).clone().permute(0, 3, 1, 2)
        return torch.from_numpy(np.array(images.as_array())).permute(0, 3, 1, 2)

    def _check_parity(self) -> None:
        """Compare every sample of a first batch with the plan, itself compared with the job's.

        Colours are changed in another way, and knowingly, so that both sides leave them as they
        are here; all else is compared where colours are random as well.

        Raises:
            SpecError: DALI gives something else.
        """
        plain = _uncoloured(self._samples)
        tickets = self._request.order.batch_at(0)
        got = next(self._run(iter([tickets]), plain)).data[0]
        self.close()
        times, corrupt = LoadTimes(), []  # type: LoadTimes, list[Corrupt]
        made = got.permute(0, 2, 3, 1).cpu().numpy().astype(np.float32)
        for ticket, pixels in zip(tickets, made, strict=True):
            whole = plain.readable(ticket, times, corrupt)[0]
            apart = float(np.abs(pixels - whole).mean())
            if apart > PARITY:
                raise SpecError(
                    f"DALI gives another image of sample {ticket.index} than the job's transforms: "
                    f"bytes differ by {apart:.1f} on the mean, more than {PARITY:g}. Use the "
                    "loader 'torch' or 'threads'."
                )

    def close(self) -> None:
        """Let the pipelines go."""
        self._pipes.clear()


class _UncolouredPlan(PixelPlan):
    """A plan whose random parameters are drawn as ever, and whose colours stay."""

    def drawn(self, seed: int, hw: tuple[int, int]) -> list[PixelStep]:
        return [step for step in super().drawn(seed, hw) if not isinstance(step, Jitter)]


def _uncoloured(samples: PlannedSamples) -> PlannedSamples:
    """The same samples without changes of colour."""
    plain = copy.copy(samples)
    plain.plan = _UncolouredPlan(samples.plan.steps, samples.plan.normalization)
    return plain


class _Files:
    """Samples as files and parameters, with what is unreadable left out as everywhere."""

    def __init__(self, samples: PlannedSamples) -> None:
        self._samples = samples

    def readable(
        self, ticket: Ticket, times: LoadTimes, corrupt: list[Corrupt]
    ) -> tuple[_Sample, Any]:
        found: tuple[_Sample, Any] = self._samples.first_readable(
            self._ready, ticket, times, corrupt
        )
        return found

    def _ready(self, ticket: Ticket, times: LoadTimes) -> tuple[_Sample, Any]:
        path, target, data = self._samples.files(ticket.index, times)
        header = image_header(data)
        if header is None or not header.complete:
            hw = opencv_pixels(path, data).shape[:2]  # raises where the file is broken
        else:
            hw = (header.height, header.width)
        steps = self._samples.plan.drawn(ticket.seed, hw)
        if getattr(target, "ndim", 0) == 2:
            for step in steps:
                target = step.mask(target)
        return _sample(np.frombuffer(data, np.uint8), hw, steps), target
