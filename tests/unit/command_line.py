"""What tests of the command share: how it ended, and sound inputs for it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tiny_system import write_labels, write_model, write_video

SACCADE = (sys.executable, "-c", "from saccade.cli import main; main()")


@dataclass(frozen=True)
class Outcome:
    """How one command ended."""

    code: int
    out: str
    err: str

    @property
    def message(self) -> str:
        """The one line that says why."""
        lines = [line for line in self.err.splitlines() if line.startswith("saccade: ")]
        assert len(lines) == 1, self.err
        assert self.err.rstrip("\n").endswith(lines[0])
        assert "Traceback" not in self.err
        return lines[0]


Cli = Callable[..., Outcome]


@dataclass(frozen=True)
class Inputs:
    """Sound inputs in one folder."""

    folder: Path
    model: Path
    video: Path
    data: Path

    @property
    def flags(self) -> tuple[object, ...]:
        return ("--model", self.model, "--video", self.video)


def make_inputs(folder: Path) -> Inputs:
    return Inputs(
        folder,
        write_model(folder),
        write_video(folder / "v.mp4"),
        write_labels(folder / "data"),
    )


def document(text: str) -> dict[str, Any]:
    """The one JSON document that ``text`` is, and no more."""
    found = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert isinstance(found, dict)
    assert found["schema_version"] == 1
    return found


def refused(cli: Cli, *arguments: object, code: int = 2) -> str:
    outcome = cli(*arguments)
    assert (outcome.code, outcome.out) == (code, ""), outcome.err
    return outcome.message
