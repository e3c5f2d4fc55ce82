"""The training loop, whose every step can be timed, stopped and gone on from."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

from saccade.train.compiling import begin_pass, compile_errors, compiled, loss_of
from saccade.train.computing import (
    make_model,
    make_optimizer,
    placed,
    precision,
    set_backends,
)
from saccade.train.config import ComputeSettings, TrainingConfig
from saccade.train.corruption import CorruptionLimit
from saccade.train.distributed import rank_here, shared
from saccade.train.explaining import check_loss, explained
from saccade.train.feeding import fed
from saccade.train.job import TrainingJob
from saccade.train.loaders.contract import BatchLoader
from saccade.train.loading import open_dataset, open_loader
from saccade.train.order import SampleOrder, ticket_seed
from saccade.train.samples import Corrupt, Loaded, LoadTimes, seed_everything
from saccade.train.sharding import (
    load_model_state,
    load_optimizer_state,
    model_state,
    optimizer_state,
)
from saccade.train.step_clock import clock_for

# How far a step got that did not end: nowhere, to gradients (weights are as before, running
# statistics are not), or into the optimizer (nothing is as before).
MidStep = Literal["", "gradients", "update"]


class TrainingLoop:
    """One training in progress. The k-th step is the same whenever and wherever it is taken.

    Attributes:
        step_number: steps taken, which is the number of the next one, counted from 0.
        mid_step: how far a step got that failed.

    Args:
        job: what is trained.
        config: how.
        steps: of the whole training, for the schedule of learning rates; by default the job's
            number of epochs.
        rank: of this process among those that train together; None asks the environment.
        timed: whether the parts of steps are timed, for somebody who reads them.
    """

    def __init__(
        self,
        job: TrainingJob,
        config: TrainingConfig,
        steps: int | None = None,
        rank: int | None = None,
        timed: bool = True,
    ) -> None:
        self.job, self.config = job, config
        self.rank = rank_here() if rank is None else rank
        set_backends(config)
        _, self.samples = open_dataset(job, "train")
        order = SampleOrder(
            self.samples,
            config.batch.size,
            config.seed,
            world=config.scale.world,
            accumulation=config.batch.accumulation,
        )
        self.steps_per_epoch = order.batches // config.batch.accumulation
        self.steps = steps or self.steps_per_epoch * job.epochs
        self.clock = clock_for(config.compute.device, timed)
        self.corruption = CorruptionLimit(config.max_corrupt, self.samples)
        self._loader: BatchLoader | None = None
        self._batches: Iterator[Loaded] = iter(())
        self.cached_batch: Loaded | None = None
        # Sees every batch that the loader hands over; for profiling.
        self.observe: Callable[[Loaded], None] | None = None
        self.model = make_model(job, config, config.seed)
        self.callable = compiled(shared(self.model, config), config.compute)
        self.loss = loss_of(job.loss, config.compute)
        self._begin(0)

    def _begin(self, step: int) -> None:
        self.step_number = step
        self.seed = self.config.seed
        lasts = getattr(self.model, "lasts", None)
        if lasts is not None:  # of models whose optimizer and schedule ask, such as Lightning's
            lasts(self.steps, self.steps_per_epoch)
        self.optimizer = make_optimizer(self.job, self.model, self.config)
        self.scheduler, self._each_step = self.job.make_scheduler(self.optimizer, self.steps)
        self.scaler = self._make_scaler()
        self.load_times = LoadTimes()
        self.corrupt: list[Corrupt] = []
        self.last_batch: Any = None
        self.mid_step: MidStep = ""

    def _make_scaler(self) -> Any:
        import torch

        device = self.config.compute.device.partition(":")[0]
        return torch.amp.GradScaler(device, enabled=self.config.compute.precision == "fp16")

    def restart(self, seed: int) -> None:
        """Begin again from the weights and the order of another seed; nothing is compiled anew."""
        self.close_loader()
        self.config = replace(self.config, seed=seed)
        fresh = make_model(self.job, self.config, seed)
        load_model_state(self.model, fresh.state_dict())
        self._begin(0)

    def use_cached_batch(self, cached: bool = True) -> None:
        """Take every step on one and the same batch, which shows compute without loading.

        Loader workers end, so that they do not compute beside it. The batch is read anew: one is
        not worth decoding a whole data set into a cache for.
        """
        self.close_loader()
        if cached:
            uncached = self.config.with_loader(cache="none")
            self._loader = open_loader(self.job, uncached, rank=self.rank)
            self.cached_batch = next(self._stream())
            self._loader.close()

    def step(self) -> Any:
        """Take one optimizer step; its loss as a scalar tensor on the device, not yet read."""
        clock, accumulation = self.clock, self.config.batch.accumulation
        clock.begin()
        losses = []
        for number in range(accumulation):
            batch = self._next_batch()
            # After the batch: a loader that has to be opened first draws from the generators.
            self._seed_step(number)
            self.mid_step = "gradients"
            clock.mark("data")
            last = number == accumulation - 1
            begin_pass(self.config.compute)
            with compile_errors(self.config.compute):
                losses.append(self._forward_backward(batch, accumulation, last))
        self.mid_step = "update"
        self._update()
        clock.mark("optimizer")
        self.step_number += 1
        self.mid_step = ""
        clock.end()
        return losses[0] if accumulation == 1 else sum(losses) / accumulation

    def rehearse(self) -> None:
        """The passes of a step without exchanging gradients or using them; weights stay."""
        clock, accumulation = self.clock, self.config.batch.accumulation
        clock.begin()
        for number in range(accumulation):
            batch = self._next_batch()
            self._seed_step(number)
            clock.mark("data")
            self._forward_backward(batch, accumulation, last=False)
        self.optimizer.zero_grad(set_to_none=True)
        clock.mark("optimizer")
        clock.end()

    def skip(self) -> None:
        """Go past a step without taking it: its batches are dropped, the schedule goes on."""
        for _ in range(self.config.batch.accumulation):
            self._next_batch()
        self._end_of_step()
        self.step_number += 1

    def _seed_step(self, number: int) -> None:
        import torch

        seed = ticket_seed(self.seed, 1, self.step_number, self.rank, number)
        seed_everything(seed)
        at_step = getattr(self.model, "at_step", None)
        if at_step is not None:  # of models that are told where they are, such as Lightning's
            at_step(self.step_number, self.steps_per_epoch)
        if self.config.compute.device.startswith("cuda"):
            torch.cuda.manual_seed(seed)

    def _next_batch(self) -> Loaded:
        if self.cached_batch is not None:
            return self.cached_batch
        if self._loader is None:
            self._batches = self._stream()
        batch = next(self._batches)
        if self.observe is not None:
            self.observe(batch)
        if batch.corrupt:
            self.corrupt += batch.corrupt
            self.corruption.check(batch.corrupt)
        for name, seconds in vars(batch.times).items():
            setattr(self.load_times, name, getattr(self.load_times, name) + seconds)
        return batch

    def _stream(self) -> Iterator[Loaded]:
        if self._loader is None:
            self._loader = open_loader(self.job, self.config, rank=self.rank)
        first = self.step_number * self.config.batch.accumulation
        return fed(self._loader.batches(first), self.config)

    def _forward_backward(self, batch: Loaded, accumulation: int, last: bool) -> Any:
        settings, clock = self.config.compute, self.clock
        finish = self._loader.finish if self._loader is not None else None
        inputs, target = on_device(batch, settings, finish)
        self.last_batch = (inputs, target)
        clock.mark("copy")
        with precision(settings), self.synchronised(last):
            with explained("model", inputs), compile_errors(settings):
                output = self.callable(inputs)
            clock.mark("forward")
            with explained("loss", output, target):
                loss = self.loss(output, target)
            clock.mark("loss")
        check_loss(loss)
        scaled = loss / accumulation if accumulation > 1 else loss
        with self.synchronised(last):
            self.scaler.scale(scaled).backward()
        clock.mark("backward")
        return loss.detach()

    def synchronised(self, last: bool) -> contextlib.AbstractContextManager[Any]:
        """Gradients are exchanged with other processes at the last backward pass of a step."""
        quiet = getattr(self.callable, "no_sync", None)
        return contextlib.nullcontext() if last or quiet is None else quiet()

    def _update(self) -> None:
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self._end_of_step()

    def _end_of_step(self) -> None:
        if self.scheduler is None:
            return
        if self._each_step or (self.step_number + 1) % self.steps_per_epoch == 0:
            with warnings.catch_warnings():
                # Of a first step that the scaler left out because its gradients overflowed.
                warnings.filterwarnings("ignore", r"Detected call of `lr_scheduler\.step\(\)`")
                self.scheduler.step()

    @property
    def remark(self) -> str:
        """How the model says that it learns, as one with a teacher does; mostly nothing."""
        return getattr(self.model, "remark", "")

    @cached_property
    def held_out(self) -> int:
        """Samples to judge on, in all."""
        return open_dataset(self.job, "val")[1]

    @property
    def epoch(self) -> float:
        """Epochs done so far."""
        return self.step_number / self.steps_per_epoch

    def state(self) -> dict[str, Any]:
        """Everything that a later process needs to go on as if nothing had happened."""
        return {
            "step": self.step_number,
            "model": model_state(self.model),
            "optimizer": optimizer_state(self.optimizer),
            "scheduler": self.scheduler.state_dict() if self.scheduler is not None else None,
            "scaler": self.scaler.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        self.close_loader()
        load_model_state(self.model, state["model"])
        self._begin(int(state["step"]))
        load_optimizer_state(self.optimizer, state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        self.scaler.load_state_dict(state["scaler"])

    def close_loader(self) -> None:
        """End the loader's workers; the next step opens it again."""
        if self._loader is not None:
            self._loader.close()
        self._loader, self._batches, self.cached_batch = None, iter(()), None

    def close(self) -> None:
        """Free what the loop holds. Calling it twice is allowed."""
        self.close_loader()


def on_device(
    batch: Loaded, settings: ComputeSettings, finish: Callable[[Any], Any] | None
) -> tuple[Any, Any]:
    """A batch's input and target where they are needed, the input finished."""
    inputs, target = batch.data
    inputs = placed(inputs, settings, images=True)
    return (finish(inputs) if finish is not None else inputs), placed(target, settings)
