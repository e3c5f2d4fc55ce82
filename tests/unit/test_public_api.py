"""The public surface is frozen: whoever changes it changes this file, and knows it."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from types import ModuleType

import pytest

import saccade
from saccade import errors
from saccade.errors import SpecError

SURFACE = {
    "Bundle",
    "Environment",
    "Pipeline",
    "PipelineConfig",
    "SaccadeError",
    "Spec",
    "Study",
    "Trial",
    "load",
    "optimize",
    "profile",
}
EXIT_CODES = {
    "SaccadeError": 1,
    "InputError": 2,
    "SpecError": 2,
    "GoalError": 2,
    "DataError": 2,
    "ModelError": 2,
    "BundleError": 2,
    "MissingEnvironmentError": 2,
    "MissingExtraError": 2,
    "RuntimeFailure": 1,
    "WorkerFailure": 1,
    "ChangeFailure": 1,
    "ChangeRefused": 1,
    "NonFiniteLoss": 1,
    "OutOfMemory": 1,
    "StorageError": 1,
}


def test_the_surface_is_what_it_was() -> None:
    assert set(saccade.__all__) == SURFACE
    assert list(saccade.__all__) == sorted(saccade.__all__)
    assert set(dir(saccade)) == SURFACE | {"__version__"}


@pytest.mark.parametrize("name", sorted(SURFACE))
def test_every_name_is_there_and_documented(name: str) -> None:
    assert inspect.getdoc(getattr(saccade, name))


def test_star_import_gives_the_surface() -> None:
    found: dict[str, object] = {}
    exec("from saccade import *", found)
    assert set(found) - {"__builtins__"} == SURFACE


def test_other_names_are_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'optimise'"):
        saccade.optimise  # noqa: B018


@pytest.mark.parametrize("name", ["optimize", "profile"])
def test_verbs_are_packages_that_can_be_called(name: str) -> None:
    package = getattr(saccade, name)
    assert isinstance(package, ModuleType)
    assert callable(package)
    assert package is importlib.import_module(f"saccade.{name}")
    assert Path(next(iter(package.__path__))).is_dir()
    signature = inspect.signature(package)
    assert list(signature.parameters) == ["spec", "out", "settings"]


@pytest.mark.parametrize("name", ["optimize", "profile"])
def test_verbs_take_the_fields_of_a_spec(name: str, tmp_path: Path) -> None:
    """The call reaches the spec, which names what was meant."""
    with pytest.raises(SpecError, match="model"):
        getattr(saccade, name)(modle="yolo11n.onnx", out=tmp_path / "run")
    spec = saccade.Spec(model="m.onnx")
    with pytest.raises(SpecError, match=r"settings beside it .budget.* ignored"):
        getattr(saccade, name)(spec, budget="10m", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_errors_and_their_exit_codes() -> None:
    found = {
        name: kind.exit_code
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.SaccadeError)
    }
    assert found == EXIT_CODES
    assert set(EXIT_CODES) == {
        word for word in (errors.__doc__ or "").replace("└──", " ").split() if word in found
    }


def test_a_missing_extra_says_how_to_install_it() -> None:
    error = errors.MissingExtraError("openvino", "openvino", "The OpenVINO runtime")
    assert "pip install 'saccade[openvino]'" in str(error)
