"""Run one script's ``work`` on a JSON document: ``run.py SCRIPT ANSWER``, the document on stdin.

What libraries print stays on stdout and stderr; the answer goes into a file of its own.
"""

from __future__ import annotations

import json
import runpy
import sys
import traceback
from pathlib import Path
from typing import Any


def main() -> None:
    """Write ``{"value": …}``, or ``{"error": …}`` with the type and the text of what was raised."""
    script, target = sys.argv[1:3]
    answer: dict[str, Any]
    try:
        answer = {"value": runpy.run_path(script)["work"](json.load(sys.stdin))}
    except Exception as error:
        traceback.print_exc()
        answer = {"error": {"type": type(error).__name__, "text": str(error)}}
    Path(target).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main()
