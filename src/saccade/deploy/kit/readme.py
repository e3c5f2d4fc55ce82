"""The README of a kit. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from saccade.deploy.kit.edgetpu import COMPILE_SCRIPT
from saccade.deploy.kit.edgetpu import RUNTIME as EDGETPU


def readme(document: Mapping[str, Any]) -> str:
    """What a person needs to know who holds the folder."""
    rows = "\n".join(f"- `{c['id']}`" for c in document["candidates"])
    missing = "\n".join(f"- {left['what']}: {left['reason']}" for left in document["left_out"])
    notes = "\n".join(f"- {note}" for note in document["notes"])
    return f"""# saccade kit for {document["target"]}

Copy this folder to the device and run there, with nothing else running:

    python3 measure.py

It needs Python 3.8 and NumPy, skips what the device has no runtime for, and writes
`measurements.json`. Without TensorRT's package for Python, engines are built and timed by
`trtexec`, from the PATH or from /usr/src/tensorrt/bin; `--trtexec` names another one. To build all
of them beforehand:

    ./build_tensorrt.sh

{_compiled(document)}Back on the machine with saccade:

    saccade compare --measurements measurements.json --kit THIS_FOLDER
    saccade optimize SPEC --measurements measurements.json --kit THIS_FOLDER --out RUN

What is measured is inference on {len(document["frames"])} preprocessed frames, copies to and from
the device's memory included. Decoding, preprocessing and postprocessing are not in it. Nothing in
this folder has been measured on {document["target"]}; bounds in `kit.json` are estimates.

Candidates (compared with `{document["reference"]}`):

{rows}

Know about these files:

{notes or "nothing"}

Left out:

{missing or "nothing"}
"""


def _compiled(document: Mapping[str, Any]) -> str:
    """What to do first where a file has to be compiled for an accelerator."""
    if not any(c["runtime"] == EDGETPU for c in document["candidates"]):
        return ""
    return f"""Before it is copied, on x86-64 Linux with Google's compiler (else the Edge TPU is
skipped and only its host is measured):

    ./{COMPILE_SCRIPT}

"""
