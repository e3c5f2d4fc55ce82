"""A kit: written, measured by its own script in another process, read back, and judged."""

from __future__ import annotations

import ast
import copy
import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from command_line import Cli, Inputs, document, make_inputs, refused
from kit_script import REFERENCE, jetson_kit, run_script

import saccade
from saccade.deploy.kit.assemble import script
from saccade.deploy.kit.device import not_the_target
from saccade.deploy.kit.judge import Row, compare_two, resolution_of, rows
from saccade.deploy.kit.read import read_kit, read_measurements
from saccade.deploy.kit.script.subject import output_error
from saccade.deploy.kit.write import check_place
from saccade.errors import InputError
from saccade.goals import parse_goal
from saccade.optimize.metrics import Estimate
from saccade.playbook.final_judge import Accuracy
from saccade.playbook.measured import _goal
from saccade.playbook.partial import export_kit
from saccade.spec import make_spec
from saccade.study import MARKER

Change = Callable[[dict[str, Any]], None]


class Measured:
    """A kit of the tiny detector, and what its script wrote on this machine."""

    def __init__(self, folder: Path) -> None:
        self.inputs: Inputs = make_inputs(folder)
        self.kit = folder / "kit"
        self.document = export_kit(
            make_spec({"model": str(self.inputs.model), "data": str(self.inputs.data)}), self.kit
        )
        self.file = folder / "m.json"
        self.said = run_script(self.kit, self.file, "--rounds", "4", "--seconds", "0.01")

    @property
    def flags(self) -> tuple[object, ...]:
        return ("--measurements", self.file, "--kit", self.kit)


def signed(content: dict[str, Any]) -> str:
    """The digest that the script would have written."""
    bare = {key: value for key, value in content.items() if key != "digest"}
    return hashlib.sha256(json.dumps(bare, sort_keys=True).encode()).hexdigest()


@pytest.fixture(scope="module")
def jetson(measured: Measured, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return jetson_kit(measured.inputs, tmp_path_factory.mktemp("jetson"))


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    return Measured(tmp_path_factory.mktemp("kit"))


@pytest.fixture
def altered(
    measured: Measured, tmp_path: Path
) -> Callable[[Callable[[dict[str, Any]], None]], Path]:
    """The measurements with a change in them, signed anew."""

    def write(change: Change) -> Path:
        content = json.loads(measured.file.read_text(encoding="utf-8"))
        content = copy.deepcopy(content)
        change(content)
        content["digest"] = signed(content)
        path = tmp_path / "altered.json"
        path.write_text(json.dumps(content), encoding="utf-8")
        return path

    return write


# The script


def test_the_script_is_one_file_for_python_3_8_and_numpy() -> None:
    tree = ast.parse(script(), feature_version=(3, 8))
    top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {
        (node.module or "" if isinstance(node, ast.ImportFrom) else alias.name).split(".")[0]
        for node in top
        for alias in node.names
    }
    assert names - set(sys.stdlib_module_names) == {"numpy"}
    assert "import saccade" not in script()
    assert "from saccade" not in script()
    defined = [n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    assert len(defined) == len(set(defined))


def test_every_candidate_is_measured_or_says_why_not(measured: Measured) -> None:
    found = read_measurements(measured.file)
    assert found.complete
    assert found.kit_id == measured.document["kit_id"]
    ids = {entry["id"] for entry in measured.document["candidates"]}
    assert set(found.candidates) == {*ids, "twin"}
    for name, entry in found.candidates.items():
        if entry["status"] == "measured":
            assert entry["warmup_ms"]
            assert entry["version"]
            rounds = [b.round for b in found.blocks if b.candidate == name and b.group == 0]
            assert rounds in ([], [0, 1, 2, 3])
        else:
            assert entry["reason"]
    assert found.candidates[REFERENCE]["status"] == "measured"
    assert found.environment["python"]
    # What runs on a GPU is no candidate for the target `cpu`.
    assert not any("tensorrt" in name or "cuda" in name for name in ids)


def test_blocks_take_turns(measured: Measured) -> None:
    """Within a round everybody runs once, and the first one changes from round to round."""
    blocks = [b for b in read_measurements(measured.file).blocks if b.group == 0]
    per_round = [[b.candidate for b in blocks if b.round == index] for index in range(4)]
    assert all(sorted(names) == sorted(per_round[0]) for names in per_round)
    assert len({names[0] for names in per_round}) > 1


def test_a_candidate_that_computes_what_it_should_passes_the_check(measured: Measured) -> None:
    found = read_measurements(measured.file)
    assert found.candidates[REFERENCE]["error"] <= 1e-4


def test_a_changed_kit_is_not_measured(measured: Measured, tmp_path: Path) -> None:
    kit = shutil.copytree(measured.kit, tmp_path / "kit")
    (kit / "frames" / "000.npy").write_bytes(b"other")
    command = [sys.executable, "-I", str(kit / "measure.py"), "--out", str(tmp_path / "m.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode
    assert "frames/000.npy is missing or was changed" in done.stderr
    assert not (tmp_path / "m.json").exists()


def test_a_model_that_does_not_load_fails_alone(measured: Measured, tmp_path: Path) -> None:
    kit = shutil.copytree(measured.kit, tmp_path / "kit")
    name = next(n for n in measured.document["sha256"] if n == "models/onnx_int8.onnx")
    (kit / name).write_bytes(b"no model")
    content = json.loads((kit / "kit.json").read_text(encoding="utf-8"))
    content["sha256"][name] = hashlib.sha256(b"no model").hexdigest()
    (kit / "kit.json").write_text(json.dumps(content), encoding="utf-8")
    only = ("--only", REFERENCE, "onnx_int8@onnxruntime-int8")
    run_script(kit, tmp_path / "m.json", "--rounds", "3", "--seconds", "0.01", *only)
    found = read_measurements(tmp_path / "m.json")
    assert found.candidates["onnx_int8@onnxruntime-int8"]["status"] == "failed"
    assert found.candidates["twin"]["status"] == "measured"


def test_scores_that_vanish_are_seen_beside_boxes_in_pixels() -> None:
    """The case that a norm over everything would miss: boxes right, scores zero."""
    random = np.random.default_rng(0)
    boxes, scores = random.uniform(0, 640, (1, 4, 50)), random.uniform(0, 1, (1, 2, 50))
    right = np.concatenate([boxes, scores], 1)
    assert output_error(right, right) == 0
    assert output_error(right * 1.001, right) < 0.002
    wrong = np.concatenate([boxes, 0 * scores], 1)
    assert output_error(wrong, right) > 0.5
    assert np.linalg.norm(wrong - right) / np.linalg.norm(right) < 0.01
    assert output_error(right[:, :5], right) > 1e6
    assert output_error(np.full_like(right, np.nan), right) > 1e6


# Reading back


def test_compare_reads_it_back(cli: Cli, measured: Measured) -> None:
    outcome = cli("compare", *measured.flags, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    found = document(outcome.out)
    assert found["reference"] == REFERENCE
    by_name = {row["candidate"]: row for row in found["candidates"]}
    assert by_name[REFERENCE]["ratio"] == 1
    measured_rows = [row for row in found["candidates"] if row["status"] == "measured"]
    assert len(measured_rows) > 1
    for row in measured_rows:
        assert row["interval"][0] <= row["ratio"] <= row["interval"][1]
    assert "inference alone" in found["scope"]
    assert "Measured on" in cli("compare", *measured.flags).out


def test_compare_of_two_candidates(cli: Cli, measured: Measured) -> None:
    outcome = cli("compare", REFERENCE, REFERENCE, *measured.flags, "--json")
    assert outcome.code == 4
    assert document(outcome.out)["verdict"] == "not distinguishable"
    assert "no candidate 'onxn'. Known: " in refused(cli, "compare", "onxn", *measured.flags)


def test_a_race_still_needs_its_arguments(cli: Cli, tmp_path: Path) -> None:
    assert "two configurations and --video" in refused(cli, "compare")
    assert "Give --kit" in refused(cli, "compare", "--measurements", tmp_path / "m.json")


@pytest.mark.parametrize(
    "arguments",
    [
        ("compare", "--measurements", "m.json", "--kit", "kit", "--video", "v.mp4"),
        ("compare", "a", "b", "--video", "v.mp4", "--kit", "kit"),
        ("optimize", "--model", "m.onnx", "--kit", "kit"),
        ("doctor", "--target", "rpi5", "--install", "litert"),
    ],
)
def test_an_option_that_would_be_ignored_is_refused(cli: Cli, arguments: tuple[str, ...]) -> None:
    assert re.search(r"Give (--measurements too|one of them)", refused(cli, *arguments))


@pytest.mark.parametrize("keep", [0, 100, 0.7])
def test_a_truncated_file_is_refused(
    cli: Cli, measured: Measured, tmp_path: Path, keep: float
) -> None:
    content = measured.file.read_bytes()
    path = tmp_path / "cut.json"
    path.write_bytes(content[: int(len(content) * keep) if keep < 1 else int(keep)])
    said = refused(cli, "compare", "--measurements", path, "--kit", measured.kit)
    assert "is cut short or damaged" in said
    assert "Copy it again" in said


def test_an_edited_file_is_refused(measured: Measured, tmp_path: Path) -> None:
    content = json.loads(measured.file.read_text(encoding="utf-8"))
    content["blocks"][0]["latency_ms"][0] /= 2
    path = tmp_path / "edited.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InputError, match="changed after it was written"):
        read_measurements(path)


def test_measurements_of_another_kit_are_refused(
    cli: Cli, measured: Measured, altered: Callable[..., Path]
) -> None:
    path = altered(lambda content: content.update(kit_id="ab" * 32))
    said = refused(cli, "compare", "--measurements", path, "--kit", measured.kit)
    assert "is of another kit (abababababab" in said


def test_a_damaged_kit_is_refused(measured: Measured, tmp_path: Path) -> None:
    kit = shutil.copytree(measured.kit, tmp_path / "kit")
    (kit / "models" / "onnx.onnx").write_bytes(b"other")
    with pytest.raises(InputError, match=r"'models/onnx.onnx' is missing or was changed"):
        read_kit(kit)
    (kit / "kit.json").write_text('{"schema_version": 1, "kit_id": "x"}', encoding="utf-8")
    with pytest.raises(InputError, match="does not match its own hash"):
        read_kit(kit)
    with pytest.raises(InputError, match="cannot be read"):
        read_kit(tmp_path)


def test_a_folder_of_somebody_elses_is_not_replaced(measured: Measured, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    spec = make_spec({"model": str(measured.inputs.model), "data": str(measured.inputs.data)})
    with pytest.raises(InputError, match="exists and is no kit"):
        export_kit(spec, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_what_a_device_measured_outlives_a_new_kit(measured: Measured, tmp_path: Path) -> None:
    kit = shutil.copytree(measured.kit, tmp_path / "run" / "kit")
    check_place(kit)
    (kit / "measurements.json").write_bytes(measured.file.read_bytes())
    spec = {"model": str(measured.inputs.model), "data": str(measured.inputs.data)}
    (tmp_path / "run" / MARKER).touch()
    for made in (export_kit, lambda spec, kit: saccade.optimize(spec, out=kit.parent)):
        with pytest.raises(InputError, match=r"did not come with it: measurements\.json"):
            made(make_spec({**spec, "target": "rpi5"}), kit)
    assert (kit / "measurements.json").is_file()
    (kit / "kit.json").write_text('{"schema_version": 1, "kit_id": "x"}', encoding="utf-8")
    with pytest.raises(InputError, match="is no kit"):
        check_place(kit)


def test_a_kit_is_not_made_of_the_current_folder(
    measured: Measured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"'\.' is the current folder"):
        check_place(Path())


# What the numbers say


def planted(content: dict[str, Any], fast: str, slow: str, times: float) -> None:
    """Two candidates in different groups, on a machine that halves its speed in between."""
    random = np.random.default_rng(0)

    def block(group: int, index: int, name: str, ms: float) -> dict[str, Any]:
        values = (ms * random.normal(1, 0.01, 30)).tolist()
        return {
            "group": group, "round": index, "candidate": name, "warmup_ms": [], "cpu_s": 0.1,
            "latency_ms": values, "peak_rss_mb": 50,
        }  # fmt: skip

    blocks = []
    for index in range(6):
        blocks += [block(0, index, n, 10.0) for n in (REFERENCE, "twin")]
        blocks.append(block(0, index, fast, 10.0 / times))
        blocks += [block(1, index, REFERENCE, 20.0), block(1, index, slow, 20.0)]
    content["blocks"] = blocks
    for name in (REFERENCE, "twin", fast, slow):
        content["candidates"][name] = {"status": "measured", "error": 0.0, "version": "x"}


def test_groups_compare_through_the_reference(
    measured: Measured, altered: Callable[..., Path]
) -> None:
    """Raw latencies would say 4 times, since the machine slowed down between the groups."""
    fast, slow = "onnx_int8@onnxruntime-int8", "openvino_ir@openvino-fp32"
    found = read_measurements(altered(lambda c: planted(c, fast, slow, 2.0)))
    result = compare_two(found, slow, fast, "throughput")
    assert result is not None
    assert result.verdict == "faster"
    assert result.ratio.value == pytest.approx(2, rel=0.02)
    assert resolution_of(found, "throughput") < 0.03
    order = [row.id for row in rows(read_kit(measured.kit), found, "latency")]
    assert order[0] == fast


def test_outputs_that_are_off_do_not_count(
    measured: Measured, altered: Callable[..., Path]
) -> None:
    fast, slow = "onnx_int8@onnxruntime-int8", "openvino_ir@openvino-fp32"

    def wrong(content: dict[str, Any]) -> None:
        planted(content, fast, slow, 2.0)
        content["candidates"][fast]["error"] = 0.9

    found = rows(read_kit(measured.kit), read_measurements(altered(wrong)), "latency")
    row = next(row for row in found if row.id == fast)
    assert (row.status, row.counts) == ("wrong outputs", False)
    assert "off by 0.9, more than the 0.3" in row.reason


def test_without_a_twin_nothing_can_be_told_apart(
    measured: Measured, altered: Callable[..., Path]
) -> None:
    fast, slow = "onnx_int8@onnxruntime-int8", "openvino_ir@openvino-fp32"

    def bare(content: dict[str, Any]) -> None:
        planted(content, fast, slow, 2.0)
        content["blocks"] = [b for b in content["blocks"] if b["candidate"] != "twin"]

    found = compare_two(read_measurements(altered(bare)), slow, fast, "latency")
    assert found is not None
    assert found.verdict == "not distinguishable"


# Optimize


def test_optimize_picks_the_fastest_that_keeps_the_bound(
    cli: Cli, measured: Measured, altered: Callable[..., Path], tmp_path: Path
) -> None:
    fast, slow = "openvino_ir@openvino-fp32", "onnx_int8@onnxruntime-int8"
    path = altered(lambda c: planted(c, fast, slow, 2.0))
    goals = ("--goal", "latency_ms.p50<=8", "--goal", "agreement_drop<=0.9")
    flags = ("--measurements", path, "--kit", measured.kit, "--out", tmp_path / "run", "--json")
    given = ("--model", measured.inputs.model, "--data", measured.inputs.data)
    outcome = cli("optimize", *given, *goals, *flags)
    assert outcome.code == 0, outcome.err
    found = document(outcome.out)
    assert found["best"]["changes"] == [fast]
    assert found["best"]["speedup"]["value"] == pytest.approx(2, rel=0.02)
    speed = next(goal for goal in found["goals"] if goal["metric"] == "latency_ms.p50")
    assert speed["status"] == "met"
    assert speed["value"] == pytest.approx(5, rel=0.02)
    assert "measured on" in speed["note"]
    assert "inference alone" in speed["note"]
    assert found["device"]["python"]
    assert Path(found["bundle"]).is_dir()
    kept = [trial["change"] for trial in found["trials"] if trial["kept"]]
    assert kept == [fast]
    assert "Measured on the device" in (tmp_path / "run" / "report.html").read_text("utf-8")


def test_a_percentile_of_too_few_frames_is_said_to_be_that(measured: Measured) -> None:
    row = Row("a", "measured", "", metrics={"latency_ms.p99": Estimate(None)})
    chosen, device = (row, Accuracy({}, {}, {}, None)), read_measurements(measured.file)
    goals = [parse_goal("latency_ms.p99<=5"), parse_goal("peak_rss_mb<=5")]
    notes = [_goal(goal, chosen, "", device)["note"] for goal in goals]
    assert notes == [
        "too few frames were measured for latency_ms.p99",
        "the kit does not measure peak_rss_mb",
    ]


def test_a_candidate_that_is_not_faster_does_not_replace_the_reference(
    cli: Cli, measured: Measured, altered: Callable[..., Path], tmp_path: Path
) -> None:
    fast, slow = "openvino_ir@openvino-fp32", "onnx_int8@onnxruntime-int8"
    path = altered(lambda c: planted(c, fast, slow, 1.0))
    flags = ("--measurements", path, "--kit", measured.kit, "--out", tmp_path / "run", "--json")
    given = ("--model", measured.inputs.model, "--data", measured.inputs.data)
    outcome = cli("optimize", *given, "--goal", "latency_ms.p50<=8", *flags)
    assert outcome.code == 3, outcome.err
    assert document(outcome.out)["best"]["changes"] == [REFERENCE]


@pytest.mark.parametrize(
    ("name", "said", "wrong"),
    [
        ("rpi5", "Linux 6.6 x86_64", True),
        ("rpi5", "Linux 6.6 aarch64", False),
        ("aws-c7i-xlarge", "Linux 6.6 aarch64", True),
        ("aws-c7i-xlarge", "Linux 6.6 x86_64", False),
        ("jetson-nano", "Linux 4.9 aarch64", False),
        ("coral-edgetpu", "Linux 6.6 x86_64", False),
        ("cpu", "Linux 6.6 aarch64", False),
        ("rpi5", "", False),
    ],
)
def test_a_device_that_cannot_be_the_target_is_noticed(name: str, said: str, wrong: bool) -> None:
    assert bool(not_the_target(name, {"os": said})) == wrong


def test_another_machines_speed_concludes_nothing(
    cli: Cli, measured: Measured, jetson: Path, tmp_path: Path
) -> None:
    path = tmp_path / "m.json"
    only = ("--only", REFERENCE)
    run_script(jetson, path, "--rounds", "3", "--seconds", "0.01", *only)
    content = json.loads(path.read_text(encoding="utf-8"))
    content["environment"]["os"] = "Linux 6.6 x86_64"
    content["digest"] = signed(content)
    path.write_text(json.dumps(content), encoding="utf-8")
    given = ("--model", measured.inputs.model, "--data", measured.inputs.data)
    flags = ("--target", "jetson-orin-nano", "--measurements", path, "--kit", jetson)
    goal = ("--goal", "latency_ms.p50<=1000")
    outcome = cli("optimize", *given, *flags, *goal, "--out", tmp_path / "run", "--json")
    assert outcome.code == 4, outcome.err
    found = document(outcome.out)
    assert found["goals"][0]["status"] == "inconclusive"
    assert "has an x86 CPU and jetson-orin-nano an Arm one" in found["goals"][0]["note"]


def test_a_kit_of_another_model_or_target_is_refused(
    cli: Cli, measured: Measured, tmp_path: Path
) -> None:
    other = tmp_path / "other.onnx"
    model = onnx.load(str(measured.inputs.model))
    model.doc_string = "another one"
    onnx.save(model, str(other))
    data = ("--data", measured.inputs.data)
    given = ("optimize", "--model", other, *data, *measured.flags, "--out", tmp_path / "a")
    assert "was made from another model" in refused(cli, *given)
    given = ("optimize", "--model", measured.inputs.model, *data, "--target", "rpi5")
    said = refused(cli, *given, *measured.flags, "--out", tmp_path / "b")
    assert "is for 'cpu', and the target is 'rpi5'" in said
