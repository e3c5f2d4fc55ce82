"""Find a target by name, or read one that the user describes in a file of their own."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from saccade.errors import SpecError
from saccade.suggest import did_you_mean
from saccade.targets.target import GPU_HERE, HERE, RuntimeRules, Target

SUFFIX = ".yaml"


def names() -> list[str]:
    """Targets that are not at hand but known, sorted."""
    return sorted(
        entry.name.removesuffix(SUFFIX)
        for entry in _folder().iterdir()
        if entry.name.endswith(SUFFIX)
    )


def check_name(name: str) -> None:
    """Refuse a target that nothing is known about.

    Raises:
        SpecError: there is none of that name (the nearest is named), or its file is wrong.
    """
    if name not in (HERE, GPU_HERE):
        read_target(name)


def is_here(name: str) -> bool:
    """Whether the target is this machine, so that it can be measured."""
    return name in (HERE, GPU_HERE)


def read_target(name: str) -> Target:
    """The target called ``name``, or the one described in the YAML file ``name``.

    Raises:
        SpecError: there is none (the nearest known one is named), or the file is no target.
    """
    if name.endswith(SUFFIX):
        return _own_target(Path(name))
    if name not in names():
        known = [HERE, GPU_HERE, *names()]
        raise SpecError(
            f"The target '{name}' is not known. {did_you_mean(name, known)}"
            f"Known: {', '.join(known)}. For another machine, give a .yaml file like those of "
            "`saccade doctor --target`."
        )
    return _packaged(name)


@cache
def _packaged(name: str) -> Target:
    return _target(name, yaml.safe_load((_folder() / f"{name}{SUFFIX}").read_text("utf-8")))


def _own_target(path: Path) -> Target:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        return _target(path.stem, document)
    except OSError as error:
        raise SpecError(
            f"The target file '{path}' cannot be read: {error.strerror}. Check the path."
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        said = " ".join(str(error).split())
        raise SpecError(f"The target file '{path}' is not valid YAML: {said[:200]}.") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise SpecError(
            f"The target file '{path}' is wrong at '{where}': {first['msg']}. "
            "`saccade doctor --target jetson-orin-nano --json` shows a complete one."
        ) from None


def _target(name: str, document: Any) -> Target:
    """Validate the document of a target.

    Raises:
        ValidationError: a field is missing or of another type.
        SpecError: a runtime names a processor that is not there, or is itself not known.
    """
    values = {**document, "name": name} if isinstance(document, dict) else document
    target = TypeAdapter(Target).validate_python(values)
    for runtime, there in target.runtimes.items():
        if there.processor not in target.processors:
            raise SpecError(
                f"The target '{name}' lets {runtime} run on '{there.processor}', which is not "
                f"among its processors: {', '.join(target.processors)}."
            )
        rules_of(runtime)
    return target


@cache
def rules_of(runtime: str) -> RuntimeRules:
    """What a runtime takes, from its documentation.

    Raises:
        SpecError: nothing is known about a runtime of that name.
    """
    path = _folder() / "runtimes" / f"{runtime}{SUFFIX}"
    if not path.is_file():
        known = [entry.name.removesuffix(SUFFIX) for entry in (_folder() / "runtimes").iterdir()]
        raise SpecError(
            f"Nothing is known about a runtime '{runtime}' on targets. "
            f"Known: {', '.join(sorted(known))}."
        )
    return TypeAdapter(RuntimeRules).validate_python(yaml.safe_load(path.read_text("utf-8")))


def _folder() -> Traversable:
    return files("saccade.targets")
