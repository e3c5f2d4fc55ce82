"""What users write to name a model: a path, a name by library or module, or both in one."""

from __future__ import annotations

import re
from pathlib import Path

# "torchvision:resnet50", "package.module:factory"; one letter before the colon is a Windows drive.
_NAME = re.compile(r"^[A-Za-z_][\w.-]+:[\w./-]+$")
# "ultralytics:best.pt", a library with a file of its own.
_FILE_OF = re.compile(r"^([A-Za-z_]\w+:)(.+\.pt)$")
# "nets.py:make", a function in a file.
_IN_FILE = re.compile(r"^(.+\.py)(:\w+)$")
# "yolo11n", which a file beside or a library may be called.
_WORD = re.compile(r"^[A-Za-z_][\w-]*$")
# Endings of the file that a word may stand for, the first that is there.
_ENDINGS = (".onnx", ".pt2", ".pt")


def path_in(reference: str) -> tuple[str, str, str]:
    """What stands before the path in a reference, the path, and what stands behind it.

    The three together are the reference. In one that only names a model, the path is empty.
    """
    if Path(reference).exists():
        return "", reference, ""
    if found := _IN_FILE.match(reference):
        return "", found[1], found[2]
    if found := _FILE_OF.match(reference):
        return found[1], found[2], ""
    return (reference, "", "") if _NAME.match(reference) else ("", reference, "")


def is_word(reference: str) -> bool:
    """Whether it is a name that says neither where the model is nor which library has it."""
    return _WORD.match(reference) is not None


def file_of_word(word: str, folder: Path) -> str:
    """The model file of that name in a folder; the word itself where there is none."""
    files = (folder / f"{word}{ending}" for ending in ("", *_ENDINGS))
    return next((str(file) for file in files if file.is_file()), word)
