"""Make tool environments, say whether they are there, and run scripts in them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saccade.errors import MissingEnvironmentError, RuntimeFailure, SpecError, StorageError
from saccade.user_cache import user_folder

# Where environments are made, instead of the user's cache folder.
FOLDER_VARIABLE = "SACCADE_ENVIRONMENTS"
HERE = Path(__file__).parent
STAMP = "saccade.json"
TIMEOUT_S = 600.0
INSTALL_TIMEOUT_S = 3600.0
_LAST_LINES = 3

Say = Callable[[str], None]


@dataclass(frozen=True)
class ToolEnvironment:
    """A named environment.

    Attributes:
        name: of its file of requirements in this folder.
    """

    name: str

    @property
    def requirements(self) -> tuple[str, ...]:
        """Pinned requirements, as pip takes them."""
        lines = (HERE / f"{self.name}.txt").read_text(encoding="utf-8").splitlines()
        return tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))

    @property
    def folder(self) -> Path:
        """Where it is, or would be."""
        return environments_folder() / self.name

    @property
    def python(self) -> Path:
        """Its interpreter."""
        inside = "Scripts/python.exe" if os.name == "nt" else "bin/python"
        return self.folder / inside

    @property
    def ready(self) -> bool:
        """Whether it is whole, and made from the requirements of this version of saccade."""
        return self.why_not() is None

    def why_not(self) -> str | None:
        """None where it can be used, else the reason and what to run."""
        command = f"run: saccade doctor --install {self.name}"
        try:
            stamp = json.loads((self.folder / STAMP).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return f"the tool environment '{self.name}' is not installed; {command}"
        if stamp.get("digest") != self._digest or not self.python.exists():
            return f"the tool environment '{self.name}' is of other versions; {command}"
        return None

    @property
    def _digest(self) -> str:
        return hashlib.sha256("\n".join(self.requirements).encode()).hexdigest()

    def install(self, say: Say) -> None:
        """Make it anew.

        Args:
            say: is told what happens, a line at a time.

        Raises:
            StorageError: the folder cannot be written.
            RuntimeFailure: a package could not be installed; pip's last lines say why.
        """
        try:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"'{self.folder}' cannot be written ({error.strerror}). Free some space, or set "
                f"{FOLDER_VARIABLE} to a folder elsewhere."
            ) from error
        say(f"making {self.folder}")
        _checked([sys.executable, "-m", "venv", str(self.folder)], "make an environment")
        say(f"installing {', '.join(self.requirements)}")
        pip = [str(self.python), "-m", "pip", "install", "--quiet", *self.requirements]
        _checked(pip, f"install {self.name}'s packages")
        # Written last: an environment without it was not finished.
        stamp = {"digest": self._digest, "requirements": self.requirements}
        (self.folder / STAMP).write_text(json.dumps(stamp), encoding="utf-8")
        say(f"'{self.name}' is ready")

    def run(
        self, script: str, request: Mapping[str, Any], purpose: str, timeout_s: float = TIMEOUT_S
    ) -> Any:
        """Call the ``work`` of a script in the environment.

        Args:
            script: name of a file in `saccade.environments.scripts`, without its ending.
            request: a JSON-ready document for it.
            purpose: what it is needed for, as the subject of a message.
            timeout_s: seconds after which it is stopped.

        Returns:
            What it returned, after a trip through JSON.

        Raises:
            MissingEnvironmentError: the environment is not there, or of other versions.
            RuntimeFailure: the script raised, died or did not end in time.
        """
        reason = self.why_not()
        if reason is not None:
            raise MissingEnvironmentError(f"{purpose} is not possible: {reason}")
        with tempfile.TemporaryDirectory(prefix="saccade-") as folder:
            target = Path(folder) / "answer.json"
            files = [HERE / "scripts" / "run.py", HERE / "scripts" / f"{script}.py", target]
            # Isolated, so that nothing of this environment is seen from the other.
            command = [str(self.python), "-I", *map(str, files)]
            said = _finished(command, json.dumps(dict(request)), purpose, timeout_s)
            try:
                answer = json.loads(target.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                raise RuntimeFailure(
                    f"{purpose} failed: the process in the tool environment '{self.name}' ended "
                    f"without an answer (exit code {said.returncode}): {_last(said.stderr)}"
                ) from None
        if "error" in answer:
            raise RuntimeFailure(f"{answer['error']['type']}: {answer['error']['text']}")
        return answer["value"]


def environments_folder() -> Path:
    """Where tool environments are made."""
    return user_folder("environments", FOLDER_VARIABLE)


def known() -> tuple[ToolEnvironment, ...]:
    """Every tool environment there is a file for."""
    return tuple(ToolEnvironment(path.stem) for path in sorted(HERE.glob("*.txt")))


def named(name: str) -> ToolEnvironment:
    """The tool environment of a name.

    Raises:
        SpecError: there is none.
    """
    found = {environment.name: environment for environment in known()}
    if name not in found:
        raise SpecError(f"There is no tool environment '{name}'. Known: {', '.join(found)}.")
    return found[name]


def _checked(command: list[str], purpose: str) -> None:
    said = _finished(command, "", f"The attempt to {purpose}", INSTALL_TIMEOUT_S)
    if said.returncode:
        raise RuntimeFailure(
            f"The attempt to {purpose} failed: {_last(said.stderr)} Check the network and the "
            "space on the disk, and run the same command again."
        )


def _finished(
    command: list[str], document: str, purpose: str, timeout_s: float
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            input=document,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeFailure(
            f"{purpose} did not end within {timeout_s:.0f} s and was stopped (hung)."
        ) from error
    except OSError as error:
        raise RuntimeFailure(f"{purpose} could not be started: {error}.") from error


def _last(text: str) -> str:
    """The last lines of what a process said."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines[-_LAST_LINES:])[:600] or "it said nothing."
