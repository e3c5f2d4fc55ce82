"""The whole playbook on a real detector and a real video, and its contract with scripts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from small_data import IMAGES, some_of

import saccade
from saccade.deploy.bundle import bundle_config, read_manifest
from saccade.goals import METRICS
from saccade.study import Study, Trial, finite

pytestmark = [pytest.mark.realdata, pytest.mark.alone]

# A quarter of the pixels, so that what is measured whatever the budget is takes less time.
SMALL = 320
BUDGET_S = 60.0
AGAIN_S = 25.0
# Where the machine is too busy for a single trial within the budget.
PATIENT_S = 120.0
# Some steps are taken whatever the budget is; these are about so many frames of the baseline.
FIXED_FRAMES = 500
SLACK_S = 20.0
GOALS = ["throughput_fps>=10", "map50_95_drop<=0.01"]
ALWAYS = (
    "spec.yaml",
    "environment.json",
    "baseline.json",
    "profile.json",
    "trace.json",
    "findings.json",
    "plan.json",
    "trials.jsonl",
    "result.json",
    "report.html",
)


@dataclass(frozen=True)
class Run:
    """A run, and what it left before it was run again."""

    folder: Path
    budget_s: float
    first: dict[str, Any]
    trials: tuple[Trial, ...]
    again: Study
    video: Path


@pytest.fixture(scope="module")
def run(data_root: Path, yolo11n: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    pytest.importorskip("openvino")
    base = tmp_path_factory.mktemp("runs")
    folder = base / "street"
    settings: dict[str, Any] = {
        "model": yolo11n,
        "data": some_of(data_root / "coco", base / "coco"),
        "video": str(data_root / "video" / "street-1080p.mp4"),
        "goals": GOALS,
        "overrides": {"input_size": SMALL},
    }
    budget_s = BUDGET_S
    study = saccade.optimize(**settings, budget=budget_s, out=folder)
    if not study.trials:
        budget_s = PATIENT_S
        study = saccade.optimize(**settings, budget=budget_s, out=folder)
    first = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    assert finite(study.result) == first
    again = saccade.optimize(**settings, budget=AGAIN_S, out=folder)
    return Run(folder, budget_s, first, study.trials, again, Path(settings["video"]))


def test_the_run_folder_is_complete(run: Run) -> None:
    missing = [name for name in ALWAYS if not (run.folder / name).is_file()]
    assert missing == []
    assert (run.folder / "bundle").is_dir()
    tuned = any(trial.name == "tuning" for trial in run.again.trials)
    assert (run.folder / "study.db").is_file() or not tuned
    for path in run.folder.glob("*.json"):
        document = json.loads(
            path.read_text(encoding="utf-8"), parse_constant=lambda name: pytest.fail(name)
        )
        if path.name != "trace.json":  # that one has a format of its own
            assert document["schema_version"] == 1, path.name
    assert json.loads((run.folder / "trace.json").read_text(encoding="utf-8"))["traceEvents"]


def test_the_result_has_the_keys_that_scripts_rely_on(run: Run) -> None:
    result = run.first
    assert result["schema_version"] == 1
    assert result["status"] in ("met", "not_met", "inconclusive")
    assert [goal["name"] for goal in result["goals"]] == GOALS
    for goal in result["goals"]:
        assert {"name", "bound", "value", "interval", "status"} <= set(goal)
    assert {"trial", "changes", "config", "metrics", "speedup"} <= set(result["best"])
    low, high = result["best"]["speedup"]["interval"]
    assert low <= result["best"]["speedup"]["value"] <= high
    for rejected in result["rejected"]:
        assert rejected["reason"]
        assert {"trial", "change"} <= set(rejected)
    assert isinstance(result["pareto"], list)
    assert result["wall_s"] > 0


@pytest.mark.parametrize("side", ["baseline", "best"])
def test_metrics_have_the_names_of_the_design(run: Run, side: str) -> None:
    metrics = run.first[side]["metrics"]
    speeds = {name for name, metric in METRICS.items() if not metric.accuracy}
    assert speeds | {"map50_95", "map50", "agreement"} <= set(metrics)
    assert metrics["throughput_fps"] > 0
    assert 0.3 < metrics["map50_95"] < metrics["map50"] < 1
    assert metrics["latency_ms.p50"] <= metrics["latency_ms.p95"]
    assert metrics["peak_rss_mb"] > metrics["model_mb"] > 1


def test_the_status_follows_from_the_goals(run: Run) -> None:
    statuses = {goal["status"] for goal in run.first["goals"]}
    if statuses == {"met"}:
        assert run.first["status"] == "met"
    else:
        assert run.first["status"] in statuses


def test_every_trial_has_a_verdict_and_a_reason(run: Run) -> None:
    assert run.trials
    for trial in run.trials:
        assert trial.verdict
        assert trial.reason
        if trial.gain is not None:
            assert trial.gain.low <= trial.gain.value <= trial.gain.high
            assert trial.blocks
            assert trial.parent_blocks
    assert len(run.first["trials"]) == len(run.trials)
    tried = {trial.number for trial in run.trials}
    assert {row["trial"] for row in run.first["rejected"]} == {
        trial.number for trial in run.trials if not trial.kept
    }
    assert run.first["best"]["trial"] in tried | {0}


def test_the_report_data_were_not_seen_before(run: Run) -> None:
    assert run.first["guard"]["metric"] == "map50_95"
    assert run.first["guard"]["data"] == {
        "calibration": IMAGES // 4,
        "selection": 3 * IMAGES // 4,
        "report": IMAGES,
    }


def test_the_budget_is_honoured(run: Run) -> None:
    fixed_s = FIXED_FRAMES / run.first["baseline"]["metrics"]["throughput_fps"]
    assert run.first["wall_s"] <= 1.1 * run.budget_s + fixed_s + SLACK_S
    assert run.again.result["wall_s"] <= 1.1 * AGAIN_S + fixed_s + SLACK_S


def test_running_again_measures_no_trial_twice(run: Run) -> None:
    lines = (run.folder / "trials.jsonl").read_text(encoding="utf-8").splitlines()
    on_record = [json.loads(line) for line in lines]
    measured = [
        (line["change"], line["parent_hash"], line["environment_hash"])
        for line in on_record
        if line["verdict"] != "inconclusive"
    ]
    assert len(set(measured)) == len(measured)
    assert len(on_record) >= len(run.trials)
    assert [line["config_hash"] for line in on_record[: len(run.trials)]] == [
        trial.config_hash for trial in run.trials
    ]


def test_running_again_goes_on_from_what_was_kept(run: Run) -> None:
    kept = [trial.config_hash for trial in run.trials if trial.kept]
    assert [trial.config_hash for trial in run.again.trials if trial.kept][: len(kept)] == kept


def test_running_again_does_not_measure_the_baseline_again(run: Run) -> None:
    before, after = run.first["noise"], run.again.result["noise"]
    assert before == after  # from A against A, which no two measurements give twice


def test_the_bundle_loads_and_streams(run: Run) -> None:
    bundle = run.again.bundle
    assert bundle is not None
    manifest = read_manifest(bundle)
    assert manifest["config_hash"] == run.again.result["best"]["config_hash"]
    assert bundle_config(bundle).hash == manifest["config_hash"]
    with saccade.load(bundle) as pipeline:
        results = list(islice(pipeline.stream(run.video), 40))
    assert len(results) == 40
    assert sum(len(result) for result in results) > 40
    for result in results:
        assert result.boxes.shape == (len(result.scores), 4)
        assert len(result.class_ids) == len(result.scores)


def test_the_report_is_one_file_about_this_run(run: Run) -> None:
    text = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "throughput" in text
    assert "<script src" not in text
    assert "http://" not in text.replace("http://www.w3.org", "")
