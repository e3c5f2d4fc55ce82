"""The job files of `saccade.train.templates`: as text to write, and as jobs to run."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType

from saccade.errors import SpecError

FOLDER = Path(__file__).with_name("templates")
_DATA = re.compile(r'^DATA = "data"$', re.MULTILINE)


def template_tasks() -> list[str]:
    """Tasks that there is a job file for."""
    return sorted(path.stem for path in FOLDER.glob("[!_]*.py"))


def template_path(task: str) -> Path:
    """The job file of a task.

    Raises:
        SpecError: there is none.
    """
    path = FOLDER / f"{task}.py"
    if task not in template_tasks():
        raise SpecError(
            f"There is no training job for the task '{task}'. Expected one of "
            f"{', '.join(template_tasks())}."
        )
    return path


def template_text(task: str, data: Path, facts: str) -> str:
    """The job file of a task, for the data at a path.

    Args:
        task: what is trained.
        data: written into the file with its full path.
        facts: one line about the data, as a comment.

    Raises:
        SpecError: there is no such task.
    """
    text = template_path(task).read_text(encoding="utf-8")
    # A JSON string is a Python string as well.
    lines = f"# {facts}\nDATA = {json.dumps(str(data.absolute()), ensure_ascii=False)}"
    return _DATA.sub(lambda match: lines, text)


def template_module(task: str, data: str) -> ModuleType:
    """The job file of a task as a module of its own, for the data at a path.

    Raises:
        SpecError: there is no such task.
    """
    path = template_path(task)
    key = hashlib.sha256(f"{task} {data}".encode()).hexdigest()[:8]
    spec = importlib.util.spec_from_file_location(f"saccade_template_{key}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Loader workers find the functions by the module's name when they are started afresh.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    vars(module)["DATA"] = data
    return module
