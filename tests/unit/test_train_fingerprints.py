"""What a job is: its file, and the modules of its folder that it imports."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest

from saccade.errors import SpecError
from saccade.train.job import open_job, refer
from saccade.train.jobs.local_modules import imported_names, local_modules, module_source
from saccade.train.run_file import check_job_unchanged

JOB = """
import importlib
import torch
from layered_nets import blocks
def model():
    from shapes.round import circle
    return blocks.net()
def dataset(split): return importlib.import_module("pictures").all_of(split)
def loss(output, target): return (output - target).mean()
def optimizer(model): return torch.optim.SGD(model.parameters(), 0.01)
"""
FILES = {
    "job.py": JOB,
    "layered_nets/__init__.py": "",
    "layered_nets/blocks.py": (
        "from . import layers\nfrom .layers import conv\ndef net(): return conv()\n"
    ),
    "layered_nets/layers.py": "import torch\ndef conv(): return torch.nn.Conv2d(3, 4, 3)\n",
    # A folder without __init__.py is a package as well.
    "shapes/round.py": "from constants import PI\ncircle = PI\n",
    "constants.py": "PI = 3\n",
    "pictures.py": "def all_of(split): return [(1.0, 2.0)]\n",
    "unused.py": "SIDE = 3\n",
    "broken_syntax.py": "def (",
    "site-packages/installed.py": "",
}
IMPORTED = [
    "constants.py",
    "layered_nets/__init__.py",
    "layered_nets/blocks.py",
    "layered_nets/layers.py",
    "pictures.py",
    "shapes/round.py",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        place = tmp_path / name
        place.parent.mkdir(exist_ok=True)
        place.write_text(text)
    return tmp_path


def test_modules_are_found_however_they_are_imported(folder: Path) -> None:
    found = local_modules(folder / "job.py", folder)
    assert [path.relative_to(folder).as_posix() for path in found] == IMPORTED


@pytest.mark.parametrize("name", IMPORTED)
def test_a_module_that_changes_makes_it_another_job(folder: Path, name: str) -> None:
    reference = refer(str(folder / "job.py"))
    check_job_unchanged(reference)
    (folder / name).write_text(FILES[name] + "# changed\n")
    assert refer(str(folder / "job.py")).sha256 != reference.sha256
    with pytest.raises(SpecError, match="was changed since this run began"):
        check_job_unchanged(reference)


def test_what_it_does_not_import_is_another_matter(folder: Path) -> None:
    before = refer(str(folder / "job.py")).sha256
    (folder / "unused.py").write_text("SIDE = 4\n")
    assert refer(str(folder / "job.py")).sha256 == before


def test_it_is_the_same_wherever_it_lies_and_once_it_was_imported(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = refer(str(folder / "job.py"))
    moved = tmp_path_factory.mktemp("elsewhere") / "moved"
    folder.rename(moved)
    monkeypatch.setattr(sys, "path", list(sys.path))
    reference = refer(str(moved / "job.py"))
    assert reference.sha256 == before.sha256
    assert open_job(reference).dataset("train") == [(1.0, 2.0)]
    assert refer(str(moved / "job.py")).sha256 == before.sha256
    monkeypatch.chdir(moved)
    assert refer("job.py").sha256 == before.sha256


def test_a_link_to_a_job_has_its_modules(folder: Path) -> None:
    (folder / "links").mkdir()
    (folder / "links" / "linked.py").symlink_to(folder / "job.py")
    assert refer(str(folder / "links" / "linked.py")).sha256 == refer(str(folder / "job.py")).sha256


def test_a_job_of_one_file_has_the_hash_of_that(tmp_path: Path) -> None:
    """Runs that were begun before modules counted go on."""
    (tmp_path / "job.py").write_text("import torch\nimport os.path\n")
    expected = hashlib.sha256((tmp_path / "job.py").read_bytes()).hexdigest()
    assert refer(str(tmp_path / "job.py")).sha256 == expected


def test_modules_that_import_each_other_end(tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text("import a\n")
    (tmp_path / "a.py").write_text("import b, job\n")
    (tmp_path / "b.py").write_text("import a\nimport broken_syntax\nfrom ... import beyond\n")
    (tmp_path / "broken_syntax.py").write_text("def (")
    found = local_modules(tmp_path / "job.py", tmp_path)
    assert [path.name for path in found] == ["a.py", "b.py", "broken_syntax.py"]


def test_what_is_installed_is_no_part_of_a_job(folder: Path) -> None:
    installed = folder / "site-packages"
    (installed / "package.py").write_text("import installed\n")
    assert local_modules(installed / "package.py", installed) == []


def test_names_are_read_as_they_are_written() -> None:
    source = b"import a.b as c\nfrom .d import e\nfrom .. import f\n__import__('g')\nh(i)\n"
    assert set(imported_names(source, "x.y")) == {"a.b", "x.y.d", "x.y.d.e", "x", "x.f", "g"}


LIGHTNING = "from {where} import side\nclass Net: pass\nclass Data: pass\n"


def test_modules_of_a_lightning_job_count(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "project").mkdir()
    (folder / "project" / "__init__.py").write_text("")
    (folder / "project" / "sizes.py").write_text("side = 3\n")
    (folder / "project" / "training.py").write_text(LIGHTNING.format(where=".sizes"))
    (folder / "beside.py").write_text(LIGHTNING.format(where="project.sizes"))
    monkeypatch.syspath_prepend(str(folder))
    names = ["project.training:Net,Data", f"{folder / 'beside.py'}:Net,Data"]
    before = [refer(name) for name in names]
    assert {reference.kind for reference in before} == {"lightning"}
    (folder / "project" / "sizes.py").write_text("side = 4\n")
    for name, reference in zip(names, before, strict=True):
        assert refer(name).sha256 != reference.sha256
        with pytest.raises(SpecError, match="was changed"):
            check_job_unchanged(reference)
    for name in ("project", "project.training"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("dotted", [False, True])
def test_modules_of_a_factory_count(
    folder: Path, monkeypatch: pytest.MonkeyPatch, dotted: bool
) -> None:
    monkeypatch.syspath_prepend(str(folder))
    (folder / "made_nets.py").write_text("import constants\ndef net(): ...\n")
    name = "made_nets:net" if dotted else f"{folder / 'made_nets.py'}:net"
    settings = {"task": "classification", "data": str(folder)}
    before = refer(name, settings)
    assert before.kind == "module"
    (folder / "constants.py").write_text("PI = 4\n")
    assert refer(name, settings).sha256 != before.sha256


def test_a_module_that_is_nowhere_or_no_python_has_no_source() -> None:
    assert module_source("no.such.module") is None
    assert module_source("sys") is None
    found = module_source("saccade.train.job")
    assert found is not None and found[0] == found[1] / "saccade" / "train" / "job.py"
