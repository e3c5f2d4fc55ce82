"""Fixtures of the unit tests."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import Cli, Inputs, Outcome, make_inputs

from saccade.environments.tool_environment import FOLDER_VARIABLE


@pytest.fixture(autouse=True, scope="session")
def no_tool_environments(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Converters that this machine happens to have would make the same tests last minutes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FOLDER_VARIABLE, str(tmp_path_factory.mktemp("environments")))
        yield


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Threads cost more than they bring on very small nets."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with very little space, where this user may mount one."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(path)]
    try:
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("mounting a small file system needs root")
    except FileNotFoundError:
        pytest.skip("there is no mount command here")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run the command in this process."""
    from saccade.cli import app as command

    def call(*arguments: object) -> Outcome:
        monkeypatch.setenv("SACCADE_RUN_FOLDER", "")
        monkeypatch.setattr(sys, "argv", ["saccade", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            command.run()
        assert isinstance(caught.value.code, int)
        return Outcome(caught.value.code, *capsys.readouterr())

    return call


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    return make_inputs(tmp_path)
