"""What can be asked of a training, and what is answered to mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from saccade.errors import GoalError, SpecError
from saccade.goals import parse_goal
from saccade.train.spec import make_training_spec


def test_goals_and_budget_are_read() -> None:
    spec = make_training_spec(
        {"job": "job.py", "goals": ["epoch_s<=60", "loss_drift<=0.02"], "budget": "10m"}
    )
    assert [g.metric for g in spec.parsed_goals()] == ["epoch_s", "loss_drift"]
    assert spec.budget == 600


def test_the_document_is_read_back() -> None:
    spec = make_training_spec({"job": "job.py", "goals": "epoch_s<=60", "allow": ["batch"]})
    assert make_training_spec(spec.document()) == spec


def test_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "job.py").touch()
    assert make_training_spec({"job": "job.py"}).job == str(tmp_path / "job.py")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "'job' is missing"),
        ({"job": "j.py", "buget": "5m"}, "Did you mean 'budget'"),
        ({"job": "j.py", "budget": "soon"}, "'budget' is wrong"),
        ({"job": "j.py", "seeds": 1}, "'seeds' is wrong"),
        ({"job": "j.py", "allow": ["speed"]}, "'allow.0' is wrong"),
    ],
)
def test_mistakes_are_named(values: dict[str, object], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        make_training_spec(values)


@pytest.mark.parametrize(
    ("goal", "said"),
    [
        ("latency_ms.p99<=20", "no metric"),
        ("epoch_s>=60", "worse system"),
        ("epochs<=60", "Did you mean 'epoch_s'"),
    ],
)
def test_goals_of_something_else_are_refused(goal: str, said: str) -> None:
    with pytest.raises(GoalError, match=said):
        make_training_spec({"job": "job.py", "goals": [goal]})


def test_two_goals_for_one_metric_are_refused() -> None:
    with pytest.raises(GoalError, match="two goals"):
        make_training_spec({"job": "job.py", "goals": ["epoch_s<=60", "epoch_s<=50"]})


def test_goals_of_trainings_are_not_goals_of_pipelines() -> None:
    with pytest.raises(GoalError, match="no metric 'epoch_s'"):
        parse_goal("epoch_s<=60")
