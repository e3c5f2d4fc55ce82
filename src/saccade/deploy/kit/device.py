"""Whether the device that measured can be the target at all. Pure but for reading the target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from saccade.targets.read import is_here, read_target

# What a machine calls itself, by the family of its instruction set.
FAMILIES = {"Arm": ("aarch64", "arm64", "armv"), "x86": ("x86_64", "amd64", "i686")}
SPELLINGS = {"Arm": ("armv", "asimd"), "x86": ("avx", "sse", "amx")}


def not_the_target(name: str, environment: Mapping[str, Any]) -> str:
    """Why the device cannot be the target; empty where nothing speaks against it.

    Only the family of the CPU's instruction set is compared: it is what every device tells.

    Args:
        name: of the target.
        environment: what the device said of itself.
    """
    processor = None if is_here(name) else read_target(name).processors.get("cpu")
    if processor is None:
        return ""
    isa = processor.isa
    said = str(environment.get("os", "")).lower()
    wanted = next((f for f, names in SPELLINGS.items() if _any_starts(isa, names)), "")
    found = next((f for f, names in FAMILIES.items() if any(n in said for n in names)), "")
    if not wanted or not found or wanted == found:
        return ""
    return f"the device that measured has an {found} CPU and {name} an {wanted} one"


def _any_starts(isa: tuple[str, ...], names: tuple[str, ...]) -> bool:
    return any(flag.startswith(name) for flag in isa for name in names)
