"""``runtimes``: only those are tried beside the model's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import Cli, Inputs, document, refused

from saccade.errors import SpecError
from saccade.playbook.prepare import only
from saccade.runtimes.contract import Availability

HERE = Availability(True, "1.0", ("onnx",), ("fp32",))
FOUND = {"onnxruntime": HERE, "openvino": HERE, "litert": HERE, "ncnn": Availability(False)}


def test_others_count_as_absent() -> None:
    found = only(("litert",), "onnxruntime", FOUND)
    assert [name for name, a in found.items() if a.ok] == ["onnxruntime", "litert"]
    assert "asked for" in found["openvino"].detail
    assert only((), "onnxruntime", FOUND) == FOUND


def test_an_unknown_one_names_the_nearest() -> None:
    with pytest.raises(SpecError, match="Did you mean 'litert'"):
        only(("liter",), "onnxruntime", FOUND)


def test_the_plan_keeps_to_them(cli: Cli, inputs: Inputs, tmp_path: Path) -> None:
    given = (*inputs.flags, "--runtime", "onnxruntime", "--out", tmp_path / "run")
    plan = document(cli("plan", *given, "--json").out)
    labels = [change["change"] for change in plan["changes"]]
    assert labels
    assert not [label for label in labels if "openvino" in label]
    said = refused(cli, "plan", *inputs.flags, "--runtime", "opervino", "--out", tmp_path / "x")
    assert "openvino" in said
