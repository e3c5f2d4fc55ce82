"""Two gloo processes on the CPU train as one does."""

from __future__ import annotations

from pathlib import Path

import pytest

from saccade.errors import SaccadeError
from saccade.optimize.training.runner import TrainingRunner
from saccade.train.config import BatchSettings, ComputeSettings, ScaleSettings, TrainingConfig
from saccade.train.job import refer
from saccade.train.scaling import fitted_link

JOB = """
import os
import torch
from torch import nn

batch_size = 8
FAIL_AT = int(os.environ.get("FAIL_AT", "-1"))

class Random:
    def __init__(self, split):
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(32, 3, 8, 8, generator=generator)
        self.y = torch.randint(0, 4, (32,), generator=generator)
    def __len__(self):
        return 32
    def __getitem__(self, i):
        if os.environ.get("RANK") == "1" and FAIL_AT >= 0:
            os._exit(7)
        return self.x[i], self.y[i]

def model():
    body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
    return nn.Sequential(body, nn.Flatten(), nn.Linear(288, 4))

def dataset(split):
    return Random(split)

def loss(output, target):
    return nn.functional.cross_entropy(output, target)

def optimizer(model):
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
"""
STEPS = 5


@pytest.fixture
def alone(tmp_path: Path) -> TrainingConfig:
    path = tmp_path / "job.py"
    path.write_text(JOB)
    return TrainingConfig(
        refer(str(path)), compute=ComputeSettings(threads=1), batch=BatchSettings(8)
    )


def two(config: TrainingConfig, strategy: str) -> TrainingConfig:
    half = config.with_batch(size=config.batch.size // 2)
    return half.with_scale(processes=2, strategy=strategy)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_learn_what_one_does(alone: TrainingConfig, strategy: str) -> None:
    with TrainingRunner(alone) as runner:
        expected = runner.curve(1, STEPS)
    with TrainingRunner(two(alone, strategy)) as runner:
        found = runner.curve(1, STEPS)
    assert found.losses == pytest.approx(expected.losses, rel=1e-5)
    assert found.evaluation is not None and expected.evaluation is not None
    assert found.evaluation.loss == pytest.approx(expected.evaluation.loss, rel=1e-5)
    assert found.block.samples == expected.block.samples
    assert len(found.block.ranks_ms) == 2


def test_accumulation_exchanges_gradients_once_a_step(alone: TrainingConfig) -> None:
    with TrainingRunner(alone) as runner:
        expected = runner.curve(2, STEPS).losses
    split = two(alone, "ddp")
    with TrainingRunner(split.with_batch(size=2, accumulation=2)) as runner:
        assert runner.curve(2, STEPS).losses == pytest.approx(expected, rel=1e-5)


def test_communication_is_measured(alone: TrainingConfig) -> None:
    with TrainingRunner(two(alone, "ddp")) as runner:
        measured = runner.worker.call("allreduce", (0.1, 1.0, 4.0))
    link = fitted_link(measured, 2)
    assert link.bandwidth_mbs > 0 and set(measured) == {0.1, 1.0, 4.0}


def test_a_process_that_dies_ends_all(
    alone: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIL_AT", "0")
    with pytest.raises(SaccadeError, match=r"exit code 7|Connection|closed"):
        TrainingRunner(two(alone, "ddp"))


def test_a_configuration_of_two_is_refused_by_one(alone: TrainingConfig) -> None:
    from saccade.optimize.worker import Worker
    from saccade.train.ranked import RANKED

    config = TrainingConfig(alone.job, scale=ScaleSettings(2, 1, "ddp"))
    with pytest.raises(SaccadeError, match="trains in 2 processes"):
        Worker(RANKED, (config, None))


def test_a_whole_training_in_two_processes_is_as_in_one(
    alone: TrainingConfig, tmp_path: Path
) -> None:
    """Two epochs, started by torchrun."""
    import torch

    from saccade.playbook.train_run import TrainingRequest, run_training
    from saccade.train.run_file import write_run_file

    def trained(name: str, config: TrainingConfig, *epochs: int) -> dict[str, torch.Tensor]:
        folder = tmp_path / name
        folder.mkdir()
        (folder / ".saccade-run").touch()
        write_run_file(folder, config, epochs[-1])
        for count in epochs:
            result = run_training(TrainingRequest(str(folder), epochs=count))
            assert result["status"] == "done" and result["epochs_done"] == count
        return torch.load(folder / "last.pt")

    expected = trained("one", alone, 2)
    found = trained("two", two(alone, "ddp"), 2)
    for key, value in expected.items():
        assert torch.allclose(found[key], value, atol=1e-5), key
