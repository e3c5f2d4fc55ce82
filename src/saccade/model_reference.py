"""What users write to name a model: a path, or a name by library or module."""

from __future__ import annotations

import re
from pathlib import Path

# "torchvision:resnet50", "package.module:factory"; one letter before the colon is a Windows drive.
_NAME = re.compile(r"^[A-Za-z_][\w.-]+:[\w./-]+$")


def is_name(reference: str) -> bool:
    """Whether a reference names a model by library or module, rather than by path."""
    if not _NAME.match(reference) or Path(reference).exists():
        return False
    return not reference.partition(":")[0].endswith(".py")
