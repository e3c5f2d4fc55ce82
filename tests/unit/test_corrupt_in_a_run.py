"""One image in a thousand that cannot be read: left out and counted, or refused by the user."""

from __future__ import annotations

from pathlib import Path

import pytest

from saccade.errors import DataError
from saccade.playbook.train_run import TrainingRequest, run_training
from saccade.testing.planted_training import BROKEN_FILE, FILES, write_job


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_job(tmp_path_factory.mktemp("corrupt"), "corrupt_samples"))


def test_it_is_left_out_and_counted(job: str, tmp_path: Path) -> None:
    result = run_training(TrainingRequest(job, tmp_path / "run", epochs=1))
    corrupt = result["corrupt"]
    assert result["status"] == "done"
    assert corrupt["samples"] == 1
    assert [int(index) for index in corrupt["examples"]] == [BROKEN_FILE]
    assert result["samples"] <= FILES


def test_it_is_refused_above_the_users_limit(job: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=str(BROKEN_FILE)):
        run_training(TrainingRequest(job, tmp_path / "run", epochs=1, max_corrupt=0.0001))
