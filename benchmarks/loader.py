"""Loading 1080p JPEGs as random crops of 224: against PyTorch's loader and against DALI.

First what `saccade train optimize` makes of a training that waits for them. Then loaders alone:
every side does the same work: read a file, decode it, take a random resized crop, mirror it,
normalize it, make a batch. FFCV does not build here (it needs OpenCV's development files).
Rounds alternate; each side is opened, warmed up, timed and closed, so that no side works while
another is timed.
"""

from __future__ import annotations

import importlib.util
import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.setting import Setting, note
from benchmarks.table import Row
from saccade.environment import usable_cores
from saccade.optimize.worker import Worker
from saccade.playbook.training.optimize import optimize_training
from saccade.report.console import ConsoleProgress
from saccade.train.config import TrainingConfig
from saccade.train.job import open_job, refer
from saccade.train.loading import open_loader
from saccade.train.spec import make_training_spec
from saccade.train.subject import SUBJECT

BATCH, CROP, SCALE = 16, 224, (0.25, 1.0)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGES, QUALITY = 280, 90
WARM_BATCHES = 6
FASTER, WAIT_BEFORE, WAIT_AFTER = 4.0, 0.40, 0.05
RESAMPLES = 4000

JOB = """
from pathlib import Path
import torch
from torch import nn
from torchvision.transforms import v2

batch_size = {batch}


class Frames:
    files = sorted(Path({folder!r}).glob("*.jpg"))

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        return self.files[index], index % 4


def dataset(split):
    return Frames()


workers = 2


def transforms(split):
    chain = v2.Compose([
        v2.ToImage(), v2.RandomResizedCrop({crop}, scale={scale}), v2.RandomHorizontalFlip(),
        v2.ToDtype(torch.float32, scale=True), v2.Normalize({mean}, {std}),
    ])
    return lambda sample: (chain(sample[0]), sample[1])


def model():
    return nn.Sequential(
        nn.Conv2d(3, 24, 7, 4, 3), nn.ReLU(), nn.Conv2d(24, 32, 3, 2, 1), nn.ReLU(),
        nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(64, 4),
    )


def loss(output, target):
    return nn.functional.cross_entropy(output, target)


def optimizer(model):
    return torch.optim.SGD(model.parameters(), lr=0.01)
"""

DALI = "DALI's CPU pipeline"
NO_DALI = "not installed: pip install 'saccade[dali]'"
Open = Callable[[], tuple[Iterator[Any], Callable[[], None]]]


def measure(setting: Setting) -> list[Row]:
    """Ratios of loaders, and what a training waits for its data before and after."""
    folder = setting.folder / "loader"
    images = make_images(setting.inputs.video, folder / "images")
    job = folder / "job.py"
    given = {"batch": BATCH, "crop": CROP, "scale": SCALE, "mean": MEAN, "std": STD}
    job.write_text(JOB.format(folder=str(images), **given), encoding="utf-8")
    plain = TrainingConfig(refer(str(job))).with_loader(workers=2)
    plain = plain.with_batch(size=BATCH)
    same = plain.with_loader(backend="threads", workers=usable_cores(), decode="scaled")
    best = plain.with_loader(backend="threads", workers=usable_cores(), cache="memory")
    sides: dict[str, Open] = {
        "plain": lambda: plain_loader(images),
        "same": lambda: ours(same),
        "best": lambda: ours(best),
    }
    if importlib.util.find_spec("nvidia") and importlib.util.find_spec("nvidia.dali"):
        sides["dali"] = lambda: dali_pipeline(images)
    rates = raced(sides, batches=setting.sizes.rival_frames // 4, rounds=setting.sizes.rival_rounds)
    return [
        *searched(setting, job),
        *ratios(rates),
        *waits(plain, same, setting.sizes.pairs),
    ]


def searched(setting: Setting, job: Path) -> list[Row]:
    """The training as the search leaves it, by its own final race; a first epoch still decodes."""
    spec = make_training_spec({"job": str(job), "budget": setting.sizes.training_budget})
    result = optimize_training(spec, setting.folder / "loader-run", ConsoleProgress()).result
    best = result["best"] or {}
    speedup = best.get("speedup") or {}
    low, high = speedup.get("interval") or (None, None)
    shares = [side.get("metrics", {}).get("data_wait_share") for side in (result["baseline"], best)]
    return [
        Row("loader-bound training, samples/s over 2 workers", speedup.get("value"), low, high,
            "x", FASTER, detail="; ".join(best.get("changes", ()))),
        Row("loader-bound training, share that waits for data, before", shares[0], bar=WAIT_BEFORE),
        Row("loader-bound training, share that waits for data, after", shares[1], bar=WAIT_AFTER,
            at_least=False),
    ]  # fmt: skip


def make_images(video: Path, folder: Path) -> Path:
    """Frames of the video and their mirror images, as JPEGs."""
    import av
    from PIL import ImageOps

    folder.mkdir(parents=True, exist_ok=True)
    with av.open(str(video)) as container:
        for number, frame in enumerate(itertools.islice(container.decode(video=0), IMAGES // 2)):
            image = frame.to_image()  # type: ignore[no-untyped-call]
            image.save(folder / f"{number:04d}a.jpg", quality=QUALITY)
            ImageOps.mirror(image).save(folder / f"{number:04d}b.jpg", quality=QUALITY)
    return folder


def ours(config: TrainingConfig) -> tuple[Iterator[Any], Callable[[], None]]:
    """saccade's loader with everything done, normalization too."""
    loader = open_loader(open_job(config.job), config)
    finish = loader.finish or (lambda inputs: inputs)
    return (finish(batch.data[0]) for batch in loader.batches(0)), loader.close


class _Plain:
    """A data set as most scripts have it."""

    def __init__(self, folder: Path) -> None:
        import torch
        from torchvision.transforms import v2

        self.files = sorted(folder.glob("*.jpg"))
        self.transform = v2.Compose(
            [
                v2.RandomResizedCrop(CROP, scale=SCALE),
                v2.RandomHorizontalFlip(),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        from PIL import Image

        with Image.open(self.files[index]) as image:
            return self.transform(image.convert("RGB")), index % 4


def plain_loader(folder: Path) -> tuple[Iterator[Any], Callable[[], None]]:
    """PyTorch's loader with two workers, Pillow and torchvision; nothing of saccade."""
    from torch.utils.data import DataLoader

    loader = DataLoader(_Plain(folder), BATCH, shuffle=True, num_workers=2, drop_last=True)
    live: list[Any] = []

    def endless() -> Iterator[Any]:
        while True:
            live[:] = [iter(loader)]
            yield from live[0]

    return endless(), lambda: live[0]._shutdown_workers()


def dali_pipeline(folder: Path) -> tuple[Iterator[Any], Callable[[], None]]:
    """DALI as its own documentation builds it: its reader, its random crop while decoding."""
    from nvidia.dali import fn, types
    from nvidia.dali.pipeline import Pipeline

    files = [str(path) for path in sorted(folder.glob("*.jpg"))]
    pipe = Pipeline(batch_size=BATCH, num_threads=usable_cores(), device_id=None, seed=0)
    with pipe:
        data, labels = fn.readers.file(
            files=files, labels=[i % 4 for i in range(len(files))], random_shuffle=True
        )
        images = fn.decoders.image_random_crop(
            data, random_area=SCALE, random_aspect_ratio=(3 / 4, 4 / 3), output_type=types.RGB
        )
        images = fn.resize(images, resize_x=CROP, resize_y=CROP)
        images = fn.crop_mirror_normalize(
            images,
            mirror=fn.random.coin_flip(),
            mean=[255 * value for value in MEAN],
            std=[255 * value for value in STD],
            output_layout="CHW",
            dtype=types.FLOAT,
        )
        pipe.set_outputs(images, labels)
    pipe.build()
    return (pipe.run()[0] for _ in itertools.count()), lambda: None


def raced(sides: dict[str, Open], batches: int, rounds: int) -> dict[str, list[float]]:
    """Samples per second of each side in each round; who begins alternates."""
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in sorted(sides, reverse=number % 2 == 1):
            iterator, close = sides[name]()
            try:
                for _ in itertools.islice(iterator, WARM_BATCHES):
                    pass
                began = time.perf_counter()
                for _ in itertools.islice(iterator, batches):
                    pass
                rates[name].append(batches * BATCH / (time.perf_counter() - began))
            finally:
                close()
        note(", ".join(f"{name} {found[-1]:.0f}/s" for name, found in rates.items()))
    return rates


def ratios(rates: dict[str, list[float]]) -> list[Row]:
    """Ours over the others; DALI where it is installed."""
    over_dali = Row(f"loader, same work, over {DALI}", None, applies=False, detail=NO_DALI)
    if "dali" in rates:
        told = "DALI reads, crops while decoding and normalizes in its own threads"
        over_dali = _ratio(over_dali.figure, rates, "same", "dali", 1.0, told)
    means = ", ".join(f"{name} {np.median(found):.0f}" for name, found in rates.items())
    detail = f"medians, samples/s: {means}"
    return [
        _ratio("loader, same work, over DataLoader of 2 workers", rates, "same", "plain", None,
               detail),
        over_dali,
        _ratio("loader, decoded samples in memory, over DataLoader of 2 workers", rates, "best",
               "plain", FASTER, "all samples were decoded before"),
    ]  # fmt: skip


def _ratio(
    figure: str,
    rates: dict[str, list[float]],
    above: str,
    below: str,
    bar: float | None,
    detail: str,
) -> Row:
    found = np.asarray(rates[above]) / np.asarray(rates[below])
    drawn = np.random.default_rng(0).choice(found, (RESAMPLES, len(found)))
    low, high = np.quantile(np.median(drawn, axis=1), [0.025, 0.975])
    return Row(figure, float(np.median(found)), float(low), float(high), "x", bar, detail=detail)


def waits(plain: TrainingConfig, after: TrainingConfig, blocks: int) -> list[Row]:
    """Share of a step that waits for data, before and after."""
    rows = []
    for figure, config, bar, at_least in (
        ("loader, share of a step that waits for data, DataLoader", plain, WAIT_BEFORE, True),
        ("loader, share of a step that waits for data, threads", after, WAIT_AFTER, False),
    ):
        with Worker(SUBJECT, (config,), timeout_s=300) as worker:
            worker.call("block", 10, timeout_s=300)  # warm-up
            found = [worker.call("block", 10, timeout_s=300) for _ in range(blocks)]
        shares = [block.share("data") for block in found]
        step_ms = float(np.median([block.step_ms for block in found]))
        rows.append(
            Row(
                figure,
                float(np.median(shares)),
                min(shares),
                max(shares),
                bar=bar,
                at_least=at_least,
                detail=f"a step of {BATCH} samples takes {step_ms:.0f} ms",
            )
        )
    return rows
