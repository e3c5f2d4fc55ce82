"""`saccade doctor`: what this machine offers, and what could be added to it."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from saccade import plugins
from saccade.cli.common import AsJson, print_json, print_table
from saccade.errors import SpecError
from saccade.targets.read import is_here, names, read_target, rules_of
from saccade.targets.target import Figure, Target

About = Annotated[
    str | None, typer.Option("--target", help="Say what is known of this target instead.")
]

# System and machine that saccade is tested on.
VERIFIED = ("Linux", "x86_64")

if TYPE_CHECKING:
    from saccade.runtimes.contract import Availability

Install = Annotated[
    list[str] | None,
    typer.Option("--install", help="Make this tool environment; may be given several times."),
]


def doctor(target: About = None, install: Install = None, as_json: AsJson = False) -> None:
    """Say what this machine offers: CPU, memory, noise, runtimes, conversions, tool environments.

    Example: saccade doctor --target jetson-orin-nano
    """
    if target is not None and not is_here(target):
        if install:
            raise SpecError(
                f"--install makes tool environments on this machine, and --target tells of "
                f"'{target}'. Give one of them."
            )
        describe_target(read_target(target), as_json)
        return
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
                "targets": names(),
                "conversions": _conversions(),
                "tool_environments": _tool_environments(),
                "unusable_plugins": plugins.unusable(),
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
    for reason in plugins.unusable():
        print(reason)
    print(f"Other targets (estimates and kits): {', '.join(names())}. See --target NAME.")
    print(verified(platform.system(), platform.machine()))


def verified(system: str, machine: str) -> str:
    """What was tried of all that has no remark of its own. Pure.

    Args:
        system: of `platform.system`.
        machine: of `platform.machine`.
    """
    if (system, machine) == VERIFIED:
        return "All else is verified on x86-64 Linux CPUs."
    return (
        f"saccade was verified on x86-64 Linux CPUs only. This is {system} on {machine}, where "
        "nothing of the above was."
    )


def _offer(available: Availability) -> str:
    if available.ok or not available.extra:
        return available.detail
    return f"{available.detail}; pip install 'saccade[{available.extra}]'"


def _conversions() -> list[dict[str, Any]]:
    """Every conversion: name, formats, and what it lacks here."""
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


def describe_target(target: Target, as_json: bool) -> None:
    """Every figure with its source, the runtimes there and their limits."""
    if as_json:
        rules = {name: asdict(rules_of(name)) for name in target.runtimes}
        for entry in rules.values():
            entry |= {key: sorted(v) for key, v in entry.items() if isinstance(v, frozenset)}
        print_json({"target": asdict(target), "runtimes": rules, "verified_on_hardware": False})
        return
    rows = [("memory", *_figure(target.memory_mb, "MB"))]
    for name, processor in target.processors.items():
        rows.append((name, processor.model, ", ".join(processor.isa)))
        rows += [
            (f"{name} {precision} peak", *_figure(figure, "GOP/s"))
            for precision, figure in processor.peak_gops.items()
        ]
        rows.append((f"{name} bandwidth", *_figure(processor.bandwidth_gbs, "GB/s")))
        rows.append((f"{name} on-chip memory", *_figure(processor.cache_mb, "MB")))
    print_table(target.title, ("", "", "source"), rows)
    runtimes = [
        (rules_of(name).title, there.processor, ", ".join(there.precisions), there.note)
        for name, there in target.runtimes.items()
    ]
    print_table("Runtimes", ("runtime", "on", "precisions", "note"), runtimes)
    print_table("Refused", ("", ""), list(target.refused_precisions.items()))
    print_table("Constraints", ("",), [(text,) for text in target.constraints])
    print("From documents, not verified on hardware; what follows from it is an estimate.")


def _figure(figure: Figure, unit: str) -> tuple[str, str]:
    source = f"derived: {figure.derived}; {figure.source}" if figure.derived else figure.source
    return f"{figure.value:g} {unit}", source


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
