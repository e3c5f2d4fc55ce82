"""Targets are data: every figure has its source, and what is not known is refused with a hint."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from saccade.errors import SpecError
from saccade.spec import make_spec
from saccade.targets.read import is_here, names, read_target, rules_of
from saccade.targets.target import Target

WANTED = {
    "jetson-orin-nano", "jetson-nano", "rpi5", "android-arm64", "coral-edgetpu",
    "aws-c7i-xlarge", "aws-c7g-xlarge", "aws-g5-xlarge", "aws-g6-xlarge", "gcp-n1-t4",
}  # fmt: skip

TOY = {
    "title": "a toy board",
    "memory_mb": {"value": 64, "source": "its box"},
    "shared_memory": True,
    "processors": {
        "cpu": {
            "model": "one core",
            "isa": ["asimd"],
            "peak_gops": {"fp32": {"value": 2, "source": "its box"}},
            "bandwidth_gbs": {"value": 0.5, "source": "its box"},
            "cache_mb": {"value": 0.001, "source": "its box"},
        }
    },
    "runtimes": {"onnxruntime": {"processor": "cpu", "precisions": ["fp32"]}},
}


def write_toy(folder: Path, **changes: object) -> Path:
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump({**TOY, **changes}), encoding="utf-8")
    return path


def figures(target: Target) -> list[tuple[str, str, float]]:
    found = [("memory", target.memory_mb)]
    for name, processor in target.processors.items():
        found += [(f"{name} {key}", figure) for key, figure in processor.peak_gops.items()]
        found += [(name, processor.bandwidth_gbs), (name, processor.cache_mb)]
    return [(name, figure.source, figure.value) for name, figure in found]


def test_the_targets_of_the_issue_are_there() -> None:
    assert set(names()) >= WANTED


@pytest.mark.parametrize("name", names())
def test_every_figure_has_its_source(name: str) -> None:
    for what, source, value in figures(read_target(name)):
        assert len(source) > 8, what
        assert value > 0, what


@pytest.mark.parametrize("name", names())
def test_lower_precision_is_never_slower_by_the_data_sheet(name: str) -> None:
    for processor in read_target(name).processors.values():
        rates = {key: figure.value for key, figure in processor.peak_gops.items()}
        order = [rates[key] for key in ("fp32", "fp16", "int8") if key in rates]
        assert order == sorted(order)


@pytest.mark.parametrize("name", names())
def test_what_a_runtime_executes_has_a_rate(name: str) -> None:
    """Otherwise a candidate would be legal and have no bound."""
    target = read_target(name)
    for runtime, there in target.runtimes.items():
        rates = target.processor_of(runtime).peak_gops
        assert set(there.precisions) <= set(rates), runtime
        assert rules_of(runtime).source


def test_limits_that_everybody_runs_into() -> None:
    assert read_target("coral-edgetpu").memory_mb.value == 8
    assert set(read_target("coral-edgetpu").processors["tpu"].peak_gops) == {"int8"}
    assert "DP4A" in read_target("jetson-nano").refused_precisions["int8"]
    assert rules_of("edgetpu").dynamic_shapes.startswith("no")


def test_an_unknown_target_names_the_nearest() -> None:
    with pytest.raises(SpecError, match="Did you mean 'jetson-nano'"):
        make_spec({"model": "m", "target": "jetson-nno"})
    with pytest.raises(SpecError, match="Known: cpu, cuda, android-arm64"):
        make_spec({"model": "m", "target": "toaster"})


def test_known_targets_are_accepted_and_only_two_are_here() -> None:
    for name in ("cpu", "cuda", *names()):
        assert make_spec({"model": "m", "target": name}).target == name
        assert is_here(name) == (name in ("cpu", "cuda"))


def test_a_target_of_ones_own(tmp_path: Path) -> None:
    write_toy(tmp_path)
    spec = make_spec({"model": "m", "target": "toy.yaml"}, tmp_path)
    assert spec.target == str(tmp_path / "toy.yaml")
    assert read_target(spec.target).title == "a toy board"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"memroy_mb": 5}, "memroy_mb"),
        ({"memory_mb": {"value": 0, "source": "x"}}, "above zero"),
        ({"memory_mb": {"value": 5}}, "memory_mb.source"),
        ({"memory_mb": {"value": 5, "source": " "}}, "needs the source"),
        ({"processors": {}}, "runs on 'cpu'|run on 'cpu'"),
        ({"runtimes": {"onnxruntime": {"processor": "cpu", "precisions": ["int4"]}}}, "'bf16' or"),
        ({"refused_precisions": {"int4": "x"}}, "refused_precisions.int4.*'bf16' or"),
        ({"runtimes": {"onxruntime": {"processor": "cpu", "precisions": []}}}, "onxruntime"),
    ],
)
def test_a_wrong_target_file_says_where(
    tmp_path: Path, changes: dict[str, object], says: str
) -> None:
    path = write_toy(tmp_path, **changes)
    with pytest.raises(SpecError, match=says):
        make_spec({"model": "m", "target": str(path)})


def test_a_target_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be read"):
        read_target(str(tmp_path / "none.yaml"))
    (tmp_path / "bad.yaml").write_text("a: [1\n", encoding="utf-8")
    with pytest.raises(SpecError, match="not valid YAML"):
        read_target(str(tmp_path / "bad.yaml"))
    (tmp_path / "text.yaml").write_text("hello\n", encoding="utf-8")
    with pytest.raises(SpecError, match="wrong at"):
        read_target(str(tmp_path / "text.yaml"))
