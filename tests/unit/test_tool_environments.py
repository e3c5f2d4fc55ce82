"""Tool environments: made on demand, run in a process of their own, and clear when absent."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from saccade.environments import tool_environment
from saccade.environments.tool_environment import (
    FOLDER_VARIABLE,
    STAMP,
    ToolEnvironment,
    environments_folder,
    known,
    named,
)
from saccade.errors import MissingEnvironmentError, RuntimeFailure, SpecError

SCRIPTS = {
    "double": "def work(request):\n    print('noise')\n    return {'twice': 2 * request['once']}\n",
    "raises": "def work(request):\n    raise KeyError('lost')\n",
    "dies": "import os, sys\ndef work(request):\n"
    "    print('out of paper', file=sys.stderr, flush=True)\n    os._exit(7)\n",
    "hangs": "import time\ndef work(request):\n    time.sleep(60)\n",
    "looks": "import sys\ndef work(request):\n    return [p for p in sys.path if 'mark' in p]\n",
}


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ToolEnvironment:
    """One that is ready: this interpreter, under another name, with scripts of ours."""
    here = tmp_path / "here"
    (here / "scripts").mkdir(parents=True)
    shutil.copy(tool_environment.HERE / "scripts" / "run.py", here / "scripts" / "run.py")
    for name, text in SCRIPTS.items():
        (here / "scripts" / f"{name}.py").write_text(text)
    (here / "paper.txt").write_text("# a comment\nsome-package==1.0\n")
    monkeypatch.setattr(tool_environment, "HERE", here)
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "made"))
    made = ToolEnvironment("paper")
    made.python.parent.mkdir(parents=True)
    made.python.symlink_to(sys.executable)
    (made.folder / STAMP).write_text(json.dumps({"digest": made._digest}))
    return made


def test_a_script_gets_the_request_and_answers(environment: ToolEnvironment) -> None:
    assert environment.run("double", {"once": 21}, "Doubling") == {"twice": 42}


def test_what_a_script_raises_is_said(environment: ToolEnvironment) -> None:
    with pytest.raises(RuntimeFailure, match="KeyError: 'lost'"):
        environment.run("raises", {}, "Losing")


def test_a_script_that_dies_leaves_its_last_words(environment: ToolEnvironment) -> None:
    with pytest.raises(RuntimeFailure, match=r"Dying failed.*exit code 7.*out of paper"):
        environment.run("dies", {}, "Dying")


def test_a_script_that_hangs_is_stopped(environment: ToolEnvironment) -> None:
    with pytest.raises(RuntimeFailure, match="did not end within 1 s"):
        environment.run("hangs", {}, "Waiting", timeout_s=1.0)


def test_nothing_of_ours_is_seen_there(
    environment: ToolEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/mark/of/ours")
    assert environment.run("looks", {}, "Looking") == []


def test_an_absent_one_says_what_to_run(
    environment: ToolEnvironment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "nothing"))
    assert not environment.ready
    with pytest.raises(MissingEnvironmentError, match="saccade doctor --install paper"):
        environment.run("double", {"once": 1}, "Doubling")


def test_one_of_other_versions_is_not_used(environment: ToolEnvironment) -> None:
    (tool_environment.HERE / "paper.txt").write_text("some-package==2.0\n")
    assert "of other versions" in str(environment.why_not())


def test_one_that_was_not_finished_is_not_used(environment: ToolEnvironment) -> None:
    (environment.folder / STAMP).unlink()
    assert "is not installed" in str(environment.why_not())


def test_requirements_are_pinned() -> None:
    for environment in known():
        assert environment.requirements
        assert all("==" in line for line in environment.requirements)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(SpecError, match="litert"):
        named("tensorflow")


def test_the_folder_is_the_users_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert environments_folder() == Path("/cache/saccade/environments")


def test_a_failed_installation_is_not_ready(
    environment: ToolEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip is asked for a folder that is not there, which needs no network."""
    (tool_environment.HERE / "paper.txt").write_text("./missing-folder-of-a-package\n")
    said: list[str] = []
    with pytest.raises(RuntimeFailure, match="install paper's packages failed"):
        environment.install(said.append)
    assert any("missing-folder" in line for line in said)
    assert not environment.ready
