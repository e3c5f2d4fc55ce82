"""Where models come from: files, factories and names, compared with what they were made into."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from saccade.errors import GoalError, ModelError
from saccade.model_reference import is_name
from saccade.models.conversions import torch_to_onnx
from saccade.models.conversions.contract import ConversionRequest, conversion_to
from saccade.models.equivalence import check_same, difference
from saccade.models.files import model_file
from saccade.models.onnx_run import run_once
from saccade.models.sources.contract import SourceRequest
from saccade.models.sources.resolve import resolve_model
from saccade.models.sources.torchvision import _preprocessing_of
from saccade.pipeline.config import RuntimeOptions
from saccade.playbook.prepare import prepare
from saccade.progress import SilentProgress
from saccade.runtimes.contract import SessionRequest
from saccade.spec import make_spec
from saccade.study import RunFolder

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

HW = (32, 32)
MODULE = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem = torch.nn.Conv2d(3, 8, 3, 2, 1)
        self.norm = torch.nn.BatchNorm2d(8)
        self.head = torch.nn.Linear(8, 5)

    def forward(self, image):
        return self.head(torch.relu(self.norm(self.stem(image))).mean((2, 3)))

def net():
    return Net()

def nothing():
    return 3

def broken():
    raise ValueError("no such thing")

class Undecided(torch.nn.Module):
    def forward(self, image):
        return image if float(image.sum()) > 0 else -image

def undecided():
    return Undecided()
"""


@pytest.fixture
def source_file(tmp_path: Path) -> Path:
    path = tmp_path / "nets.py"
    path.write_text(MODULE, encoding="utf-8")
    return path


def asked(reference: str, folder: Path, **settings: Any) -> SourceRequest:
    return SourceRequest(reference, folder / "made", input_size=HW[0], **settings)


def module_of(source_file: Path) -> Any:
    names: dict[str, Any] = {"__name__": "nets"}
    exec(source_file.read_text(encoding="utf-8"), names)
    return names["net"]().eval()


def same_answers(source_file: Path, graph: Path, module: Any = None) -> bool:
    tensor = np.random.default_rng(1).normal(size=(1, 3, *HW)).astype(np.float32)
    with torch.inference_mode():
        expected = (module or module_of(source_file))(torch.from_numpy(tensor)).numpy()
    (found,) = run_once(onnx.load(graph), {"images": tensor})
    return difference(expected, found) < 1e-4


@pytest.mark.parametrize(
    ("reference", "named"),
    [
        ("torchvision:resnet50", True),
        ("timm:mobilenetv3_small_100", True),
        ("package.module:factory", True),
        ("C:/models/a.onnx", False),
        ("models/a.onnx", False),
        ("nets.py:net", False),
        ("a.onnx", False),
    ],
)
def test_names_are_told_from_paths(reference: str, named: bool) -> None:
    assert is_name(reference) is named


def test_a_spec_leaves_names_alone_and_makes_paths_absolute(tmp_path: Path) -> None:
    assert make_spec({"model": "torchvision:resnet50"}, tmp_path).model == "torchvision:resnet50"
    assert make_spec({"model": "n.py:net"}, tmp_path).model == str(tmp_path / "n.py:net")
    given = make_spec({"model": "timm:x", "weights": "w.pth"}, tmp_path)
    assert given.weights == tmp_path / "w.pth"


def test_a_factory_in_a_file(source_file: Path, tmp_path: Path) -> None:
    found = resolve_model(asked(f"{source_file}:net", tmp_path))
    assert found.model.format == "torch_export"
    assert same_answers(source_file, found.graph)
    again = resolve_model(asked(f"{source_file}:net", tmp_path))
    # A new export would have another hash, and no trial of an earlier run would count any more.
    assert again.model.sha256 == found.model.sha256


def test_a_factory_in_a_module_with_weights(
    source_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    module = module_of(source_file)
    with torch.no_grad():
        module.head.bias.add_(1)
    # As training scripts save it: nested, and from a wrapped module.
    state = {f"module.{name}": value for name, value in module.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "w.pth")
    found = resolve_model(asked("nets:net", tmp_path, weights=tmp_path / "w.pth"))
    assert same_answers(source_file, found.graph, module)
    assert "w.pth" in found.notes[0]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nothing", "returned int, not an nn.Module"),
        ("broken", "failed: ValueError: no such thing"),
        ("missing", "cannot be imported"),
        ("undecided", "torch.export refuses the module"),
    ],
)
def test_factories_that_cannot_be_used(
    source_file: Path, tmp_path: Path, name: str, said: str
) -> None:
    with pytest.raises(ModelError, match=said):
        resolve_model(asked(f"{source_file}:{name}", tmp_path))


def test_torchscript_and_exported_programs(source_file: Path, tmp_path: Path) -> None:
    module, example = module_of(source_file), torch.zeros(1, 3, *HW)
    torch.jit.trace(module, example).save(str(tmp_path / "net.pt"))
    torch.export.save(torch.export.export(module, (example,)), str(tmp_path / "net.pt2"))
    for name in ("net.pt", "net.pt2"):
        found = resolve_model(asked(str(tmp_path / name), tmp_path / name.replace(".", "_")))
        assert found.model.format == "torch_export"
        assert same_answers(source_file, found.graph)


def test_pickles_are_refused_without_being_run(source_file: Path, tmp_path: Path) -> None:
    torch.save(module_of(source_file).state_dict(), tmp_path / "state.pt")
    with pytest.raises(ModelError, match="holds no program"):
        resolve_model(asked(str(tmp_path / "state.pt"), tmp_path))
    (tmp_path / "half.pt2").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(ModelError, match=r"cannot load half\.pt2"):
        resolve_model(asked(str(tmp_path / "half.pt2"), tmp_path))


def test_weights_of_another_architecture_are_refused(source_file: Path, tmp_path: Path) -> None:
    state = module_of(source_file).state_dict()
    del state["head.bias"]
    state["extra"] = torch.zeros(1)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"1 missing \(head\.bias\); 1 too many \(extra\)"):
        resolve_model(asked(f"{source_file}:net", tmp_path, weights=tmp_path / "w.pth"))
    (tmp_path / "bad.pth").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="cannot be loaded"):
        resolve_model(asked(f"{source_file}:net", tmp_path, weights=tmp_path / "bad.pth"))


def test_unknown_references_say_what_is_known(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no model file at .*torchvision:NAME"):
        resolve_model(asked(str(tmp_path / "none.foo"), tmp_path))
    pytest.importorskip("torchvision")
    with pytest.raises(ModelError, match=r"Did you mean .*mobilenet_v2"):
        resolve_model(asked("torchvision:mobilenetv2", tmp_path))


def test_a_torchvision_model_brings_its_preprocessing(tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    request = SourceRequest("torchvision:squeezenet1_1", tmp_path, random_weights=True)
    found = resolve_model(request)
    assert not found.trained
    assert found.hints["mean"] == (0.485, 0.456, 0.406)
    assert found.hints["crop_share"] == pytest.approx(224 / 256)
    assert len(found.hints["class_names"]) == 1000


def test_a_timm_model_brings_its_preprocessing(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    request = SourceRequest("timm:test_vit", tmp_path, random_weights=True)
    found = resolve_model(request)
    assert found.hints["fit"] == "center_crop"
    assert onnx.load(found.graph).graph.input[0].name == "images"


def test_torchvisions_own_weights_bring_their_own_preprocessing(tmp_path: Path) -> None:
    path = tmp_path / "renamed.pth"
    path.write_bytes(b"the weights of the first version")
    request = SourceRequest("torchvision:net", tmp_path, weights=path)
    digits = model_file(path).sha256[:8]
    first = SimpleNamespace(name="V1", url=f"https://models.invalid/net-{digits}.pth")
    second = SimpleNamespace(name="V2", url="https://models.invalid/net-00000000.pth")
    assert _preprocessing_of(request, [second, first], second)[0] is first
    entry, told = _preprocessing_of(request, [second], second)
    assert entry is second
    assert "the preprocessing of V2 is assumed" in told and "crop_share" in told
    assert _preprocessing_of(replace(request, weights=None), [first], second) == (second, "")


def test_what_is_assumed_of_given_weights_is_noted(tmp_path: Path) -> None:
    torchvision = pytest.importorskip("torchvision")
    net = torchvision.models.squeezenet1_1(weights=None)
    torch.save(net.state_dict(), tmp_path / "w.pth")
    found = resolve_model(asked("torchvision:squeezenet1_1", tmp_path, weights=tmp_path / "w.pth"))
    assert "weights from w.pth, which are none of torchvision's own" in found.notes[0]
    assert "IMAGENET1K_V1 is assumed" in found.notes[0]


def test_random_weights_have_no_accuracy(source_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    from PIL import Image

    for name in ("cat", "dog"):
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.new("RGB", (64, 64)).save(tmp_path / "data" / name / "0.png")
    (tmp_path / "data" / "labels.csv").write_text("file,label\ncat/0.png,1\ndog/0.png,2\n")
    spec = make_spec(
        {
            "task": "classification",
            "model": "torchvision:squeezenet1_1",
            "random_weights": True,
            "data": str(tmp_path / "data"),
            "goals": ["top1_drop<=0.01"],
        }
    )
    with pytest.raises(GoalError, match="means nothing for torchvision:squeezenet1_1"):
        prepare(spec, RunFolder(tmp_path / "run"), SilentProgress())


def test_a_conversion_that_changes_outputs_names_the_layer(
    source_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = torch_to_onnx._onnx

    def spoiled(program: Any, name: str) -> bytes:
        model = onnx.load_from_string(real(program, name))
        weight = next(i for i in model.graph.initializer if i.name == "head.weight")
        changed = 1.5 * numpy_helper.to_array(weight)
        weight.CopyFrom(numpy_helper.from_array(changed, weight.name))
        return bytes(model.SerializeToString())

    monkeypatch.setattr(torch_to_onnx, "_onnx", spoiled)
    with pytest.raises(ModelError, match=r"answers differently .* layer to differ is 'linear'"):
        resolve_model(asked(f"{source_file}:net", tmp_path))
    # What is wrong must not be taken for a finished conversion by the next run.
    assert not list((tmp_path / "made").glob("*.onnx"))


def test_an_operator_without_onnx_is_named(tmp_path: Path) -> None:
    class Odd(torch.nn.Module):  # type: ignore[misc]
        def forward(self, image: Any) -> Any:
            return torch.linalg.eigvals(image[:, :, :3, :3].double()).real

    program = torch.export.export(Odd(), (torch.zeros(1, 3, *HW),))
    torch.export.save(program, str(tmp_path / "odd.pt2"))
    request = ConversionRequest(tmp_path, HW, np.zeros((1, 3, *HW), np.float32))
    with pytest.raises(ModelError, match="linalg_eig"):
        torch_to_onnx.TorchToOnnx.convert(model_file(tmp_path / "odd.pt2"), request)


def test_conversions_are_found_by_format() -> None:
    assert conversion_to("torch_export", ("onnx",)) is torch_to_onnx.TorchToOnnx
    assert conversion_to("openvino_ir", ("torch_export",)) is None


def test_differences_are_relative_and_strict_about_shape_and_nan() -> None:
    one = np.array([1.0, -4.0])
    assert difference(one, one + 0.04) == pytest.approx(0.01)
    assert difference(one, one[:1]) == float("inf")
    assert difference(one, np.array([1.0, np.nan])) == float("inf")
    with pytest.raises(ModelError, match=r"off by 1\.0%"):
        check_same([one], [one + 0.04], "It")
    with pytest.raises(ModelError, match="has 0 outputs"):
        check_same([one], [], "It")


@pytest.mark.parametrize("level", ["default", "torchscript", "compile"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_every_way_of_running_answers_the_same(
    source_file: Path, tmp_path: Path, level: str, channels_last: bool
) -> None:
    from saccade.runtimes.torch import Torch

    module = module_of(source_file)
    program = torch.export.export(module, (torch.zeros(1, 3, *HW),))
    torch.export.save(program, str(tmp_path / "net.pt2"))
    options = RuntimeOptions(graph_level=level, channels_last=channels_last)
    request = SessionRequest(model_file(tmp_path / "net.pt2"), HW, options, "images")
    tensor = np.random.default_rng(1).normal(size=(1, 3, *HW)).astype(np.float32)
    session = Torch.open(request)
    try:
        (found,) = session.infer(tensor)
    finally:
        session.close()
    with torch.inference_mode():
        expected = module(torch.from_numpy(tensor)).numpy()
    assert difference(expected, found) < 1e-4


def test_the_stamp_is_json(source_file: Path, tmp_path: Path) -> None:
    resolve_model(asked(f"{source_file}:net", tmp_path))
    stamp = json.loads((tmp_path / "made" / "model.source.json").read_text(encoding="utf-8"))
    assert stamp["hw"] == list(HW)
