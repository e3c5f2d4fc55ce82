"""Carries a training out to its end, through kills, broken losses and want of memory.

What happens to a step is decided here; how it is computed is the loop's. Every checkpoint is sound:
the losses of all steps before it were read and are finite. Going back to one and taking the steps
again gives the same weights, because a step depends on nothing but its number and the weights.
"""

from __future__ import annotations

import gc
import math
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from saccade import plugins
from saccade.train.agreement import Alone, Ranks, ranks_of, united
from saccade.train.batch_fit import fitting, halved
from saccade.train.checkpoint import Checkpoints
from saccade.train.config import TrainingConfig
from saccade.train.distributed import join
from saccade.train.evaluating import evaluate
from saccade.train.interrupts import StopRequest
from saccade.train.job import TrainingJob
from saccade.train.loading import open_dataset
from saccade.train.loggers.contract import LogRequest, OpenLogger
from saccade.train.loop import TrainingLoop
from saccade.train.memory_failure import does_not_fit, is_out_of_memory, part_does_not_fit
from saccade.train.nonfinite import batch_path, check_hope, failure, save_batch, to_cpu
from saccade.train.resuming import checkpoint_content, resumed_config
from saccade.train.run_file import write_run_file
from saccade.train.run_options import RunOptions
from saccade.train.run_progress import RunProgress, SilentRun
from saccade.train.run_state import EpochRecord, RunState
from saccade.train.running_statistics import RunningStatistics
from saccade.train.watch import LossWatch, StepRecord

CHECKPOINTS = "checkpoints"
# Between checkpoints within an epoch lies at least this many times what one takes: 1% of the time.
SAVE_REST = 100.0


class TrainingRun:
    """One whole training in a run folder.

    Args:
        job: what is trained.
        config: how, as the user asked for it.
        epochs: passes over the data.
        folder: the run folder; where it holds checkpoints, the training goes on from them.

    Attributes:
        state: what happened so far.
        loop: the training; None before `run`.
    """

    def __init__(
        self,
        job: TrainingJob,
        config: TrainingConfig,
        epochs: int,
        folder: Path,
        options: RunOptions | None = None,
        progress: RunProgress | None = None,
    ) -> None:
        self.job = replace(job, epochs=epochs)
        self.config, self.epochs, self.folder = config, epochs, folder
        self.state = RunState()
        self.checkpoints = Checkpoints(folder / CHECKPOINTS)
        self._asked = config
        self._options = options or RunOptions()
        self._say = progress or SilentRun()
        self._watch = LossWatch()
        self._loggers: list[OpenLogger] = []
        self._loop: TrainingLoop | None = None
        self._ranks: Ranks = Alone()
        self._save_s = 0.0

    @property
    def first(self) -> bool:
        """Whether this process writes the files, of those that train together."""
        return self._ranks.first

    @property
    def loop(self) -> TrainingLoop:
        """The training under way."""
        assert self._loop is not None
        return self._loop

    def run(self) -> RunState:
        """Train to the end.

        Raises:
            KeyboardInterrupt: a signal came; everything was saved.
            NonFiniteLoss: a loss is infinite or NaN, and the policy is to stop.
            SaccadeError: the job is unusable, memory does not suffice for single samples, or the
                disk refused.
        """
        self._began = time.perf_counter()
        try:
            with StopRequest() as self._stop:
                self._open()
                while self._advance():
                    pass
        finally:
            self._count_wall()
            self._close()
        return self.state

    # -- beginning and end ------------------------------------------------------------------------

    def _open(self) -> None:
        join(self.config)
        self._ranks = ranks_of(self.config)
        open_dataset(self.job, "val")  # what is missing at the end of an epoch is said now
        found = self._ranks.from_first(self.checkpoints.newest)
        if found.content is not None:
            self.config = resumed_config(found.content, self._asked, self.epochs, self.job)
        too_large = self.config.batch
        self.config = fitting(self.config, self._options.most_at_once)
        if self.first:
            write_run_file(self.folder, self._asked, self.epochs)
        self._make_loop()
        if found.content is not None:
            self._go_on_from(found.content)
            self._happened("resumed", f"from the checkpoint of step {found.step}")
        elif self.loop.remark:
            self._happened("it learns", self.loop.remark)
        self._set_aside(found.damaged)
        if self.config.batch != too_large:
            self._happened("out of memory", f"batch halved to {_passes(self.config)}")
        self._saved_at = time.perf_counter()
        self._open_loggers()
        loop = self.loop
        self._say.begin(loop.step_number, self._steps, loop.steps_per_epoch)

    def _make_loop(self) -> None:
        try:
            self._loop = TrainingLoop(self.job, self.config, timed=False)
        except Exception as error:
            if is_out_of_memory(error):
                raise does_not_fit(error) from error
            raise
        self._statistics = RunningStatistics(self.loop.model)

    def _go_on_from(self, content: dict[str, Any]) -> None:
        self.loop.restore(content["loop"])
        self.state = RunState.from_dict(content["run"])
        self.loop.corruption.found |= self.state.corrupt

    def _open_loggers(self) -> None:
        self._close_loggers()
        if not self.first:
            return
        note = partial(self._happened, "logging")
        request = LogRequest(self.folder, self.config, self.loop.step_number, note)
        for name in ("files", *self._options.loggers):
            self._loggers.append(plugins.load("training_loggers", name).open(request))

    def _close_loggers(self) -> None:
        for logger in self._loggers:
            logger.close()
        self._loggers = []

    def _close(self) -> None:
        self._close_loggers()
        if self._loop is not None:
            self._loop.close()
        self._say.close()

    @property
    def _steps(self) -> int:
        return self.epochs * self.loop.steps_per_epoch

    # -- one turn ---------------------------------------------------------------------------------

    def _advance(self) -> bool:
        """Do what comes next; False when there is nothing left to do."""
        try:
            return self._turn()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            said = str(error) or type(error).__name__
        if self._ranks.world > 1:
            # The others wait for this one in an exchange, so all have to begin anew.
            raise part_does_not_fit(said, self.config.batch.size)
        # Only here, where the error and with it the failed step's tensors are gone, is memory free.
        self._shrink(said)
        return True

    def _turn(self) -> bool:
        loop = self.loop
        epoch_done = loop.step_number >= (len(self.state.history) + 1) * loop.steps_per_epoch
        save, due, stop = self._ranks.any((self._save_due, self._watch.due, self._stop.asked))
        if (epoch_done or save or due or stop) and not self._read():
            return True
        if len(self.state.history) >= self.epochs:
            return False
        if epoch_done:
            self._finish_epoch()
            return True
        if stop:
            self._save()
            raise KeyboardInterrupt
        if save:
            self._save()
        self._step()
        return True

    def _step(self) -> None:
        loop, state = self.loop, self.state
        step = loop.step_number
        if step in state.skipped:
            loop.skip()
            return
        began = time.perf_counter()
        self._statistics.keep()
        loss = loop.step()
        self._watch.take(step, loss, _learning_rate(loop.optimizer))
        samples = loop.config.batch.effective * self._ranks.world
        state.samples += samples
        state.epoch_samples += samples
        self._trained(time.perf_counter() - began)

    def _trained(self, seconds: float) -> None:
        self.state.trained_s += seconds
        self.state.epoch_s += seconds

    def _read(self) -> bool:
        """Read the losses; False where one was not finite and the training went back."""
        began = time.perf_counter()
        own = self._watch.read()
        means = self._ranks.means([record.loss for record in own])
        records = [replace(r, loss=mean) for r, mean in zip(own, means, strict=True)]
        self._trained(time.perf_counter() - began)  # the device was still busy with the steps
        broken = next((record for record in records if not record.finite), None)
        self._note([r for r in records if broken is None or r.step < broken.step])
        if broken is not None:
            self._nonfinite(broken, own[records.index(broken)])
        return broken is None

    def _note(self, records: list[StepRecord]) -> None:
        if not records:
            return
        state = self.state
        state.loss_sum += math.fsum(record.loss for record in records)
        state.losses += len(records)
        state.corrupt = dict(self.loop.corruption.found)
        for logger in self._loggers:
            logger.steps(records)
        rate = state.epoch_samples / state.epoch_s if state.epoch_s else 0.0
        self._say.at(records[-1].step + 1, records[-1].loss, rate)

    def _finish_epoch(self) -> None:
        state = self.state
        began = time.perf_counter()
        judged = evaluate(self.loop)
        record = EpochRecord(
            epoch=len(state.history) + 1,
            step=self.loop.step_number,
            train_loss=state.loss_sum / state.losses if state.losses else None,
            loss=judged.loss,
            metric=judged.metric,
            corrupt=judged.corrupt,
            samples_per_s=state.epoch_samples / state.epoch_s if state.epoch_s else 0.0,
            train_s=state.epoch_s,
            evaluate_s=time.perf_counter() - began,
        )
        state.history.append(record)
        state.loss_sum, state.losses, state.epoch_s, state.epoch_samples = 0.0, 0, 0.0, 0
        for logger in self._loggers:
            logger.epoch(record)
        self._say.epoch(record, self.epochs)
        self._save()

    # -- checkpoints ------------------------------------------------------------------------------

    @property
    def _save_due(self) -> bool:
        """For the first process alone to say: it writes, and knows what that takes."""
        rest = max(self._options.save_every_s, SAVE_REST * self._save_s)
        return self.first and time.perf_counter() - self._saved_at >= rest

    def _save(self) -> None:
        """Write a checkpoint; all losses were read before."""
        state, loop, began = self.state, self.loop, time.perf_counter()
        self._count_wall()
        content = {
            "loop": loop.state(),
            "run": {**state.to_dict(), "corrupt": self._all_corrupt()},
            **checkpoint_content(self.config, self._asked, self.epochs),
        }
        if self.first:
            best = state.best.step if state.best else None
            self.checkpoints.save(loop.step_number, content, best)
        self._saved_at = time.perf_counter()
        self._save_s = self._saved_at - began  # gathering shards takes its time as well
        state.saves += 1
        state.save_s += self._save_s

    def _all_corrupt(self) -> dict[int, str]:
        """What any process could not read."""
        found = self.loop.corruption.found
        found |= united(self._ranks.gathered(found))
        self.state.corrupt = dict(found)
        return self.state.corrupt

    def _count_wall(self) -> None:
        now = time.perf_counter()
        self.state.wall_s += now - self._began
        self._began = now

    def _go_back(self) -> None:
        """Return to the newest checkpoint, or to the beginning; events and policy stay."""
        events, skipped, wall_s = self.state.events, self.state.skipped, self.state.wall_s
        corrupt = dict(self.loop.corruption.found)
        self._watch.forget()
        found = self._ranks.from_first(self.checkpoints.newest)
        if found.content is None:
            self.loop.restart(self.config.seed)
            self.state = RunState()
        else:
            self._go_on_from(found.content)
        self.state.events, self.state.skipped, self.state.wall_s = events, skipped, wall_s
        self.loop.corruption.found |= corrupt
        self._set_aside(found.damaged)
        self._open_loggers()

    # -- what can go wrong ------------------------------------------------------------------------

    def _nonfinite(self, record: StepRecord, own: StepRecord) -> None:
        """Leave the step out or end; one of the processes whose own loss is broken saves why."""
        culprit = [own.finite for own in self._ranks.gathered(own)].index(False)
        saved = batch_path(record, self.folder)
        if culprit == self.loop.rank:
            save_batch(self.loop, record, self.folder)
        self._ranks.any([False])  # the file is there
        skipped = self.state.skipped
        detail = f"loss {record.loss}; its batch is in {saved.name}"
        if self._options.on_nonfinite == "stop":
            self._happened("non-finite loss", detail, record.step)
            found = self.checkpoints.steps()
            raise failure(self.loop, record, saved, found[-1] if found else None)
        skipped.append(record.step)
        check_hope(skipped, saved)
        self._happened("step left out", detail, record.step)
        self._go_back()

    def _shrink(self, said: str) -> None:
        """Halve the batch and go on from the last step."""
        smaller = halved(self.config)
        if smaller is None:
            raise does_not_fit(said)
        step = self.loop.step_number
        lost = self.loop.mid_step == "update"  # an update that was cut off cannot be undone
        if self.loop.mid_step == "gradients":
            self._statistics.put_back()
        live = None if lost else to_cpu(self.loop.state())
        corrupt = dict(self.loop.corruption.found)
        self._free()
        self.config = smaller
        self._make_loop()
        self.loop.corruption.found |= corrupt
        detail = f"batch halved to {_passes(smaller)}: {said[:200]}"
        self._happened("out of memory", detail, step)
        if live is None:
            self._go_back()
        else:
            self.loop.restore(live)

    def _free(self) -> None:
        import torch

        self.loop.close()
        self._loop = None
        del self._statistics
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _set_aside(self, damaged: tuple[str, ...]) -> None:
        for name in damaged:
            self._happened("damaged checkpoint", f"{name} could not be used and was set aside")

    def _happened(self, kind: str, detail: str, step: int | None = None) -> None:
        at = self.loop.step_number if step is None else step
        self.state.happened(kind, at, detail)
        self._say.note(f"step {at}: {kind}, {detail}")


def _passes(config: TrainingConfig) -> str:
    return f"{config.batch.size} x {config.batch.accumulation}"


def _learning_rate(optimizer: Any) -> float | None:
    """Of the first group; None where reading it would wait for the device."""
    rate = optimizer.param_groups[0]["lr"]
    return float(rate) if isinstance(rate, int | float) else None
