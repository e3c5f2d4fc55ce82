"""The Typer application: the table of verbs, and how errors become exit codes."""

from __future__ import annotations

import errno
import importlib
import os
import sys
import traceback
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path

import typer

from saccade.errors import EXIT_ERROR, EXIT_INCONCLUSIVE, EXIT_INPUT, SaccadeError
from saccade.stream_address import without_password
from saccade.study import RunFolder

VERBS = (
    "optimize",
    "baseline",
    "profile",
    "diagnose",
    "plan",
    "validate",
    "compare",
    "export",
    "run",
    "report",
    "rollback",
    "doctor",
    "init",
    "demo",
    "train",
)

# Options that take more than one value.
MANY = frozenset(("--candidates", "--students"))

# What Typer turns Ctrl-C into.
_INTERRUPTED = 130

app = typer.Typer(
    help="Make a computer-vision system meet its goals on its target hardware, by measurement.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@app.callback()
def _saccade() -> None:
    """Make a computer-vision system meet its goals on its target hardware, by measurement."""


for _verb in VERBS:
    importlib.import_module(f"saccade.cli.{_verb}").register(app)


def run() -> None:
    """Run the command; every way it can end has its exit code."""
    try:
        code = app(args=spread(sys.argv[1:], MANY), standalone_mode=False)
        sys.exit(_interrupted() if code == _INTERRUPTED else code if isinstance(code, int) else 0)
    except typer.Exit as done:
        sys.exit(done.exit_code)
    except typer.Abort:
        sys.exit(EXIT_INPUT)
    except SaccadeError as error:
        say(str(error))
        record_traceback()
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(_interrupted())
    except Exception as error:
        sys.exit(_unexpected(error))


def spread(arguments: Sequence[str], options: Collection[str]) -> list[str]:
    """Repeat an option that takes several values before each of them, as Typer wants it.

    What follows such an option belongs to it up to the next option, so a spec file goes first.
    """
    found: list[str] = []
    many, empty = "", []
    for index, argument in enumerate(arguments):
        if not argument.startswith("-"):
            found += [many, argument] if many else [argument]
            continue
        name, given, _ = argument.partition("=")
        many = name if name in options else ""
        if not many or given:
            found.append(argument)
        elif all(after.startswith("-") for after in arguments[index + 1 : index + 2]):
            empty.append(many)
    # At the end, where Typer says that a value is missing: it would take the next option for one.
    return [*found, *empty[:1]]


def _interrupted() -> int:
    folder = _run_folder()
    if folder is not None and RunFolder.holds_run(folder):
        say("Interrupted. What was measured is kept; run the same command again to resume.")
    else:
        say("Interrupted.")
    return EXIT_INCONCLUSIVE


def _unexpected(error: Exception) -> int:
    """Usage errors are input errors; the rest is a bug or the system's doing."""
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):
        _say_usage(error)
        return EXIT_INPUT
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f" ('{error.filename}' could not be written)" if error.filename else ""
        say(f"The disk is full{where}. Free some space and run the same command again.")
    else:
        say(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
    record_traceback()
    return EXIT_ERROR


def _say_usage(error: Exception) -> None:
    context = getattr(error, "ctx", None)
    message = error.format_message().rstrip(".")  # type: ignore[attr-defined]
    if message:  # a command without arguments has shown its help and says no more
        say(f"{message}. See `{context.command_path if context else 'saccade'} --help`.")


def say(message: str) -> None:
    """One line on stderr."""
    print(f"saccade: {' '.join(message.split())}", file=sys.stderr)


def record_traceback() -> None:
    """Append the current traceback to ``error.log`` in the run folder, where there is one."""
    folder = _run_folder()
    if folder is None or not RunFolder.holds_run(folder):
        return
    try:
        with (folder / "error.log").open("a", encoding="utf-8") as file:
            said = [without_password(argument) for argument in sys.argv[1:]]
            file.write(f"--- {datetime.now(UTC).isoformat(timespec='seconds')} {said}\n")
            file.write(traceback.format_exc() + "\n")
    except OSError:
        return  # a full disk must not hide the message that is already on the screen


def _run_folder() -> Path | None:
    """The run folder of this command, which the verbs leave in the environment."""
    name = os.environ.get("SACCADE_RUN_FOLDER")
    return Path(name) if name else None
