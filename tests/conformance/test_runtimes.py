"""Every runtime keeps the contract; the fake one does too, and fails as it is told."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from saccade import plugins
from saccade.errors import RuntimeFailure
from saccade.models.files import model_file
from saccade.pipeline.config import RuntimeOptions
from saccade.runtimes.contract import Runtime, SessionRequest
from saccade.testing import fake_runtime
from saccade.testing.runtime_conformance import (
    CHECKS,
    HW,
    Check,
    a_missing_package_is_named,
    tensor,
)
from saccade.testing.tiny_models import tiny_detector

FAKE = "saccade.testing.fake_runtime:FakeRuntime"


def runtime_of(name: str) -> type[Runtime]:
    runtime: type[Runtime] = plugins.load("runtimes", name)
    if not runtime.availability().ok:
        pytest.skip(f"{name} is {runtime.availability().detail}")
    return runtime


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", [*plugins.names("runtimes"), FAKE])
def test_the_contract_is_kept(name: str, check: Check, tmp_path: Path) -> None:
    check(runtime_of(name), tmp_path)


# ONNX Runtime comes with saccade itself: there is no extra to name.
@pytest.mark.parametrize("name", [n for n in plugins.names("runtimes") if n != "onnxruntime"])
def test_a_missing_package_is_named(name: str, tmp_path: Path) -> None:
    a_missing_package_is_named(runtime_of(name), tmp_path)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_suite_notices_a_broken_runtime(check: Check, tmp_path: Path) -> None:
    """A suite that nothing can fail would say nothing: this runtime breaks every rule."""
    with pytest.raises(AssertionError):
        check(Broken, tmp_path)


def request_of(folder: Path) -> SessionRequest:
    path = folder / "tiny.onnx"
    path.write_bytes(tiny_detector().SerializeToString())
    return SessionRequest(model_file(path), HW, RuntimeOptions(), "images")


def test_the_refusing_runtime_refuses(tmp_path: Path) -> None:
    with pytest.raises(RuntimeFailure, match="refuses"):
        fake_runtime.RefusingRuntime.open(request_of(tmp_path))


def test_the_failing_runtime_fails_late(tmp_path: Path) -> None:
    session = fake_runtime.FailingRuntime.open(request_of(tmp_path))
    session.infer(tensor(0))
    session.infer(tensor(0))
    with pytest.raises(RuntimeFailure, match="told to"):
        session.infer(tensor(0))


def test_the_garbage_runtime_gives_nan(tmp_path: Path) -> None:
    (output,) = fake_runtime.GarbageRuntime.open(request_of(tmp_path)).infer(tensor(0))
    assert np.isnan(output).all()
    assert output.shape == (1, 6, math.prod(HW) // 64)


class _Session(fake_runtime.FakeSession):
    """Wrong answers, no bound, no refusal, and tickets that are mixed up."""

    def infer(self, tensor):  # type: ignore[no-untyped-def]
        return [np.zeros((1, 6, 1), np.float64)]

    def submit(self, tensor):  # type: ignore[no-untyped-def]
        return fake_runtime.Ticket(self.infer(tensor))

    def release(self, ticket):  # type: ignore[no-untyped-def]
        pass

    def operators(self):  # type: ignore[no-untyped-def]
        return []


class Broken(fake_runtime.FakeRuntime):
    name = ""

    @classmethod
    def open(cls, request):  # type: ignore[no-untyped-def]
        if "garbage" in request.model.path:
            raise ValueError("not a RuntimeFailure")
        return _Session(request)
