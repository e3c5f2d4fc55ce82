"""`import saccade` stays light, and dependencies point one way."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import saccade

ROOT = Path(saccade.__file__).parent
HEAVY = {
    "torch", "onnxruntime", "openvino", "nncf", "onnx", "cv2", "av", "pycocotools", "optuna",
    "scipy", "matplotlib", "PIL",
}  # fmt: skip

# What a package may import at module level: packages of its own layer and of those above it in
# this list. `plugins` is a table of names, so that using it is not an import of what it names.
LAYERS = (
    ("duration", "label_settings", "model_reference", "scratch", "stream_address"),
    (
        "errors", "plugins", "measurement", "statistics", "goals", "targets", "spec", "progress",
        "spec_problems", "study", "suggest", "system_settings", "user_cache", "environments",
        "prediction", "looks", "process_memory",
    ),
    ("models", "data", "tasks", "runtimes", "pipeline", "environment"),
    ("train",),
    ("profile",),
    ("diagnose", "estimate"),
    ("optimize",),
    ("validate",),
    ("deploy", "report", "serve", "monitor"),
    ("playbook",),
    ("testing", "cli", "__init__", "__main__"),
)  # fmt: skip
LEVEL = {package: level for level, layer in enumerate(LAYERS) for package in layer}

# Imports against the direction, inside a function, each with a reason to be there.
ALLOWED_LATER = {
    ("runtimes", "profile"),  # a runtime reads its own profile with the profile's parsers
    ("optimize", "playbook"),  # `saccade.optimize(...)` is the playbook
    ("profile", "playbook"),  # `saccade.profile(...)` is its first steps
    ("train", "optimize"),  # a batch that may not fit is tried in a worker process
    ("study", "report"),  # `study.report()` writes the report
}


def imported_by(code: str) -> set[str]:
    """Top-level names of the modules that ``code`` imports in a fresh interpreter."""
    program = (
        "import sys, json; before = set(sys.modules)\n"
        f"{code}\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in set(sys.modules) - before})))"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(json.loads(said.stdout.splitlines()[-1]))


def test_importing_saccade_imports_nothing_else() -> None:
    found = imported_by("import saccade")
    assert found - set(sys.stdlib_module_names) == {"saccade"}


@pytest.mark.parametrize("name", ["PipelineConfig", "Spec", "Study", "Environment", "profile"])
def test_looking_at_values_loads_no_runtime(name: str) -> None:
    heavy = HEAVY - {"cv2", "av"}
    assert not imported_by(f"import saccade; saccade.{name}") & heavy


def test_the_pipeline_loads_the_runtime_it_uses_and_no_other() -> None:
    assert not imported_by("import saccade; saccade.Pipeline") & (HEAVY - {"cv2", "av"})


def test_help_loads_nothing_heavy() -> None:
    found = imported_by("import saccade.cli.app")
    assert not found & HEAVY


@cache
def modules() -> dict[str, ast.Module]:
    """Module name → its syntax tree."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = ("saccade", *path.relative_to(ROOT).with_suffix("").parts)
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def package_of(module: str) -> str:
    return [*module.split("."), "__init__"][1]


def imports_in(tree: ast.AST, *, later: bool) -> Iterator[str]:
    """saccade modules that a module imports when it is imported, or ``later`` in functions."""
    for node in ast.iter_child_nodes(tree):
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if not later:
            yield from named(node)
        elif inside:
            for child in ast.walk(node):
                yield from named(child)
        if not inside:
            yield from imports_in(node, later=later)


def named(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (a.name for a in node.names if a.name.partition(".")[0] == "saccade")
    elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "saccade":
        assert node.module is not None
        inner = [f"{node.module}.{a.name}" for a in node.names]
        yield from (name if name in modules() else node.module for name in inner)


def crossings(*, later: bool) -> set[tuple[str, str, str, str]]:
    """Imports against the direction: package, package it imports, and both modules."""
    found = set()
    for module, tree in modules().items():
        for target in imports_in(tree, later=later):
            a, b = package_of(module), package_of(target)
            if LEVEL[b] > LEVEL[a]:
                found.add((a, b, module, target))
    return found


def test_every_package_has_a_layer() -> None:
    assert {package_of(module) for module in modules()} <= set(LEVEL)


def test_dependencies_point_one_way() -> None:
    assert crossings(later=False) == set()


def test_the_few_imports_against_the_direction_are_late_and_known() -> None:
    assert {(a, b) for a, b, *_ in crossings(later=True)} <= ALLOWED_LATER


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    graph = {
        module: {name for name in imports_in(tree, later=False) if name != module}
        for module, tree in modules().items()
    }
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " → ".join((*path[path.index(module) :], module))
        if module in done:
            return
        for target in graph.get(module, ()):
            visit(target, (*path, module))
        done.add(module)

    for module in graph:
        visit(module, ())


def test_what_the_checks_see_is_really_there() -> None:
    """Guards the reading of the sources: known imports of both kinds are found."""
    now = set(imports_in(modules()["saccade.pipeline.engine"], later=False))
    assert "saccade.runtimes.contract" in now
    later = set(imports_in(modules()["saccade.runtimes.openvino"], later=True))
    assert "saccade.profile.operators" in later
