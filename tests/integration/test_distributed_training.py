"""Two gloo processes on the CPU train as one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import ranked_training
import torch

from saccade.errors import DataError, OutOfMemory, SaccadeError, SpecError, WorkerFailure
from saccade.optimize.training.group import WorkerGroup
from saccade.playbook.train_run import TrainingRequest, run_training
from saccade.playbook.training.profile import profile_job
from saccade.train.config import ScaleSettings, TrainingConfig
from saccade.train.dividing import spread
from saccade.train.launch import launch_training
from saccade.train.ranked import RankedSubject
from saccade.train.records import LossCurve
from saccade.train.run_file import write_run_file
from saccade.train.run_options import RunOptions
from saccade.train.scaling import fitted_link
from saccade.train.spec import make_training_spec
from saccade.train.subject import TrainingSubject

STEPS = 5
SLOW = "1"


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """The job's setting holds for the whole process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def ranks_find_what_they_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks are processes of their own, which know nothing of pytest's path."""
    folder = str(Path(ranked_training.__file__).parent)
    known = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([folder, known] if known else [folder]))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> TrainingConfig:
    return ranked_training.alone(tmp_path_factory.mktemp("ranks"))


@pytest.fixture(scope="module")
def expected(alone: TrainingConfig) -> LossCurve:
    return TrainingSubject(alone).curve(1, STEPS)


@pytest.fixture(scope="module", params=["ddp", "fsdp"])
def group(request: pytest.FixtureRequest, alone: TrainingConfig) -> Iterator[WorkerGroup]:
    """Two processes, each of which accumulates two passes; the second one loads slowly."""
    config = ranked_training.two(alone, request.param, accumulation=2)
    with WorkerGroup(config, None, timeout_s=120, environment={"SLOW_RANK": SLOW}) as opened:
        yield opened


def test_two_processes_learn_what_one_does(group: WorkerGroup, expected: LossCurve) -> None:
    found = group.call("curve", 1, STEPS)
    assert found.losses == pytest.approx(expected.losses, rel=1e-5)
    assert found.evaluation is not None and expected.evaluation is not None
    assert found.evaluation.loss == pytest.approx(expected.evaluation.loss, rel=1e-5)
    assert found.block.samples == expected.block.samples


@pytest.mark.alone
def test_a_slow_rank_is_seen(group: WorkerGroup) -> None:
    """Two passes of two samples of 20 ms each, which another kind of measuring sees as well."""
    for ranks in (group.call("block", STEPS).ranks_ms, group.ranks_ms(STEPS)):
        assert ranks[int(SLOW)] > ranks[0] + 40


@pytest.mark.alone
def test_a_slow_rank_of_a_job_is_diagnosed(
    alone: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole of `saccade train profile --processes 2`, of four samples of 20 ms on one rank."""
    monkeypatch.setenv("SLOW_RANK", SLOW)
    spec = make_training_spec({"job": alone.job.name, "device": "cpu"})
    profile, findings = profile_job(spec, tmp_path / "run", 2.0, processes=2)
    assert profile.config is not None and profile.config.scale == ScaleSettings(2, 1, "ddp")
    assert "ranks_ms" not in profile.missing
    assert profile.ranks_ms[int(SLOW)] > profile.ranks_ms[0] + 40
    (found,) = (f for f in findings if f.name == "unbalanced_ranks")
    assert f"Rank {SLOW}" in found.title
    written = json.loads((tmp_path / "run" / "findings.json").read_text())
    assert "unbalanced_ranks" in [finding["name"] for finding in written["findings"]]


def test_a_training_goes_on_from_its_state_in_two_processes_and_in_one(
    group: WorkerGroup, alone: TrainingConfig
) -> None:
    group.call("curve", 2, 3, False)
    state = group.call("state")
    ahead = group.call("block", 2).losses
    group.call("restore", state)
    assert group.call("block", 2).losses == ahead
    single = TrainingSubject(alone)
    single.curve(2, 0, False)  # takes the seed
    single._loop.restore(state)
    assert single.block(2).losses == pytest.approx(ahead, rel=1e-5)


@pytest.mark.alone
def test_communication_is_measured(group: WorkerGroup) -> None:
    measured = group.call("allreduce", (0.1, 1.0, 4.0))
    assert set(measured) == {0.1, 1.0, 4.0}
    assert fitted_link(measured, 2).bandwidth_mbs > 0


def test_passes_without_exchange_leave_the_weights(group: WorkerGroup) -> None:
    before = group.call("state")["model"]
    blocks = group.answers("apart", 2)
    assert [len(block.step_s) for block in blocks] == [2, 2]
    after = group.call("state")["model"]
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_rank_that_raises_ends_all_with_its_own_words(alone: TrainingConfig) -> None:
    config = ranked_training.two(alone)
    with pytest.raises(DataError, match="Picture 7 is a poem"):
        launch_training(config, ranked_training.failing, config, "raise")


def test_a_rank_that_is_killed_ends_all(alone: TrainingConfig) -> None:
    config = ranked_training.two(alone)
    with pytest.raises(WorkerFailure, match=r"Rank 1 was ended by SIGKILL"):
        launch_training(config, ranked_training.failing, config, "kill")


def test_a_measured_rank_that_dies_ends_all(alone: TrainingConfig) -> None:
    config = ranked_training.two(alone)
    with pytest.raises(WorkerFailure, match="Rank 1 of 2: The worker ended with exit code 7"):
        WorkerGroup(config, None, timeout_s=120, environment={"DYING_RANK": "1"})


def test_a_configuration_of_two_is_refused_by_one(
    alone: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    config = TrainingConfig(alone.job, scale=ScaleSettings(2, 1, "ddp"))
    with pytest.raises(SaccadeError, match="trains in 2 processes"):
        RankedSubject(config).open()


def test_several_machines_are_not_measured_on_one(alone: TrainingConfig) -> None:
    config = ranked_training.two(alone).with_scale(processes=1, nodes=2)
    with pytest.raises(SpecError, match="2 machines"):
        WorkerGroup(config, None, timeout_s=10, environment={})


def test_a_run_folder_with_an_offloaded_model_trains_in_one_process(
    alone: TrainingConfig, tmp_path: Path
) -> None:
    """On a CPU there is nothing to take shares off, and all the rest is as on one GPU."""
    write_run_file(tmp_path, spread(alone, 1, strategy="fsdp", offload=True), 1)
    found = run_training(TrainingRequest(str(tmp_path)))
    assert found["config"]["scale"]["strategy"] == "fsdp" and found["config"]["scale"]["offload"]
    plain = run_training(TrainingRequest(alone.job.name, tmp_path / "plain", 1, device="cpu"))
    assert found["best"]["loss"] == pytest.approx(plain["best"]["loss"], rel=1e-4)


def test_a_whole_training_in_two_processes_is_as_in_one(
    alone: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a checkpoint between, and a step that both leave out for the loss of one of them."""
    monkeypatch.setenv("BROKEN_SAMPLE", "5")
    options = RunOptions(on_nonfinite="skip")

    def trained(name: str, *stages: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        out = tmp_path / name
        result: dict[str, Any] = {}
        for stage in stages:
            result = run_training(TrainingRequest(alone.job.name, out, options=options, **stage))
        return torch.load(out / "last.pt"), result

    one, expected = trained("one", {"epochs": 2})
    scale: dict[str, Any] = {"processes": 2, "strategy": "fsdp"}
    two, found = trained("two", {"epochs": 1, **scale}, {"epochs": 2, **scale})
    assert found["config"]["scale"]["processes"] == 2
    assert found["skipped_steps"] == expected["skipped_steps"] != []
    assert [event["kind"] for event in found["events"]].count("resumed") == 1
    for name, value in one.items():
        assert torch.allclose(two[name], value, atol=1e-5), name
    assert found["samples"] == expected["samples"]


@pytest.mark.slow
def test_all_halve_their_batches_where_one_of_two_runs_out_of_memory(
    alone: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second rank fails in the second epoch; from the checkpoint they go on as one would."""
    one = tmp_path / "one"
    run_training(TrainingRequest(alone.job.name, one, epochs=2))
    monkeypatch.setenv("ROOM", "2")
    monkeypatch.setenv("ROOMY_PASSES", "6")
    two = tmp_path / "two"
    found = run_training(TrainingRequest(alone.job.name, two, epochs=2, processes=2))
    assert found["config"]["batch"] == {"size": 2, "accumulation": 2, "learning_rate_scale": 1.0}
    kinds = {event["kind"]: event for event in found["events"]}
    assert kinds["resumed"]["step"] == kinds["out of memory"]["step"] == 4
    assert "batch halved to 2 x 2" in kinds["out of memory"]["detail"]
    expected, last = torch.load(one / "last.pt"), torch.load(two / "last.pt")
    for name, value in expected.items():
        assert torch.allclose(last[name], value, atol=1e-5), name


@pytest.mark.slow
def test_single_samples_that_do_not_fit_end_all(
    alone: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROOM", "0")
    with pytest.raises(OutOfMemory, match="for 1 samples at once in each process: no room for 1"):
        run_training(TrainingRequest(alone.job.name, tmp_path, epochs=1, processes=2))
    assert json.loads((tmp_path / "training-result.json").read_text())["status"] == "failed"


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
def test_ray_starts_two_processes(alone: TrainingConfig, tmp_path: Path) -> None:
    """In a process of its own, for Ray leaves threads and signal handlers behind."""
    said = subprocess.run(
        [sys.executable, ranked_training.__file__, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert said.returncode == 0, said.stderr[-2000:]
    found = json.loads(said.stdout.splitlines()[-1])
    expected = TrainingSubject(alone).curve(1, 4, False)
    assert found["rank"] == 0
    assert found["losses"] == pytest.approx(expected.losses, rel=1e-5)


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
def test_what_a_rank_of_rays_said_is_found_in_rays_own_errors() -> None:
    """In a process of its own, for importing Ray warns."""
    program = (
        "from saccade.errors import DataError\n"
        "from saccade.train.ray_launch import explained\n"
        "from ray.train import WorkerGroupError\n"
        "from ray.train.v2._internal.exceptions import UserExceptionWithTraceback as Wrapped\n"
        "lost, said = RuntimeError('Connection closed'), DataError('a poem')\n"
        "failures = {0: Wrapped(lost, ''), 1: Wrapped(said, '')}\n"
        "found = explained(WorkerGroupError('failed', failures))\n"
        "print(type(found).__name__, found)\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stdout.strip() == "DataError a poem", run.stderr[-2000:]
