"""The exact `trtexec` commands that build every engine of a kit on the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from saccade.deploy.exports.onnx_fixed import CALIBRATION_CACHE
from saccade.deploy.kit.record import KitCandidate
from saccade.deploy.kit.script.trtexec import USUAL_PLACE, WORKSPACE_MIB

# Smallest and largest side of a dynamic engine, as a share of the size in use, in steps of 32.
SMALLEST, LARGEST, STEP = 0.5, 1.0, 32


def build_script(
    candidates: Sequence[KitCandidate],
    files: Mapping[str, Any],
    dynamic_input: str | None,
    input_hw: tuple[int, int],
) -> str:
    """A shell script; not verified on hardware by saccade.

    Args:
        candidates: those in TensorRT become a command each.
        files: the kit's files by export.
        dynamic_input: name of the input of a model of any size, None where it is fixed.
        input_hw: the size in use.
    """
    commands = [
        build_command(c, files[c.file]["paths"][0]) for c in candidates if c.runtime == "tensorrt"
    ]
    if dynamic_input is not None:
        commands.append(dynamic_command(files["onnx"]["paths"][0], dynamic_input, input_hw))
    parts = [_HEAD, _calibration(candidates), "\n\n".join(commands), ""]
    return "\n".join(part for part in parts if part is not None)


def build_command(candidate: KitCandidate, model: str) -> str:
    """One engine: precision, timing cache, calibration cache where it has one."""
    flags = " ".join(flag.replace("{kit}", "$KIT") for flag in candidate.flags)
    engine = f"$KIT/engines/{candidate.id.replace('@', '-at-')}.engine"
    return (
        f"# {candidate.id}\n"
        f'[ -f "{engine}" ] || "$TRTEXEC" --onnx="$KIT/{model}" {flags} '
        f'--timingCacheFile="$KIT/engines/timing.cache" $ONLY --saveEngine="{engine}" '
        f'|| echo "{candidate.id}: no engine" >&2'
    )


def dynamic_command(model: str, name: str, input_hw: tuple[int, int]) -> str:
    """An engine for a range of sizes, for frames that vary; measure.py does not time it."""
    low, best, high = (_shape(name, input_hw, share) for share in (SMALLEST, 1.0, LARGEST))
    return (
        "# Any size between the two, in fp16; not among the candidates.\n"
        f'"$TRTEXEC" --onnx="$KIT/{model}" --fp16 --minShapes={low} --optShapes={best} '
        f'--maxShapes={high} --timingCacheFile="$KIT/engines/timing.cache" $ONLY '
        '--saveEngine="$KIT/engines/dynamic-fp16.engine" || echo "no dynamic engine" >&2'
    )


def _shape(name: str, input_hw: tuple[int, int], share: float) -> str:
    height, width = (max(STEP, round(side * share / STEP) * STEP) for side in input_hw)
    return f"{name}:1x3x{height}x{width}"


def _calibration(candidates: Sequence[KitCandidate]) -> str | None:
    if not any(CALIBRATION_CACHE in flag for c in candidates for flag in c.flags):
        return None
    return f"""# A calibration cache is taken only if it names this TensorRT's version.
VERSION=$(echo "$HELP" | sed -n 's/.*TensorRT v\\([0-9]*\\).*/\\1/p' | head -n 1)
[ -z "$VERSION" ] || sed -i "1s/TRT-[0-9]*-/TRT-$VERSION-/" "$KIT/{CALIBRATION_CACHE}"
"""


_HEAD = f"""#!/bin/sh
# Builds the kit's TensorRT engines on this device. Not verified on hardware by saccade.
set -eu
KIT=$(cd "$(dirname "$0")" && pwd)
TRTEXEC=${{TRTEXEC:-$(command -v trtexec || echo {USUAL_PLACE})}}
if ! command -v "$TRTEXEC" >/dev/null; then
  echo "There is no trtexec at $TRTEXEC. Install TensorRT, or set TRTEXEC to its path." >&2
  exit 2
fi
# TensorRT 8.5 and older build without measuring by another option, and those before 8.4 take
# 16 MB for kernels if not told otherwise.
HELP=$("$TRTEXEC" --help 2>&1 || true)
case "$HELP" in
  *--skipInference*) ONLY=--skipInference ;;
  *--buildOnly*) ONLY=--buildOnly ;;
  *) ONLY=--skipInference ;;
esac
case "$HELP" in
  *--memPoolSize*) ;;
  *--workspace*) ONLY="$ONLY --workspace={WORKSPACE_MIB}" ;;
esac
mkdir -p "$KIT/engines"
"""
