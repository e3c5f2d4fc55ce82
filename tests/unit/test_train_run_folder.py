"""What a training does to the folder it is told to train in, and to the result in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from saccade.errors import InputError, SpecError
from saccade.playbook import train_run
from saccade.playbook.train_run import RESULT, TrainingRequest, run_training
from saccade.testing.training_change_conformance import JOB
from saccade.train.job import open_job, refer

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def job(tmp_path: Path) -> str:
    (tmp_path / "job.py").write_text(JOB)
    return str(tmp_path / "job.py")


def test_beginning_again_in_several_processes_leaves_other_folders_alone(
    job: str, tmp_path: Path
) -> None:
    mine = tmp_path / "mine" / "model.pt"
    mine.parent.mkdir()
    mine.write_bytes(b"not from here")
    with pytest.raises(InputError, match="holds no saccade run"):
        run_training(TrainingRequest(job, mine.parent, restart=True, processes=2))
    assert mine.read_bytes() == b"not from here"


def test_a_new_folder_may_begin_again_in_several_processes(
    job: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_run, "launch_training", lambda *arguments: {"status": "done"})
    request = TrainingRequest(job, tmp_path / "new", restart=True, processes=2)
    assert run_training(request) == {"status": "done"}


def test_a_result_is_of_this_run_whatever_ends_it(
    job: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    assert run_training(TrainingRequest(job, folder, epochs=1))["status"] == "done"

    def breaks(training: object) -> None:
        assert not (folder / RESULT).exists()
        raise KeyError("class 7")

    monkeypatch.setattr(train_run.TrainingRun, "run", breaks)
    with pytest.raises(KeyError):
        run_training(TrainingRequest(job, folder, epochs=2))
    result = json.loads((folder / RESULT).read_text())
    assert (result["status"], result["reason"]) == ("failed", "KeyError: 'class 7'")


def test_a_training_begun_from_weights_is_of_those_weights(job: str, tmp_path: Path) -> None:
    weights = tmp_path / "begin.pt"
    state = open_job(refer(job)).model().state_dict()
    torch.save(state, weights)
    request = TrainingRequest(job, tmp_path / "run", epochs=1, settings={"weights": str(weights)})
    run_training(request)
    torch.save({name: value + 1 for name, value in state.items()}, weights)
    for what in (request, TrainingRequest(str(tmp_path / "run"))):
        with pytest.raises(SpecError, match=r"another configuration|another state|was changed"):
            run_training(what)


def test_a_folder_says_itself_what_is_trained(job: str, tmp_path: Path) -> None:
    run_training(TrainingRequest(job, tmp_path / "run", epochs=1))
    asked = TrainingRequest(str(tmp_path / "run"), settings={"recipe": "prune=0.3"})
    with pytest.raises(SpecError, match="Leave out --recipe"):
        run_training(asked)
