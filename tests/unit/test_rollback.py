"""The bundle before is kept, checked, and comes back when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest
from command_line import Cli, document, refused
from tiny_system import picture, write_model

import saccade
from saccade.deploy import places
from saccade.deploy.bundle import bundle_config, write_bundle
from saccade.deploy.rollback import roll_back
from saccade.errors import BundleError
from saccade.models.files import model_file
from saccade.models.onnx_model import describe
from saccade.pipeline.config import PipelineConfig


def provenance(change: str, speedup: float) -> dict[str, object]:
    return {"changes": [change], "speedup": [speedup - 0.1, speedup, speedup + 0.1]}


@pytest.fixture
def config(tmp_path: Path) -> PipelineConfig:
    path = write_model(tmp_path)
    return PipelineConfig("detection", model_file(path), describe(path), 64, 0.7)


@pytest.fixture
def run(config: PipelineConfig, tmp_path: Path) -> Path:
    """A run folder whose bundle took the place of an older one."""
    folder = tmp_path / "run"
    write_bundle(config, provenance("first", 2.0), folder / "bundle")
    second = replace(config, score_threshold=0.5)
    write_bundle(second, provenance("second", 3.0), folder / "bundle")
    return folder


def spoil(bundle: Path) -> None:
    with (bundle / "model.onnx").open("ab") as file:
        file.write(b"x")


def test_twice_is_where_it_began(run: Path) -> None:
    now = saccade.Bundle.open(run)
    first = roll_back(run)
    assert (first.now.changes, first.before) == (("first",), now)
    assert bundle_config(run / "bundle").score_threshold == 0.25
    second = roll_back(run / "bundle")
    assert (second.now, second.before) == (now, first.now)
    assert {path.name for path in run.iterdir()} == {"bundle", "bundle.previous"}


def test_where_the_system_cannot_exchange_at_once_they_take_turns(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "_exchanged_at_once", lambda *_: False)
    assert roll_back(run).now.changes == ("first",)
    assert roll_back(run).now.changes == ("second",)
    assert {path.name for path in run.iterdir()} == {"bundle", "bundle.previous"}


def test_a_turn_that_fails_leaves_both_where_they_were(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Path.replace

    def fails(self: Path, target: Path) -> Path:
        if self.name == "bundle.previous":
            raise OSError(30, "Read-only file system")
        return original(self, target)

    monkeypatch.setattr(places, "_exchanged_at_once", lambda *_: False)
    monkeypatch.setattr(Path, "replace", fails)
    with pytest.raises(saccade.SaccadeError, match="Read-only"):
        roll_back(run)
    assert saccade.Bundle.open(run).changes == ("second",)
    assert saccade.Bundle.open(run / "bundle.previous").changes == ("first",)


def test_only_one_generation_is_kept(run: Path, config: PipelineConfig) -> None:
    third = replace(config, score_threshold=0.6)
    write_bundle(third, provenance("third", 4.0), run / "bundle")
    assert saccade.Bundle.open(run / "bundle.previous").changes == ("second",)
    assert {path.name for path in run.iterdir()} == {"bundle", "bundle.previous"}


def test_the_same_bundle_again_does_not_push_out_the_one_before(
    run: Path, config: PipelineConfig
) -> None:
    """A run that is resumed writes its bundle once more, with speeds measured anew."""
    again = replace(config, score_threshold=0.5)
    write_bundle(again, provenance("second", 3.1), run / "bundle")
    assert saccade.Bundle.open(run / "bundle").speedup == (3.0, 3.1, 3.2)
    assert saccade.Bundle.open(run / "bundle.previous").changes == ("first",)


def test_a_damaged_bundle_is_not_kept_in_place_of_a_sound_one(
    run: Path, config: PipelineConfig
) -> None:
    spoil(run / "bundle")
    write_bundle(replace(config, score_threshold=0.6), {}, run / "bundle")
    assert saccade.Bundle.open(run / "bundle.previous").changes == ("first",)


def test_a_damaged_bundle_in_use_is_a_reason_to_go_back(run: Path) -> None:
    spoil(run / "bundle")
    done = roll_back(run)
    assert (done.now.changes, done.before) == (("first",), None)
    assert "does not match its hash" in done.why_unsound
    with pytest.raises(BundleError, match=r"does not match its hash.*Nothing was changed"):
        roll_back(run)
    assert saccade.Bundle.open(run).changes == ("first",)


def test_a_lost_bundle_comes_back(run: Path) -> None:
    (run / "bundle").rename(run / "elsewhere")
    assert roll_back(run).now.changes == ("first",)


@pytest.mark.parametrize("name", ["", "bundle"])
def test_without_a_bundle_before_it_says_so(
    config: PipelineConfig, tmp_path: Path, name: str
) -> None:
    write_bundle(config, {}, tmp_path / "run" / "bundle")
    with pytest.raises(BundleError, match=r"no bundle before .*'bundle\.previous' is not beside"):
        roll_back(tmp_path / "run" / name)
    with pytest.raises(BundleError, match="no bundle before"):
        roll_back(tmp_path / "absent")


def test_the_verb_says_what_is_in_use(cli: Cli, run: Path) -> None:
    done = cli("rollback", run)
    assert (done.code, done.err) == (0, "")
    assert "2.00x the baseline (1.90-2.10): first" in done.out.splitlines()[0]
    found = document(cli("rollback", run, "--json").out)
    assert found["now"]["changes"] == ["second"]
    assert found["now"]["speedup"] == {"value": 3.0, "interval": [2.9, 3.1]}
    assert found["now"]["hash"] == saccade.Bundle.open(run).hash
    assert found["previous"]["changes"] == ["first"]
    spoil(run / "bundle.previous")
    assert "does not match its hash" in refused(cli, "rollback", run, "--json")


def test_an_opened_bundle_loads_and_cannot_be_changed(run: Path) -> None:
    bundle = saccade.Bundle.open(run)
    assert bundle.folder == run / "bundle"
    assert bundle.config == bundle_config(run / "bundle")
    assert hash(bundle) == hash(saccade.Bundle.open(run))
    with bundle.load(score_threshold=0.001) as pipeline, saccade.load(run) as other:
        assert pipeline.config == replace(other.config, score_threshold=0.001)
        assert len(pipeline(picture())) >= len(other(picture()))
    with pytest.raises(FrozenInstanceError):
        bundle.folder = run  # type: ignore[misc]


def test_a_bundle_without_provenance_opens(config: PipelineConfig, tmp_path: Path) -> None:
    bundle = saccade.Bundle.open(write_bundle(config, {}, tmp_path / "bundle"))
    assert (bundle.changes, bundle.speedup) == ((), None)
    assert bundle.document()["speedup"] is None


@pytest.mark.parametrize("damage", [spoil, lambda bundle: (bundle / "labels.txt").unlink()])
def test_a_damaged_bundle_does_not_open(run: Path, damage: Callable[[Path], None]) -> None:
    damage(run / "bundle")
    with pytest.raises(BundleError):
        saccade.Bundle.open(run)
