"""Join the parts of the device's script into the one file that a kit holds."""

from __future__ import annotations

import ast
from importlib.resources import files

# In the order in which they need one another.
PARTS = (
    "runtimes",
    "tensors",
    "trtexec",
    "gpu",
    "subject",
    "workers",
    "device",
    "session",
)
OWN = "saccade."


def script() -> str:
    """The source of ``measure.py``: imports once at the top, then every part without them."""
    folder = files("saccade.deploy.kit.script")
    sources = [(folder / f"{name}.py").read_text(encoding="utf-8") for name in PARTS]
    imports: dict[str, None] = {}
    bodies = []
    for source in sources:
        found, body = _split(source)
        imports.update(dict.fromkeys(found))
        bodies.append(body)
    doc = ast.get_docstring(ast.parse(sources[-1]), clean=False)
    future = "from __future__ import annotations"
    return "\n".join(
        [f'"""{doc}"""', "", future, "", *sorted(imports), "", "", "\n\n\n".join(bodies), ""]
    )


def _split(source: str) -> tuple[list[str], str]:
    """The imports of other packages, and what follows the head of the module."""
    tree = ast.parse(source)
    imports, start = [], 0
    for node in tree.body:
        is_doc = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if not is_doc and not isinstance(node, ast.Import | ast.ImportFrom):
            break
        start = node.end_lineno or start
        module = node.module if isinstance(node, ast.ImportFrom) else None
        if not is_doc and module != "__future__" and not (module or "").startswith(OWN):
            imports.append(ast.unparse(node))
    return imports, "\n".join(source.splitlines()[start:]).strip("\n")
