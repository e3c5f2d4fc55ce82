"""Models that ONNX Runtime does not take: what they lack is named, with what to do."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from command_line import Cli, Inputs, document, refused
from onnx import TensorProto, helper
from tiny_system import tiny_yolo

from saccade.errors import ModelError
from saccade.models.files import model_file
from saccade.models.graph_reading import operators
from saccade.models.ort_support import check_supported, unknown_operators
from saccade.playbook.runnable import check_runs


def ending_in(path: Path, *kinds: tuple[str, str], opset: int = 17) -> Path:
    """The tiny detector with operators behind its output, by domain and name."""
    model = tiny_yolo()
    model.opset_import[0].version = opset
    last = model.graph.output[0].name
    value = model.graph.node[-1].output[0] = "before"
    for index, (domain, name) in enumerate(kinds, start=1):
        result = last if index == len(kinds) else f"after{index}"
        model.graph.node.append(helper.make_node(name, [value], [result], domain=domain))
        value = result
    for domain in sorted({domain for domain, _ in kinds if domain}):
        model.opset_import.append(helper.make_opsetid(domain, 1))
    path.write_bytes(model.SerializeToString())
    return path


def alone(path: Path, name: str, dtype: int = TensorProto.FLOAT, ir_version: int = 8) -> Path:
    """One operator on one tensor."""
    value = [helper.make_tensor_value_info(n, dtype, (1, 3)) for n in ("x", "y")]
    graph = helper.make_graph([helper.make_node(name, ["x"], ["y"])], "g", value[:1], value[1:])
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=ir_version), path)
    return path


def test_every_unknown_operator_is_named_at_once(tmp_path: Path) -> None:
    kinds = (("my.ops", "Fancy"), ("com.microsoft", "Gelu"), ("", "Relu"), ("your.ops", "Odd"))
    path = ending_in(tmp_path / "m.onnx", *kinds)
    said = r"'m\.onnx' .* have: my\.ops:Fancy \(opset 1\), your\.ops:Odd \(opset 1\)\. Export"
    with pytest.raises(ModelError, match=said):
        check_supported(path)


def test_domains_that_onnx_runtime_knows_pass(tmp_path: Path) -> None:
    path = ending_in(tmp_path / "m.onnx", ("com.microsoft", "Gelu"), ("com.microsoft", "QuickGelu"))
    check_supported(path)
    assert unknown_operators(onnx.load(path)) == ()


def test_operators_of_inner_graphs_and_functions_are_found(tmp_path: Path) -> None:
    model = onnx.load(ending_in(tmp_path / "m.onnx", ("mine", "Twice")))
    inner = helper.make_node("Fancy", ["a"], ["b"], domain="my.ops")
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("my.ops", 1)]
    model.functions.append(helper.make_function("mine", "Twice", ["a"], ["b"], [inner], opsets))
    branch = helper.make_graph([helper.make_node("Odd", [], ["c"])], "branch", [], [])
    branches = {"then_branch": branch, "else_branch": branch}
    model.graph.node.append(helper.make_node("If", ["before"], ["d"], **branches))
    assert {("my.ops", "Fancy"), ("", "Odd"), ("", "If")} <= set(operators(model))
    assert ("mine", "Twice") not in operators(model)
    assert unknown_operators(model) == ("Odd (opset 17)", "my.ops:Fancy (opset 1)")


def test_an_opset_too_early_for_an_operator_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"Gelu \(opset 17\).*or for an opset that has them"):
        check_supported(ending_in(tmp_path / "m.onnx", ("", "Gelu")))
    check_supported(ending_in(tmp_path / "m.onnx", ("", "Gelu"), opset=20))


@pytest.mark.parametrize(
    ("name", "dtype", "ir_version", "said"),
    [
        ("Erf", TensorProto.DOUBLE, 8, r"no implementation of Erf \(opset 13\) .*or in fp32"),
        ("Tan", TensorProto.BFLOAT16, 8, r"no tensor\(bfloat16\) in Tan, .*or in fp32"),
        ("Relu", TensorProto.FLOAT, 99, r"IR version 99, .* up to \d+\. Save the model with an"),
        ("Scan", TensorProto.FLOAT, 8, r"refuses 'm\.onnx' .*attribute.*onnx\.checker"),
    ],
)
def test_what_else_is_missing_is_said(
    tmp_path: Path, name: str, dtype: int, ir_version: int, said: str
) -> None:
    with pytest.raises(ModelError, match=said):
        check_supported(alone(tmp_path / "m.onnx", name, dtype, ir_version))


def test_a_runtime_that_takes_what_onnx_runtime_refuses_is_named(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    path = ending_in(tmp_path / "m.onnx", ("org.openvinotoolkit", "Swish"))
    said = r"Swish \(opset 1\).*taking the model as it is: openvino;"
    with pytest.raises(ModelError, match=said):
        check_runs(model_file(path))
    with pytest.raises(ModelError, match=r"an opset that has them\.$"):
        check_runs(model_file(ending_in(path, ("my.ops", "Fancy"))))


@pytest.mark.parametrize("verb", ["optimize", "baseline", "plan"])
def test_the_command_refuses_before_it_measures(
    cli: Cli, inputs: Inputs, tmp_path: Path, verb: str
) -> None:
    model = ending_in(tmp_path / "m.onnx", ("my.ops", "Fancy"))
    given = ("--model", model, "--video", inputs.video, "--out", tmp_path / "run")
    said = refused(cli, verb, *given)
    assert "my.ops:Fancy (opset 1). Export the model without them" in said
    assert not (tmp_path / "run" / "baseline.json").exists()


@pytest.mark.parametrize("kind", [("my.ops", "Fancy"), ("", "Fancy")])
def test_estimates_name_it_too(
    cli: Cli, inputs: Inputs, tmp_path: Path, kind: tuple[str, str]
) -> None:
    model = ending_in(tmp_path / "m.onnx", kind)
    given = ("--model", model, "--target", "rpi5", "--out", tmp_path / "run")
    assert f"not ONNX's own: {':'.join(filter(None, kind))} (opset" in refused(cli, "plan", *given)


def test_a_target_elsewhere_may_have_what_this_machine_lacks(cli: Cli, tmp_path: Path) -> None:
    model = ending_in(tmp_path / "m.onnx", ("", "Relu"), opset=99)
    with pytest.raises(ModelError, match=r"opset 99 of ai\.onnx, .* knows up to \d+\. Export"):
        check_supported(model)
    given = ("--model", model, "--target", "rpi5", "--out", tmp_path / "run", "--json")
    assert document(cli("plan", *given).out)["candidates"]
