"""OpenVINO's hints, and the cache of models that it compiled."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from saccade.errors import RuntimeFailure
from saccade.models.files import model_file
from saccade.pipeline.config import RuntimeOptions
from saccade.runtimes import model_cache, openvino
from saccade.runtimes.contract import SessionRequest
from saccade.runtimes.openvino import OpenVino, OpenVinoSession
from saccade.testing.runtime_conformance import HW, tensor
from saccade.testing.tiny_models import reference, write_tiny
from saccade.user_cache import trim

ov = pytest.importorskip("openvino")


def opened(folder: Path, options: RuntimeOptions | None = None) -> OpenVinoSession:
    model = model_file(write_tiny("onnx", folder, None))
    request = SessionRequest(model, HW, options or RuntimeOptions(), "images")
    session = OpenVino.open(request)
    assert isinstance(session, OpenVinoSession)
    return session


def loaded(session: OpenVinoSession) -> bool:
    return bool(session._compiled.get_property("LOADED_FROM_CACHE"))


def right(session: OpenVinoSession, seed: int = 1) -> bool:
    return np.allclose(session.infer(tensor(seed))[0], reference(tensor(seed)), atol=1e-3)


# Closed in the order in which they were opened, which is what pools and studies do.
TWO_SESSIONS = """
import gc, os, signal, sys
from pathlib import Path
from test_openvino import opened
sessions = [opened(Path(folder)) for folder in sys.argv[1:]]
while sessions:
    sessions.pop(0).close()
    gc.collect()
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("an exception")
"""


def test_after_two_sessions_ctrl_c_is_an_exception_and_no_crash(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sys.path))}
    command = [sys.executable, "-c", TWO_SESSIONS, *map(str, folders)]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, preexec_fn=_listening
    )
    assert (done.returncode, done.stdout) == (0, "an exception\n"), done.stderr


def _listening() -> None:
    """A shell's background jobs are told to ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Hints


@pytest.mark.parametrize(
    ("options", "hint", "streams"),
    [
        (RuntimeOptions(hint="latency", in_flight=4), "LATENCY", 1),
        (RuntimeOptions(hint="throughput", threads=2, in_flight=4), "THROUGHPUT", None),
        (RuntimeOptions(hint="throughput", threads=2), "LATENCY", 1),
        (RuntimeOptions(streams=2, threads=2, in_flight=4), None, 2),
    ],
    ids=["latency", "throughput", "one at a time", "explicit"],
)
def test_a_hint_takes_the_place_of_the_streams(
    options: RuntimeOptions, hint: str | None, streams: int | None, tmp_path: Path
) -> None:
    session = opened(tmp_path, options)
    compiled = session._compiled
    if hint is not None:
        assert str(compiled.get_property("PERFORMANCE_HINT")) == hint
    if streams is not None:
        assert compiled.get_property("NUM_STREAMS") == streams
    assert right(session)
    session.close()


def test_with_the_throughput_hint_no_stream_stands_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino, "_compiled", lambda *_: Wide())
    asked = RuntimeOptions(hint="throughput", in_flight=2)
    assert opened(tmp_path, asked)._free.qsize() == Wide.OPTIMAL
    assert opened(tmp_path, RuntimeOptions(hint="throughput", in_flight=9))._free.qsize() == 9
    assert opened(tmp_path, RuntimeOptions(streams=2, in_flight=2))._free.qsize() == 2


class Wide:
    """A model compiled for a machine with many cores."""

    OPTIMAL = 6

    def get_property(self, name: str) -> int:
        assert name == "OPTIMAL_NUMBER_OF_INFER_REQUESTS"
        return self.OPTIMAL

    def create_infer_request(self) -> object:
        return object()


# The cache


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv(model_cache.FOLDER_VARIABLE, str(folder))
    return folder / "openvino"


def test_a_model_is_compiled_once_and_says_the_same_again(cache: Path, tmp_path: Path) -> None:
    first = opened(tmp_path)
    expected = first.infer(tensor(1))[0].copy()
    assert not loaded(first)
    for _ in range(2):
        again = opened(tmp_path)
        assert loaded(again)
        assert np.array_equal(again.infer(tensor(1))[0], expected)
    assert len(list(cache.iterdir())) == 1
    assert not list(tmp_path.glob("*.blob"))


def test_another_setting_is_another_entry(cache: Path, tmp_path: Path) -> None:
    opened(tmp_path)
    other = opened(tmp_path, RuntimeOptions(streams=2, in_flight=2, threads=2))
    assert other._compiled.get_property("NUM_STREAMS") == 2
    assert right(other)


def test_profiles_come_from_models_that_were_compiled_here(cache: Path, tmp_path: Path) -> None:
    model = model_file(write_tiny("onnx", tmp_path, None))
    request = SessionRequest(model, HW, RuntimeOptions(), "images", profile=True)
    session = OpenVino.open(request)
    session.infer(tensor(1))
    assert session.operators() and not cache.exists()


def test_an_entry_cut_short_is_compiled_again(cache: Path, tmp_path: Path) -> None:
    opened(tmp_path).close()
    (entry,) = cache.iterdir()
    entry.chmod(0o600)
    entry.write_bytes(entry.read_bytes()[:-100])
    session = opened(tmp_path)
    assert not loaded(session) and right(session)


@pytest.mark.parametrize("said", ["off", "0", "OFF"])
def test_it_can_be_switched_off(said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.setenv(model_cache.FOLDER_VARIABLE, said)
    assert right(opened(tmp_path))
    assert not (tmp_path / "user").exists()


def test_by_default_it_is_in_the_users_cache_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(model_cache.FOLDER_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    assert model_cache.cache_folder("openvino") == tmp_path / "user/saccade/models/openvino"


def test_a_folder_that_cannot_be_made_costs_nothing_but_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv(model_cache.FOLDER_VARIABLE, str(tmp_path / "file"))
    assert model_cache.cache_folder("openvino") is None
    assert right(opened(tmp_path))


def test_what_was_used_last_stays(tmp_path: Path) -> None:
    for age, name in enumerate("dcba"):
        (tmp_path / f"{name}.blob").write_bytes(b"x" * 100)
        os.utime(tmp_path / f"{name}.blob", (1000 - age, 1000 - age))
    for _ in range(2):
        trim(tmp_path, 250, "*.blob")
        assert sorted(path.stem for path in tmp_path.iterdir()) == ["c", "d"]


def test_files_of_others_are_left_alone(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.mkdir(parents=True)
    (cache / "thesis.txt").write_text("x")
    monkeypatch.setattr(openvino, "LIMIT_BYTES", 0)
    opened(tmp_path)
    assert [path.name for path in cache.iterdir()] == ["thesis.txt"]


def test_measuring_processes_go_without(monkeypatch: pytest.MonkeyPatch) -> None:
    from saccade.optimize import race

    seen: list[object] = []

    def worker(*_: object, **settings: object) -> None:
        seen.append(settings["environment"])
        raise RuntimeFailure("not started")

    monkeypatch.setattr(race, "Worker", worker)
    with pytest.raises(RuntimeFailure):
        race.Runner(None, "")  # type: ignore[arg-type]
    assert seen == [{model_cache.FOLDER_VARIABLE: "off"}]
