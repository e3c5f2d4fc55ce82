"""A LightningModule and its data module train by saccade's loop as they would by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from saccade.errors import SpecError
from saccade.train.config import BatchSettings, TrainingConfig
from saccade.train.evaluating import evaluate
from saccade.train.job import TrainingJob, open_job, refer
from saccade.train.loop import TrainingLoop
from saccade.train.run_file import check_job_unchanged, read_run_file, write_run_file
from saccade.train.running import TrainingRun

LIGHTNING = Path(__file__).with_name("lightning_example.py")


pytestmark = pytest.mark.usefixtures("one_thread")


def lightning_job(names: str) -> tuple[TrainingJob, TrainingConfig]:
    pytest.importorskip("lightning")
    reference = refer(f"{LIGHTNING}:{names}")
    assert reference.kind == "lightning"
    job = open_job(reference)
    return job, TrainingConfig(reference, batch=BatchSettings(job.batch_size))


def test_a_lightning_run_folder_can_be_used_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lightning")
    source = LIGHTNING.read_text()
    (tmp_path / "net.py").write_text(source)
    (tmp_path / "data.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    reference = refer("net.py:Net,data.py:Data")
    write_run_file(tmp_path / "run", TrainingConfig(reference), 2)
    monkeypatch.chdir("/")
    found = read_run_file(tmp_path / "run").config.job
    assert found.name == f"{tmp_path}/net.py:Net,{tmp_path}/data.py:Data"
    check_job_unchanged(found)
    assert len(open_job(found).dataset("train")) > 0


def test_a_lightning_module_trains_as_it_would_by_hand(tmp_path: Path) -> None:
    job, config = lightning_job("Net,Data")
    job = replace(job, epochs=2)
    loop = TrainingLoop(job, config)
    start = {k.removeprefix("module."): v.clone() for k, v in loop.model.state_dict().items()}
    batches, losses = [], []
    for _ in range(7):
        losses.append(float(loop.step()))
        batches.append(loop.last_batch[0])
    # The same steps, written out: 22 samples make 5 steps an epoch.
    net = type(loop.model.module)()
    net.load_state_dict(start)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, 10)
    for (images, target), seen in zip(batches, losses, strict=True):
        loss = torch.nn.functional.cross_entropy(net.net(images), target)
        assert loss.item() == pytest.approx(seen, rel=1e-5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    assert loop.model.module.seen[-1] == (1, 1, 6)
    judged = evaluate(loop)
    assert judged.samples == 7
    output = loop.model.module.net(torch.stack([loop.job.dataset("val")[i][0] for i in range(7)]))
    right = (output.argmax(1) == torch.arange(7) % 3).float().mean()
    assert judged.metric == pytest.approx(float(right), abs=1e-6)
    loop.close()


def test_a_lightning_schedule_follows_a_fused_optimizer() -> None:
    job, config = lightning_job("Net,Data")
    plain = TrainingLoop(job, config)
    fused = TrainingLoop(
        job, config.with_compute(fused_optimizer=True).with_batch(learning_rate_scale=2.0)
    )
    for _ in range(3):
        plain.step()
        fused.step()
    rates = [loop.optimizer.param_groups[0]["lr"] for loop in (plain, fused)]
    assert rates[1] == pytest.approx(2 * rates[0])
    assert rates[0] != pytest.approx(1e-2)


def test_a_lightning_run_is_resumed_and_its_weights_load_into_the_module(tmp_path: Path) -> None:
    job, config = lightning_job("Net,Data")
    run = TrainingRun(job, config, 2, tmp_path)
    run.run()
    again = TrainingRun(job, config, 2, tmp_path)
    again.run()
    assert again.state.history == run.state.history
    assert run.state.best is not None
    assert run.state.best.metric is not None


def test_a_schedule_by_epochs_is_made_for_as_many_as_there_are(tmp_path: Path) -> None:
    job, config = lightning_job("Cosine,Data")
    run = TrainingRun(job, config, 2, tmp_path)
    run.run()
    assert run.loop.optimizer.param_groups[0]["lr"] == pytest.approx(0.0, abs=1e-9)
    with pytest.raises(SpecError, match="begun for 2 epochs"):
        TrainingRun(job, config, 3, tmp_path).run()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("ByHand,Data", "manual optimization"),
        ("Clipping,Data", "on_before_optimizer_step"),
        ("Needy,Data", "cannot be made without arguments"),
        ("Nothing,Data", "no class or function 'Nothing'"),
    ],
)
def test_what_lightning_does_beyond_is_refused(names: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        lightning_job(names)
