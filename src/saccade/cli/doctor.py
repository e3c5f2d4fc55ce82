"""`saccade doctor`: what this machine offers."""

from __future__ import annotations

from dataclasses import asdict

import typer

from saccade.cli.common import AsJson, print_json, print_table


def doctor(as_json: AsJson = False) -> None:
    """Say what this machine offers: CPU and ISA flags, memory, runtimes, noise.

    Example: saccade doctor
    """
    from saccade.environment import detect, noise_level
    from saccade.playbook.prepare import runtimes

    environment, noise, found = detect(), noise_level(), runtimes()
    if as_json:
        print_json(
            {
                "environment": environment.to_dict(),
                "noise": asdict(noise),
                "runtimes": {name: asdict(available) for name, available in found.items()},
            }
        )
        return
    document = environment.to_dict()
    document.pop("schema_version", None)
    rows = [(k.replace("_", " "), _text(v)) for k, v in document.items()]
    rows.append(("noise", f"{noise.spread_percent:.1f}% spread, {noise.steal_percent:.1f}% stolen"))
    print_table("This machine", ("", ""), rows)
    print(noise.note)
    table = [
        (
            name,
            "yes" if a.ok else "no",
            a.version,
            a.detail if a.ok else f"{a.detail}; pip install 'saccade[{a.extra}]'",
        )
        for name, a in found.items()
    ]
    print_table("Runtimes", ("runtime", "usable", "version", "offers"), table)
    print(
        "Verified on x86-64 Linux CPUs only; other systems and GPUs are not verified on hardware."
    )


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
