"""Jobs that do not fit into memory, and models that do not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from training_stand_ins import BASELINE, context_of

from saccade.environment import detect
from saccade.errors import OutOfMemory, SpecError, WorkerFailure
from saccade.playbook.train_run import TrainingRequest, _scaled
from saccade.playbook.training import fitting, optimize
from saccade.playbook.training.fitting import fitting_task, shared_configs
from saccade.playbook.training.prepare import DEFAULT_DRIFT, TrainingTask
from saccade.progress import SilentProgress
from saccade.study import RunFolder
from saccade.train.config import ScaleSettings, TrainingConfig
from saccade.train.dividing import spread, united
from saccade.train.spec import make_training_spec

WHY = WorkerFailure("CUDA out of memory. Tried to allocate 9 GB")
CUDA = BASELINE.with_compute(device="cuda").with_batch(size=8)


def task_of(folder: Path, baseline: TrainingConfig) -> TrainingTask:
    spec = make_training_spec({"job": "job.py"})
    return TrainingTask(spec, baseline, 3, False, (), DEFAULT_DRIFT, detect(), folder)


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is tried alone and in ranks; room for single samples in nothing unless a test says."""
    seen: list[Any] = []

    def alone(config: TrainingConfig, limit_mb: float | None = None) -> bool:
        seen.append(("alone", config.batch.size))
        return False

    def shared(config: TrainingConfig) -> bool:
        seen.append((config.scale, config.batch.size))
        return False

    monkeypatch.setattr(fitting, "fits_in_memory", alone)
    monkeypatch.setattr(fitting, "fits_in_ranks", shared)
    return seen


def machine(**facts: Any) -> Any:
    return context_of(**facts).machine


def test_a_batch_that_does_not_fit_is_halved_and_accumulated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "fits_in_memory", lambda config, limit: config.batch.size <= 2)
    found = fitting_task(task_of(tmp_path, BASELINE), machine(), SilentProgress(), WHY)
    assert (found.baseline.batch.size, found.baseline.batch.accumulation) == (2, 4)


def test_activations_are_computed_again_before_a_model_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fits(config: TrainingConfig, limit: float | None) -> bool:
        return config.compute.checkpointing and config.batch.size <= 4

    monkeypatch.setattr(fitting, "fits_in_memory", fits)
    found = fitting_task(task_of(tmp_path, BASELINE), machine(), SilentProgress(), WHY).baseline
    assert (found.compute.checkpointing, found.compute.precision) == (True, "fp32")
    assert (found.batch.size, found.batch.accumulation) == (4, 2)

    def without_blocks(config: TrainingConfig, limit: float | None) -> bool:
        if config.compute.checkpointing:
            raise SpecError("The model has no blocks")
        return config.compute.precision == "bf16"

    monkeypatch.setattr(fitting, "fits_in_memory", without_blocks)
    found = fitting_task(task_of(tmp_path, BASELINE), machine(), SilentProgress(), WHY).baseline
    assert (found.compute.checkpointing, found.compute.precision) == (False, "bf16")


def test_a_model_that_fits_one_gpu_in_no_way_is_shared(
    tmp_path: Path, tried: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        fitting, "fits_in_ranks", lambda config: config.scale.offload and config.batch.size <= 2
    )
    with pytest.raises(OutOfMemory, match="saccade train run") as said:
        fitting_task(task_of(tmp_path, CUDA), machine(gpus=2), SilentProgress(), WHY)
    assert "not verified on hardware" in str(said.value)
    written = json.loads((tmp_path / "training.json").read_text())["config"]
    assert written["scale"] == {"processes": 2, "nodes": 1, "strategy": "fsdp", "offload": True}
    assert (written["batch"]["size"], written["batch"]["accumulation"]) == (2, 2)


def test_what_fits_nowhere_says_what_was_tried_and_what_to_do(
    tmp_path: Path, tried: list[Any]
) -> None:
    with pytest.raises(OutOfMemory, match="over 2 GPUs and offloading did not fit either"):
        fitting_task(task_of(tmp_path, CUDA), machine(gpus=2), SilentProgress(), WHY)
    scales = {scale for scale, _ in tried if scale != "alone"}
    assert scales == {ScaleSettings(2, 1, "fsdp"), ScaleSettings(2, 1, "fsdp", True)}
    assert not (tmp_path / "training.json").exists()


def test_a_cpu_has_nothing_to_share(tmp_path: Path, tried: list[Any]) -> None:
    with pytest.raises(OutOfMemory, match="a machine with more memory"):
        fitting_task(task_of(tmp_path, BASELINE), machine(), SilentProgress(), WHY)
    assert {how for how, _ in tried} == {"alone"}


def test_one_gpu_can_only_offload() -> None:
    found = list(shared_configs(CUDA, machine(gpus=1)))
    assert [config.scale for config in found] == [ScaleSettings(1, 1, "fsdp", True)]
    assert not list(shared_configs(CUDA.with_batch(size=7), machine(gpus=2)))


def test_the_playbook_begins_again_with_what_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def profiled(task: TrainingTask, run: RunFolder, seconds: float) -> Any:
        asked.append(task.baseline.batch.size)
        if task.baseline.batch.size > 4:
            raise WHY
        return context_of(task.baseline).profile, ()

    monkeypatch.setattr(optimize, "profiled", profiled)
    monkeypatch.setattr(fitting, "fits_in_memory", lambda config, limit: config.batch.size <= 4)
    run = RunFolder(tmp_path / "run")
    playbook = optimize.TrainingPlaybook(task_of(run.path, BASELINE), run, SilentProgress(), 0.0)
    profile, _ = playbook._profile_baseline()
    assert asked == [8, 4]
    assert profile.config_hash == playbook._task.baseline.hash
    assert playbook._story.task is playbook._task
    assert playbook._task.baseline.batch.effective == 8


def test_other_failures_end_the_playbook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def profiled(*_: Any) -> Any:
        raise WorkerFailure("The worker crashed with SIGSEGV")

    monkeypatch.setattr(optimize, "profiled", profiled)
    run = RunFolder(tmp_path / "run")
    playbook = optimize.TrainingPlaybook(task_of(run.path, BASELINE), run, SilentProgress(), 0.0)
    with pytest.raises(WorkerFailure, match="SIGSEGV"):
        playbook._profile_baseline()


def test_where_time_is_up_the_last_profile_of_the_search_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    anew = context_of(BASELINE).profile
    monkeypatch.setattr(optimize, "profile_training", lambda *_: anew)
    run = RunFolder(tmp_path / "run")
    playbook = optimize.TrainingPlaybook(task_of(run.path, BASELINE), run, SilentProgress(), 0.0)
    last, other = replace(anew, launches=7.0), BASELINE.with_compute(precision="bf16")
    monkeypatch.setattr(playbook, "_left", lambda: 10.0)
    assert playbook._profiled(BASELINE, last) is anew
    monkeypatch.setattr(playbook, "_left", lambda: -1.0)
    assert playbook._profiled(BASELINE, last) is last
    assert playbook._profiled(other, last) is anew


def scaled(config: TrainingConfig, **asked: Any) -> ScaleSettings:
    return _scaled(config, replace(TrainingRequest("job.py"), **asked)).scale


def test_a_run_is_offloaded_as_the_user_says() -> None:
    assert scaled(CUDA, offload=True) == ScaleSettings(1, 1, "fsdp", True)
    assert scaled(CUDA, offload=True, processes=2) == ScaleSettings(2, 1, "fsdp", True)
    kept = spread(CUDA, 2, strategy="fsdp", offload=True)
    assert scaled(kept, processes=4) == ScaleSettings(4, 1, "fsdp", True)
    assert scaled(kept, offload=False) == ScaleSettings(2, 1, "fsdp")
    assert scaled(kept, strategy="ddp") == ScaleSettings(2, 1, "ddp")
    assert united(kept).scale == ScaleSettings()
    alone = spread(CUDA, 1, strategy="fsdp", offload=True)
    assert scaled(alone, processes=2).offload
    assert united(alone).batch == CUDA.batch


def test_what_cannot_be_offloaded_is_refused() -> None:
    with pytest.raises(SpecError, match="'ddp' has none"):
        scaled(CUDA, offload=True, strategy="ddp", processes=2)
    with pytest.raises(SpecError, match="takes the model off a GPU"):
        scaled(BASELINE, offload=True)
