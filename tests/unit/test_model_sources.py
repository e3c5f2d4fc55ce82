"""Where models come from: files, factories and names, compared with what they were made into."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from onnx import numpy_helper
from PIL import Image
from tiny_system import picture, write_video

from saccade.errors import GoalError, ModelError
from saccade.model_reference import path_in
from saccade.models import script_onnx, torch_module
from saccade.models.conversions import torch_to_onnx
from saccade.models.conversions.contract import ConversionRequest, conversion_to
from saccade.models.equivalence import check_same, difference
from saccade.models.files import model_file
from saccade.models.onnx_run import run_once
from saccade.models.sources.contract import SourceRequest, noise
from saccade.models.sources.resolve import resolve_model
from saccade.models.sources.torchvision import _preprocessing_of
from saccade.models.torch_weights import load_weights
from saccade.pipeline.config import RuntimeOptions
from saccade.playbook.draft import draft_spec
from saccade.playbook.model import COMPARED, images_of
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


def stronger_head(model: onnx.ModelProto) -> onnx.ModelProto:
    weight = next(i for i in model.graph.initializer if i.name == "head.weight")
    changed = 1.5 * numpy_helper.to_array(weight)
    weight.CopyFrom(numpy_helper.from_array(changed, weight.name))
    return model


@pytest.mark.parametrize(
    ("reference", "named"),
    [
        ("torchvision:resnet50", True),
        ("timm:mobilenetv3_small_100", True),
        ("package.module:factory", True),
        ("C:/models/a.onnx", False),
        ("models/a.onnx", False),
        ("nets.py:net", False),
        ("ultralytics:yolo11n", True),
        ("ultralytics:best.pt", False),
        ("a.onnx", False),
    ],
)
def test_names_are_told_from_paths(reference: str, named: bool) -> None:
    before, path, after = path_in(reference)
    assert before + path + after == reference
    assert (not path) is named


def test_a_spec_leaves_names_alone_and_makes_paths_absolute(tmp_path: Path) -> None:
    assert make_spec({"model": "torchvision:resnet50"}, tmp_path).model == "torchvision:resnet50"
    assert make_spec({"model": "n.py:net"}, tmp_path).model == str(tmp_path / "n.py:net")
    checkpoint = make_spec({"model": "ultralytics:best.pt"}, tmp_path).model
    assert checkpoint == f"ultralytics:{tmp_path / 'best.pt'}"
    given = make_spec({"model": "timm:x", "weights": "w.pth"}, tmp_path)
    assert given.weights == tmp_path / "w.pth"


def test_a_drafted_spec_names_the_file_of_a_factory_from_where_it_lies(
    source_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text, _ = draft_spec("nets.py:net", None, None, tmp_path / "specs", "classification")
    spec = make_spec(yaml.safe_load(text), tmp_path / "specs")
    assert spec.model == f"{source_file}:net"


def test_a_factory_in_a_file(source_file: Path, tmp_path: Path) -> None:
    found = resolve_model(asked(f"{source_file}:net", tmp_path))
    assert found.model.format == "torch_export"
    assert same_answers(source_file, found.graph)
    again = resolve_model(asked(f"{source_file}:net", tmp_path))
    # A new export would have another hash, and no trial of an earlier run would count any more.
    assert again.model.sha256 == found.model.sha256


def test_a_network_that_changed_with_the_same_weights_is_exported_again(
    source_file: Path, tmp_path: Path
) -> None:
    first = resolve_model(asked(f"{source_file}:net", tmp_path))
    source_file.write_text(MODULE.replace("torch.relu", "torch.sigmoid"), encoding="utf-8")
    second = resolve_model(asked(f"{source_file}:net", tmp_path))
    assert second.model.sha256 != first.model.sha256
    assert same_answers(source_file, second.graph)
    assert resolve_model(asked(f"{source_file}:net", tmp_path)).model == second.model


def test_what_a_file_raises_is_said_and_leaves_no_half_module(tmp_path: Path) -> None:
    (tmp_path / "half.py").write_text("made = undefined\n", encoding="utf-8")
    with pytest.raises(ModelError, match=r"cannot be imported: NameError: name 'undefined'"):
        resolve_model(asked(f"{tmp_path / 'half.py'}:net", tmp_path))
    assert "half" not in sys.modules


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


@pytest.mark.parametrize("name", ["net.pt", "net.pt2"])
def test_program_files_take_other_weights(source_file: Path, tmp_path: Path, name: str) -> None:
    module, example = module_of(source_file), torch.zeros(1, 3, *HW)
    torch.jit.trace(module, example).save(str(tmp_path / "net.pt"))
    torch.export.save(torch.export.export(module, (example,)), str(tmp_path / "net.pt2"))
    with torch.no_grad():
        module.head.bias.add_(1)
        module.norm.running_mean.add_(0.5)
    torch.save(module.state_dict(), tmp_path / "w.pth")
    request = asked(str(tmp_path / name), tmp_path, weights=tmp_path / "w.pth")
    found = resolve_model(request)
    assert same_answers(source_file, found.graph, module)
    assert found.model.path != request.reference
    assert "w.pth" in found.notes[0]
    assert resolve_model(request).model.sha256 == found.model.sha256
    state = module.state_dict()
    del state["head.bias"]
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"1 missing \(head\.bias\)"):
        resolve_model(request)
    with pytest.raises(ModelError, match=rf"{name} has weights of its own"):
        resolve_model(replace(request, weights=None, random_weights=True))


def test_torchscript_that_the_newer_exporter_refuses_becomes_onnx(
    source_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._export import converter

    def refuses(*_: Any) -> Any:
        raise RuntimeError("prim::Surprise is not supported")

    monkeypatch.setattr(converter, "TS2EPConverter", refuses)
    module = module_of(source_file)
    torch.jit.trace(module, torch.zeros(1, 3, *HW)).save(str(tmp_path / "net.pt"))
    found = resolve_model(asked(str(tmp_path / "net.pt"), tmp_path))
    assert (found.model.format, found.model.path) == ("onnx", str(found.graph))
    assert same_answers(source_file, found.graph)
    assert "torch.export refuses it, so it runs as ONNX" in found.notes[0]
    assert resolve_model(asked(str(tmp_path / "net.pt"), tmp_path)).graph == found.graph
    spoil = script_onnx._exported

    def spoiled(*given: Any) -> bytes:
        return bytes(stronger_head(onnx.load_from_string(spoil(*given))).SerializeToString())

    monkeypatch.setattr(script_onnx, "_exported", spoiled)
    with pytest.raises(ModelError, match=r"Surprise.* lacks is 'head: (linear|addmm) "):
        resolve_model(asked(str(tmp_path / "net.pt"), tmp_path / "other"))
    assert not list((tmp_path / "other" / "made").glob("*.onnx"))


@pytest.mark.parametrize("name", ["net.pt", "nets.py:net"])
def test_an_export_that_changes_outputs_names_the_layer(
    source_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    torch.jit.trace(module_of(source_file), torch.zeros(1, 3, *HW)).save(str(tmp_path / "net.pt"))
    real = torch_module.read_program

    def spoiled(path: Path) -> Any:
        program = real(path)
        with torch.no_grad():
            weight = next(v for n, v in program.state_dict.items() if n.endswith("stem.weight"))
            weight.mul_(1.5)
        return program

    monkeypatch.setattr(torch_module, "read_program", spoiled)
    with pytest.raises(ModelError, match=r"answers differently .* lacks is 'stem"):
        resolve_model(asked(str(tmp_path / name), tmp_path))


def test_factories_without_weights_are_judged_by_looks(source_file: Path, tmp_path: Path) -> None:
    found = resolve_model(asked(f"{source_file}:net", tmp_path))
    assert not found.trained
    assert "looks untrained" in found.notes[0]
    with source_file.open("a", encoding="utf-8") as file:
        file.write("\ndef own():\n    net = Net()\n    net.norm.running_mean.add_(0.1)\n")
        file.write("    return net\n")
    found = resolve_model(asked(f"{source_file}:own", tmp_path))
    assert found.trained
    assert "does not look untrained" in found.notes[0]
    assert not resolve_model(asked(f"{source_file}:own", tmp_path, random_weights=True)).trained
    torch.save(module_of(source_file).state_dict(), tmp_path / "w.pth")
    # Weights that the user gives are what the user says.
    given = asked(f"{source_file}:net", tmp_path, weights=tmp_path / "w.pth")
    assert resolve_model(given).trained


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


def test_untrained_weights_have_no_accuracy_unless_asked_for(
    source_file: Path, tmp_path: Path
) -> None:
    for index in range(8):
        folder = tmp_path / "data" / ("cat", "dog")[index % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(index).integers(0, 255, (64, 64, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    rows = [f"{('cat', 'dog')[i % 2]}/{i}.png,{i % 2}" for i in range(8)]
    (tmp_path / "data" / "labels.csv").write_text("\n".join(["file,label", *rows]))
    wanted = {
        "task": "classification",
        "model": f"{source_file}:net",
        "data": str(tmp_path / "data"),
        "overrides": {"input_size": HW[0]},
        "goals": ["top1_drop<=0.01"],
    }
    with pytest.raises(GoalError, match=r"means nothing for .*nets\.py:net, .*'random_weights'"):
        prepare(make_spec(wanted), RunFolder(tmp_path / "run"), SilentProgress())
    asked_for = make_spec({**wanted, "random_weights": True})
    job = prepare(asked_for, RunFolder(tmp_path / "run"), SilentProgress())
    assert any("Random weights, as asked" in note for note in job.notes)


def test_conversions_are_compared_on_frames_of_the_video_not_on_its_neighbours(
    tmp_path: Path,
) -> None:
    write_video(tmp_path / "street.mp4", frames=3)
    Image.new("RGB", (64, 64), "white").save(tmp_path / "stray.png")
    spec = make_spec({"model": "n.onnx", "video": str(tmp_path / "street.mp4")})
    found = images_of(spec)((96, 128))
    assert found.shape == (COMPARED, 96, 128, 3)
    for index, frame in enumerate(found):
        # A codec changes some pixels; another frame or image would change all of them.
        assert np.abs(frame.astype(int) - picture(index)).mean() < 15
    live = make_spec({"model": "n.onnx", "video": "rtsp://camera.invalid/stream"})
    assert np.array_equal(images_of(live)((24, 32)), noise((24, 32)))


def test_conversions_are_compared_on_images_that_lie_apart_from_their_list(tmp_path: Path) -> None:
    (tmp_path / "apart").mkdir()
    (tmp_path / "lists").mkdir()
    Image.new("RGB", (64, 64), (200, 0, 0)).save(tmp_path / "apart" / "a.png")
    (tmp_path / "lists" / "labels.csv").write_text(f"file,label\n{tmp_path}/apart/a.png,0\n")
    data = str(tmp_path / "lists" / "labels.csv")
    spec = make_spec({"task": "classification", "model": "n.onnx", "data": data})
    assert images_of(spec)((8, 8))[:, 0, 0].tolist() == [[200, 0, 0]]


def test_a_conversion_that_changes_outputs_names_the_layer(
    source_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = torch_to_onnx._onnx

    def spoiled(program: Any, name: str) -> onnx.ModelProto:
        return stronger_head(real(program, name))

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


def test_an_exception_without_text_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise EOFError

    monkeypatch.setattr(torch, "load", fails)
    with pytest.raises(ModelError, match=r"cannot be loaded: EOFError\."):
        load_weights(torch.nn.Linear(1, 1), tmp_path / "weights.pt")


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
