"""A shared system that does not run is left out with its reason; what was kept before it stays."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from test_sharing_changes import context_in

from saccade.errors import ModelError, RuntimeFailure, SaccadeError, StorageError
from saccade.optimize.sharing import search as search_module
from saccade.optimize.sharing.search import plan_sharing
from saccade.optimize.sharing.subject import SystemRunner
from saccade.pipeline.system import Sharing, SystemConfig
from saccade.playbook.final_judge import Accuracy
from saccade.playbook.system import _Sharing
from saccade.playbook.system_choice import LeftOut, first_standing, without
from saccade.playbook.system_result import SystemStory
from saccade.progress import SilentProgress
from saccade.study import Trial


def systems(folder: Path) -> tuple[SystemConfig, SystemConfig, SystemConfig, str]:
    """Naive, one decode for both, that with a model file that is gone, and the video."""
    context = context_in(folder)
    naive = context.config
    decode = replace(naive, sharing=Sharing(decode=True))
    first, second = decode.parts
    gone = replace(second, model=replace(second.model, path=str(folder / "gone.onnx"), sha256="0"))
    return naive, decode, replace(decode, parts=(first, gone)), context.plans[0].source


def trial_of(config: SystemConfig, number: int) -> Trial:
    return Trial(
        number=number,
        parent=0,
        name="share_decode",
        parent_hash="",
        change=f"change {number}",
        verdict="better",
        kept=True,
        reason="faster",
        config=config.to_dict(),
        config_hash=config.hash,
    )


def chosen(
    naive: SystemConfig, kept: list[SystemConfig], source: str
) -> tuple[SystemConfig, SystemStory]:
    """What the playbook keeps of a search that ended with the last of ``kept``."""
    sharing: Any = object.__new__(_Sharing)
    spec = SimpleNamespace(task="detection")
    sharing._systems = [SimpleNamespace(attempts=1, job=SimpleNamespace(spec=spec))] * 2
    sharing._source, sharing._say = source, SilentProgress()
    trials = tuple(trial_of(config, 1 + index) for index, config in enumerate(kept))
    sharing._story = SystemStory(cast(Any, None), (), (), (), naive, trials=trials)
    sharing._race = lambda reference, runner: runner.block(3)
    found = SimpleNamespace(exact=[naive, *kept])
    judge = SimpleNamespace(judge=lambda *_: Accuracy({}, {}, {}, None))
    with closing(SystemRunner(naive, source)) as runner:
        config = sharing._chosen(kept[-1], found, runner, [judge, judge])
    return config, sharing._story


def test_the_next_best_stays_where_the_winner_does_not_run(tmp_path: Path) -> None:
    naive, decode, broken, source = systems(tmp_path)
    config, story = chosen(naive, [decode, broken], source)
    assert config.hash == decode.hash and story.best == config
    first, second = story.trials
    assert first.kept and not second.kept
    assert second.verdict == "failed" and "gone.onnx" in second.reason


def test_the_naive_pipelines_stay_where_nothing_else_runs(tmp_path: Path) -> None:
    naive, _, broken, source = systems(tmp_path)
    config, story = chosen(naive, [broken], source)
    assert config.hash == naive.hash
    assert [trial.kept for trial in story.trials] == [False]


# Pure


def attempt_of(says: dict[str, Any], steps: list[SystemConfig]) -> Any:
    names = {config.hash: name for config, name in zip(steps, says, strict=True)}

    def attempt(config: SystemConfig) -> Any:
        said = says[names[config.hash]]
        if isinstance(said, Exception):
            raise said
        return said

    return attempt


@pytest.mark.parametrize(
    ("says", "alive", "raised"),
    [
        ({"a": RuntimeFailure("no"), "b": RuntimeFailure("no"), "c": RuntimeFailure("x")}, 1, "x"),
        ({"a": RuntimeFailure("naive died"), "b": 1, "c": 1}, 0, "naive died"),
        ({"a": StorageError("full"), "b": 1, "c": 1}, 1, "full"),
    ],
)
def test_what_is_not_the_candidates_fault_ends_it(
    says: dict[str, Any], alive: int, raised: str, tmp_path: Path
) -> None:
    steps = list(systems(tmp_path)[:3])
    with pytest.raises(SaccadeError, match=raised):
        first_standing(steps, attempt_of(says, steps), lambda: bool(alive))


def test_what_does_not_stand_is_passed_over_and_not_left_out(tmp_path: Path) -> None:
    steps = list(systems(tmp_path)[:3])
    says = {"a": None, "b": RuntimeFailure("out of memory"), "c": "found"}
    found, left_out = first_standing(steps, attempt_of(says, steps), lambda: True)
    assert found == "found" and left_out == (LeftOut(steps[1], "out of memory"),)
    trials = (trial_of(steps[0], 1), trial_of(steps[1], 2))
    changed = without(trials, left_out)
    assert [trial.kept for trial in changed] == [True, False]


def test_a_way_of_sharing_that_cannot_be_looked_at_is_not_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = context_in(tmp_path)
    load = search_module.plugins.load

    def refused(*_: Any) -> str:
        raise ModelError("the graphs do not merge")

    kind = load("sharings", "one_pass")
    monkeypatch.setattr(kind, "applies", refused)
    candidates, inapplicable = plan_sharing(context)
    assert "the graphs do not merge" in dict(inapplicable).values()
    assert "share_decode" in {candidate.change.name for candidate in candidates}
