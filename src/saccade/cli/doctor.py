"""`saccade doctor`: what this machine offers, and what could be added to it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from saccade.cli.common import AsJson, print_json, print_table

if TYPE_CHECKING:
    from saccade.runtimes.contract import Availability

Install = Annotated[
    list[str] | None,
    typer.Option("--install", help="Make this tool environment; may be given several times."),
]


def doctor(install: Install = None, as_json: AsJson = False) -> None:
    """Say what this machine offers: CPU, memory, noise, runtimes, conversions, tool environments.

    Example: saccade doctor --install litert
    """
    _install(install or [])
    from saccade.environment import detect, noise_level
    from saccade.playbook.prepare import runtimes

    environment, noise, found = detect(), noise_level(), runtimes()
    if as_json:
        print_json(
            {
                "environment": environment.to_dict(),
                "noise": asdict(noise),
                "runtimes": {name: asdict(available) for name, available in found.items()},
                "conversions": _conversions(),
                "tool_environments": _tool_environments(),
            }
        )
        return
    document = environment.to_dict()
    document.pop("schema_version", None)
    rows = [(k.replace("_", " "), _text(v)) for k, v in document.items()]
    rows.append(("noise", f"{noise.spread_percent:.1f}% spread, {noise.steal_percent:.1f}% stolen"))
    print_table("This machine", ("", ""), rows)
    print(noise.note)
    _print_tools(found)


def _print_tools(found: Mapping[str, Availability]) -> None:
    columns = ("runtime", "usable", "version", "offers", "not verified on hardware")
    rows = [
        (name, "yes" if a.ok else "no", a.version, _offer(a), a.unverified)
        for name, a in found.items()
    ]
    print_table("Runtimes", columns, rows)
    made = [
        (c["name"], f"{c['from']} to {c['to']}", "yes" if c["ok"] else "no", c["lacks"] or "")
        for c in _conversions()
    ]
    print_table("Conversions", ("conversion", "formats", "usable", "lacks"), made)
    environments = [
        (e["name"], "yes" if e["ok"] else "no", ", ".join(e["requirements"]), e["lacks"] or e["at"])
        for e in _tool_environments()
    ]
    print_table("Tool environments", ("name", "ready", "packages", "where"), environments)
    print("All else is verified on x86-64 Linux CPUs.")


def _offer(available: Availability) -> str:
    if available.ok or not available.extra:
        return available.detail
    return f"{available.detail}; pip install 'saccade[{available.extra}]'"


def _conversions() -> list[dict[str, Any]]:
    """Every conversion: name, formats, and what it lacks here."""
    from saccade import plugins

    found = []
    for name in plugins.names("conversions"):
        conversion = plugins.load("conversions", name)
        lacks = conversion.why_not()
        ends = {"from": conversion.source, "to": conversion.target}
        found.append({"name": name, **ends, "ok": lacks is None, "lacks": lacks})
    return found


def _tool_environments() -> list[dict[str, Any]]:
    """Every tool environment: name, packages, place, and what it lacks here."""
    from saccade.environments.tool_environment import known

    return [
        {
            "name": environment.name,
            "ok": environment.ready,
            "requirements": list(environment.requirements),
            "at": str(environment.folder),
            "lacks": environment.why_not(),
        }
        for environment in known()
    ]


def _install(names: list[str]) -> None:
    """Make tool environments; all names are checked before the first one is made."""
    from saccade.environments.tool_environment import named

    for environment in [named(name) for name in names]:
        environment.install(lambda line: print(line, file=sys.stderr))


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {item}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value) or "none"
    if isinstance(value, float):
        return f"{value:.0f}"
    return str(value) if value else "not known"


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(doctor)
