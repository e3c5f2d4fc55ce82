"""Losses that are no numbers and want of memory in a whole training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import tiny_config, tiny_job
from training_runs import FailingAt, trained

from saccade.errors import NonFiniteLoss, SaccadeError
from saccade.train.config import BatchSettings
from saccade.train.run_options import RunOptions
from saccade.train.running import TrainingRun
from saccade.train.watch import LossWatch

OFTEN = RunOptions(save_every_s=0.0)

pytestmark = pytest.mark.usefixtures("one_thread")


# -- losses that are no numbers --------------------------------------------------------------------


def test_a_nan_is_named_by_its_step_and_its_batch_is_saved(tmp_path: Path) -> None:
    config = tiny_config()
    with pytest.raises(NonFiniteLoss) as caught:
        FailingAt(11).train(tmp_path, config)
    assert "The loss of step 11 (counted from 0, epoch 2) is nan" in str(caught.value)
    assert "--on-nonfinite skip" in str(caught.value)
    assert "checkpoint of step 6" in str(caught.value)
    saved = torch.load(tmp_path / "nonfinite-step11.pt", weights_only=True)
    assert (saved["step"], saved["config_hash"]) == (11, config.hash)
    # It is the very batch: taken again, step 11 sees the same.
    seen = {}
    job = tiny_job()

    def remembering(output: Any, target: Any) -> Any:
        if output.requires_grad:
            seen[run.loop.step_number] = run.loop.last_batch
        return job.loss(output, target)

    run = TrainingRun(tiny_job(loss=remembering), config, 3, tmp_path / "again")
    run.run()
    assert torch.equal(saved["inputs"], seen[11][0])
    assert torch.equal(saved["target"], seen[11][1])


def test_a_step_that_is_nan_is_left_out_and_nothing_else(tmp_path: Path) -> None:
    run = FailingAt(11).train(tmp_path, on_nonfinite="skip")
    assert run.state.skipped == [11]
    assert [e["kind"] for e in run.state.events] == ["step left out"]
    assert len(run.state.history) == 3
    steps = [int(line.split(",")[0]) for line in (tmp_path / "losses.csv").read_text().split()[1:]]
    assert steps == [k for k in range(18) if k != 11]
    assert all(torch.isfinite(v).all() for v in run.loop.model.state_dict().values())
    # Steps before it are those of a training without it.
    trained(tmp_path / "whole")
    whole = (tmp_path / "whole" / "losses.csv").read_text().split()
    assert (tmp_path / "losses.csv").read_text().split()[:12] == whole[:12]


def test_a_training_that_diverges_is_not_skipped_to_its_end(tmp_path: Path) -> None:
    def broken(output: Any, target: Any) -> Any:
        found = torch.nn.functional.cross_entropy(output, target)
        return found * float("inf") if output.requires_grad else found

    with pytest.raises(NonFiniteLoss, match="leaving them out does not help"):
        trained(tmp_path, RunOptions("skip"), loss=broken)


def test_losses_are_read_together_and_not_at_every_step() -> None:
    now = 0.0
    watch = LossWatch(lambda: now)

    class Reading(torch.Tensor):
        pass

    for step in range(5):
        watch.take(step, torch.tensor(float(step)), 0.1)
        assert not watch.due
    now = 2.0
    assert watch.due
    assert [record.loss for record in watch.read()] == [0, 1, 2, 3, 4]
    assert not watch.due


# -- memory ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "failure",
    [
        MemoryError(),
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: not enough memory"),
    ],
)
def test_out_of_memory_is_answered_by_half_the_batch(tmp_path: Path, failure: Exception) -> None:
    run = FailingAt(8, failure, times=1).train(tmp_path)
    assert (run.config.batch.size, run.config.batch.accumulation) == (2, 2)
    (event,) = run.state.events
    assert (event["kind"], event["step"]) == ("out of memory", 8)
    assert "batch halved to 2 x 2" in event["detail"]
    assert (len(run.state.history), run.state.samples) == (3, 72)
    # It went on from the step before: weights and running statistics are those of step 8 of a
    # training that had the memory, so that the losses before and at that step agree.
    trained(tmp_path / "whole")
    losses = [(path / "losses.csv").read_text().split() for path in (tmp_path, tmp_path / "whole")]
    assert losses[0][:9] == losses[1][:9]


def test_a_halved_batch_stays_halved_when_the_run_is_resumed(tmp_path: Path) -> None:
    FailingAt(8, MemoryError(), times=1).train(tmp_path)
    again = trained(tmp_path, epochs=4)
    assert again.config.batch == BatchSettings(2, 2)
    assert len(again.state.history) == 4


def test_a_halved_batch_is_resumed_without_cuda_graphs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph would write over the gradients that are being added up."""
    modes: list[str | None] = []

    def compile_nothing(what: Any, mode: str | None = None, fullgraph: bool = False) -> Any:
        if isinstance(what, torch.nn.Module):  # and not the loss
            modes.append(mode)
        return what

    monkeypatch.setattr(torch, "compile", compile_nothing)
    asked = tiny_config().with_compute(compile="reduce-overhead")
    FailingAt(8, MemoryError(), times=1).train(tmp_path / "one", config=asked)
    assert modes == ["reduce-overhead", None]
    again = trained(tmp_path / "one", config=asked, epochs=4)
    assert (again.config.batch, again.config.compute.compile) == (BatchSettings(2, 2), "default")
    # Processes that train together are started anew with what fits, which may be halved already.
    for options in (RunOptions(most_at_once=2), RunOptions(most_at_once=2), None):
        run = trained(tmp_path / "many", options, config=asked)
        assert (run.config.batch, run.config.compute.compile) == (BatchSettings(2, 2), "default")
    assert modes[2:] == [None] * 4


def test_an_update_that_was_cut_off_is_taken_again_from_the_checkpoint(tmp_path: Path) -> None:
    class Heavy(torch.optim.SGD):
        failed = False

        def step(self, closure: Any = None) -> Any:
            if run.loop.step_number == 8 and not Heavy.failed:
                Heavy.failed = True
                self.param_groups[0]["params"][0].data.fill_(9.0)  # half of the update is done
                raise MemoryError
            return super().step(closure)

    job = tiny_job(
        model=lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 4)),
        optimizer=lambda model: Heavy(model.parameters(), 0.1),
    )
    run = TrainingRun(job, tiny_config(), 3, tmp_path / "a", OFTEN)
    run.run()
    whole = TrainingRun(job, tiny_config(), 3, tmp_path / "b", OFTEN)
    whole.run()
    a, b = run.loop.model.state_dict(), whole.loop.model.state_dict()
    assert all(torch.allclose(a[name], b[name], atol=1e-5) for name in a)


def test_single_samples_that_do_not_fit_are_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SaccadeError, match=r"even on single samples.*bf16"):
        FailingAt(2, MemoryError()).train(tmp_path)
