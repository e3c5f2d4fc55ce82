"""What a kit for an Edge TPU holds beside its model: the compiler's command, and what to expect.

Not verified on hardware; the compiler itself only runs on x86-64 Linux and is not at hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from saccade.deploy.kit.record import KitCandidate
from saccade.optimize.litert_calibrated import float_operators
from saccade.targets.read import rules_of
from saccade.targets.target import Processor

RUNTIME = "edgetpu"
COMPILE_SCRIPT = "compile_edgetpu.sh"


def compile_script(candidates: Sequence[KitCandidate], files: Mapping[str, Any]) -> str:
    """A shell script with one command for every file that runs on the Edge TPU.

    Args:
        candidates: of the kit.
        files: the kit's files by export.
    """
    names = sorted({c.file for c in candidates if c.runtime == RUNTIME})
    commands = [
        f'edgetpu_compiler --show_operations --out_dir "$KIT/models" "$KIT/{path}"'
        for path in (files[name]["paths"][0] for name in names)
    ]
    return "\n".join([_HEAD, *commands, ""])


def edgetpu_notes(model: Path, processor: Processor) -> tuple[str, ...]:
    """What the compiler will make of a ``.tflite`` file, by documents: sentences for people."""
    return (_operators(model), _size(model, processor))


def _operators(model: Path) -> str:
    """The compiler maps what comes before the first operator outside its list."""
    floats = float_operators(model)
    if floats:
        return (
            f"{len(floats)} operators still read floats ({', '.join(sorted(set(floats)))}); the "
            "compiler leaves them to the host's CPU"
        )
    kinds = operators(model)
    listed = rules_of(RUNTIME).only_tflite
    outside = next((i for i, kind in enumerate(kinds) if kind not in listed), None)
    if outside is None:
        return f"all {len(kinds)} operators are on Coral's list"
    return (
        f"{outside} of {len(kinds)} operators come before {kinds[outside]}, the first that is not "
        "on Coral's list; the compiler leaves the others to the host's CPU"
    )


def operators(model: Path) -> list[str]:
    """Kinds of a ``.tflite`` file's operators, in the order of execution."""
    from ai_edge_litert.interpreter import Interpreter

    # Before tensors are allocated the graph is as the file has it, without XNNPACK's part.
    return [str(op["op_name"]) for op in Interpreter(str(model))._get_ops_details()]


def _size(model: Path, processor: Processor) -> str:
    size_mb, on_chip_mb = model.stat().st_size / 1e6, processor.cache_mb.value
    if size_mb < on_chip_mb:
        fate = "its weights can stay there if the executable leaves them the room"
    else:
        fate = "what does not fit is sent over the bus with every inference"
    return (
        f"the file has {size_mb:.1f} MB and about {on_chip_mb:g} MB are on the chip: {fate} "
        "(the compiler prints how much stays)"
    )


_HEAD = """#!/bin/sh
# Compiles the kit's models for the Edge TPU, on x86-64 Linux, before the kit is copied to its host.
# Google's compiler: https://coral.ai/docs/edgetpu/compiler. Not verified on hardware by saccade.
set -eu
KIT=$(cd "$(dirname "$0")" && pwd)
command -v edgetpu_compiler >/dev/null || { echo "edgetpu_compiler is not installed" >&2; exit 1; }
"""
