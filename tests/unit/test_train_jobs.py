"""Jobs train: files that `train init` writes, and models with data; what is wrong is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import Cli, document, refused
from labelled_pictures import WRITERS, write_boxes, write_classes, write_masks

from saccade.errors import DataError, ModelError, SpecError
from saccade.playbook.training_draft import draft_job
from saccade.train.config import BatchSettings, TrainingConfig
from saccade.train.evaluating import evaluate
from saccade.train.job import TrainingJob, open_job, refer
from saccade.train.labelled import open_split
from saccade.train.loop import TrainingLoop
from saccade.train.metrics import BoxAveragePrecision, MeanIou
from saccade.train.run_file import check_job_unchanged, read_run_file, write_run_file

pytestmark = pytest.mark.usefixtures("one_thread")


def a_few_steps(job: TrainingJob, config: TrainingConfig, steps: int = 2) -> Any:
    loop = TrainingLoop(job, config)
    losses = [float(loop.step()) for _ in range(steps)]
    assert np.isfinite(losses).all()
    judged = evaluate(loop)
    loop.close()
    return losses, judged


# -- train init ------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", list(WRITERS))
def test_a_job_that_init_writes_trains_as_it_stands(cli: Cli, tmp_path: Path, task: str) -> None:
    data, job = WRITERS[task](tmp_path / "data"), tmp_path / "job.py"
    said = cli("train", "init", "--task", task, "--data", data, "-o", job, "--json")
    facts = document(said.out)
    assert facts["train"] > facts["val"] > 0
    # Small, so that the test is quick; the rest is as it was written.
    text = job.read_text()
    small = {"SIDE = 224": 32, "SIDE = 256": 32, "SIDE = 320": 48, "workers = 2": 0}
    for line, value in small.items():
        text = text.replace(line, f"{line.partition(' ')[0]} = {value}")
    job.write_text(text.replace("batch_size = 32", "batch_size = 4").replace("= 8\n", "= 4\n"))
    out = tmp_path / "run"
    ended = cli("train", "run", job, "--out", out, "--epochs", 1, "--json", "--device", "cpu")
    assert ended.code == 0, ended.err
    (epoch,) = document(ended.out)["history"]
    assert np.isfinite([epoch["train_loss"], epoch["loss"]]).all()
    assert 0 <= epoch["metric"] <= 1
    assert (out / "model.pt").is_file()


def test_init_leaves_an_existing_file_alone(cli: Cli, tmp_path: Path) -> None:
    data, job = write_classes(tmp_path / "data"), tmp_path / "job.py"
    job.write_text("mine")
    arguments = ("train", "init", "--task", "classification", "--data", data, "-o", job)
    assert "exists and was left alone" in refused(cli, *arguments)
    assert job.read_text() == "mine"


def test_init_says_which_tasks_there_are(cli: Cli, tmp_path: Path) -> None:
    data = write_classes(tmp_path / "data")
    said = refused(cli, "train", "init", "--task", "tracking", "--data", data)
    assert "classification, detection, segmentation" in said


# -- data and metrics ------------------------------------------------------------------------------


def test_data_without_a_split_are_divided_once_and_for_all(tmp_path: Path) -> None:
    data = write_classes(tmp_path)
    train, val = (open_split(data, "classification", split) for split in ("train", "val"))
    assert (len(train), len(val)) == (16, 4)
    paths = [{train[i][0] for i in range(16)}, {val[i][0] for i in range(4)}]
    assert not paths[0] & paths[1]
    assert train.class_names == ("cat", "dog")


def test_data_without_labels_cannot_be_trained_on(tmp_path: Path) -> None:
    write_classes(tmp_path)
    with pytest.raises(DataError, match=r"no labels to train .* on"):
        open_split(tmp_path / "cat", "classification", "train")


def test_a_broken_file_is_counted_by_the_training_and_named_by_init(tmp_path: Path) -> None:
    data = write_classes(tmp_path)
    path = sorted((data / "cat").iterdir())[1]
    path.write_bytes(path.read_bytes()[:60])
    train, val = (open_split(data, "classification", split) for split in ("train", "val"))
    assert len(train) + len(val) == 20
    with pytest.raises(DataError, match=path.name):
        train[len(train) - 1]
    text, _ = draft_job("classification", data)
    assert "1 cannot be read" in text and path.name in text


def test_labels_for_another_task_are_named(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "classes")
    with pytest.raises(DataError, match=r"to train detection on.*labels for classification\.$"):
        open_split(folder, "detection", "train")


def test_boxes_and_masks_are_what_the_files_say(tmp_path: Path) -> None:
    boxes = open_split(write_boxes(tmp_path / "boxes"), "detection", "train")
    _, corners, classes = boxes[1]
    assert (corners.tolist(), classes.tolist()) == ([[4, 6, 25, 30]], [1])
    assert len(boxes[0][1]) == 0
    masks = open_split(write_masks(tmp_path / "masks"), "segmentation", "val")
    assert (masks.class_names, masks.void_ids) == (("road", "sky", "void"), (2, 255))


def test_mean_iou_leaves_void_out() -> None:
    target = torch.tensor([[[0, 0, 1, 1], [255, 255, 255, 255]]])
    scores = torch.zeros(1, 3, 2, 4)
    scores[:, 0, :, :3], scores[:, 1, :, 3] = 1, 1  # three pixels of class 0, one of class 1
    metric = MeanIou(3)
    metric.update(scores, target)
    assert metric.compute() == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_boxes_that_are_right_have_full_precision() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [20, 20, 40, 50]])
    labels = torch.tensor([1, 2])
    right, wrong = BoxAveragePrecision(), BoxAveragePrecision()
    found = {"boxes": boxes, "labels": labels, "scores": torch.tensor([0.9, 0.8])}
    right.update({"detections": [found]}, [{"boxes": boxes, "labels": labels}])
    wrong.update({"detections": [found]}, [{"boxes": boxes + 60, "labels": labels}])
    assert right.compute() == pytest.approx(1.0)
    assert wrong.compute() == 0.0


# -- a model and data ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("torchvision:mobilenet_v3_small", "classification"),
        ("timm:test_resnet", "classification"),
        ("torchvision:lraspp_mobilenet_v3_large", "segmentation"),
        ("torchvision:ssdlite320_mobilenet_v3_large", "detection"),
    ],
)
def test_a_model_with_data_is_a_job(tmp_path: Path, name: str, task: str) -> None:
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    data = WRITERS[task](tmp_path)
    reference = refer(name, {"task": task, "data": str(data)})
    assert reference.kind == "module"
    job = open_job(reference)
    _, judged = a_few_steps(job, TrainingConfig(reference, batch=BatchSettings(2)), steps=1)
    assert judged.metric is not None


def test_a_factory_with_data_is_a_job_and_starts_from_weights(tmp_path: Path) -> None:
    data = write_classes(tmp_path / "data")
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "def net(classes=2):\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),\n"
        "                         nn.Linear(4, classes))\n"
    )
    torch.manual_seed(1)
    weights = {"0.weight": torch.randn(4, 3, 3, 3), "0.bias": torch.ones(4)}
    weights |= {"3.weight": torch.ones(2, 4), "3.bias": torch.ones(2)}
    torch.save(weights, tmp_path / "w.pt")
    settings = {"task": "classification", "data": str(data), "weights": str(tmp_path / "w.pt")}
    job = open_job(refer(f"{tmp_path}/mine.py:net", settings))
    assert torch.equal(job.model().state_dict()["module.0.weight"], weights["0.weight"])


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("torchvision:resnet18", {}, "know its task and data"),
        ("torchvision:resnet18", {"task": "poses", "data": "x"}, "no training job for the task"),
    ],
)
def test_what_a_model_lacks_is_said(name: str, settings: dict[str, str], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        refer(name, settings)


def test_a_model_for_another_task_is_refused(tmp_path: Path) -> None:
    settings = {"task": "segmentation", "data": str(write_masks(tmp_path))}
    with pytest.raises(ModelError, match="is for classification, not for segmentation"):
        open_job(refer("torchvision:resnet18", settings)).model()


# -- errors of a job -------------------------------------------------------------------------------


class Unsized:
    def __getitem__(self, index: int) -> Any:
        return torch.zeros(3, 8, 8), 0


def wrong(**changes: Any) -> TrainingLoop:
    from tiny_training import tiny_config, tiny_job

    return TrainingLoop(tiny_job(**changes), tiny_config())


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"model": lambda: "net"}, SpecError, "returned str, not an nn.Module"),
        ({"optimizer": lambda model: None}, SpecError, "optimizer"),
        ({"dataset": lambda split: Unsized()}, DataError, "__len__"),
        ({"dataset": lambda split: []}, DataError, "is empty"),
        (
            {"loss": lambda o, t: torch.nn.functional.cross_entropy(o, t, reduction="none")},
            SpecError,
            r"tensor \(4,\) float32 on cpu, not one number",
        ),
        ({"loss": lambda o, t: 1.0}, SpecError, "returned float, not a tensor"),
        ({"loss": lambda o, t: o.detach().mean()}, SpecError, "has no gradient"),
        (
            {"loss": lambda o, t: torch.nn.functional.cross_entropy(o[:2], t)},
            SpecError,
            r"It got output tensor \(4, 4\) float32 on cpu and tensor \(4,\) int64",
        ),
        (
            {"loss": lambda o, t: (o * torch.ones(4, device="meta")).sum()},
            SpecError,
            "another device|on the device 'meta'",
        ),
        (
            {"model": lambda: torch.nn.Linear(5, 4)},
            SpecError,
            r"model failed on its input.*input tensor \(4, 3, 8, 8\)",
        ),
        ({"transforms": lambda split: lambda sample: sample[0]}, DataError, "not a pair"),
        (
            {"transforms": lambda split: lambda s: (s[0][:, : 3 + s[1]], s[1])},
            SpecError,
            r"could not be made of its samples: RuntimeError: stack expects.*bring all .* one size",
        ),
        (
            {"collate": torch.stack},
            SpecError,
            "could not be made of its samples: TypeError.*list of 4, the first tuple of 2",
        ),
        (
            {"scheduler": lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer)},
            SpecError,
            r"scheduler\(\) failed: TypeError.*step_size",
        ),
    ],
)
def test_what_is_wrong_with_a_job_is_said(
    changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        wrong(**changes).step()


def test_what_is_wrong_with_a_metric_is_said() -> None:
    with pytest.raises(SpecError, match=r"metric failed: AttributeError.*tensor \(4, 4\) float32"):
        evaluate(wrong(metric=lambda output, target: output.nothing))


def test_a_missing_function_is_named(cli: Cli, tmp_path: Path) -> None:
    job = tmp_path / "job.py"
    job.write_text("def models(): pass\n")
    said = refused(cli, "train", "run", job, "--out", tmp_path / "run")
    assert "has no function 'model'. Did you mean 'models'?" in said


# -- the run folder --------------------------------------------------------------------------------

JOB = """
import torch
batch_size = 4
epochs = 1
def model(): return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2))
def dataset(split): return [(torch.full((3, 2, 2), float(i)), i % 2) for i in range(8)]
def loss(output, target): return torch.nn.functional.cross_entropy(output, target)
def optimizer(model): return torch.optim.SGD(model.parameters(), 0.01)
"""


def test_a_run_folder_trains_its_job_as_long_as_that_is_the_same(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, out = tmp_path / "job.py", tmp_path / "run"
    job.write_text(JOB)
    monkeypatch.chdir(tmp_path)
    reference = refer("job.py")
    write_run_file(out, TrainingConfig(reference, batch=BatchSettings(2)), 3)
    assert read_run_file(out).config.job.name == str(job)
    assert "holds the training of another" in refused(cli, "train", "run", job, "--out", out)
    monkeypatch.chdir("/")
    ended = cli("train", "run", out, "--json")
    assert ended.code == 0, ended.err
    result = document(ended.out)
    assert (result["epochs_done"], result["config"]["batch"]["size"]) == (3, 2)
    assert result == json.loads((out / "training-result.json").read_text())
    longer = document(cli("train", "run", out, "--epochs", 4, "--json").out)
    assert [e["kind"] for e in longer["events"]] == ["resumed"]
    assert longer["epochs_done"] == 4
    job.write_text(JOB + "# changed\n")
    said = refused(cli, "train", "run", out)
    assert "was changed since this run began" in said
    assert "--out <new folder>" in said


def test_a_factory_in_a_file_is_the_same_job_wherever_it_is_named_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nets.py").write_text("def net(): ...")
    monkeypatch.chdir(tmp_path)
    reference = refer("nets.py:net", {"task": "classification", "data": "here"})
    write_run_file(tmp_path / "run", TrainingConfig(reference), 2)
    monkeypatch.chdir("/")
    found = read_run_file(tmp_path / "run").config.job
    assert found.name == f"{tmp_path}/nets.py:net"
    check_job_unchanged(found)
    (tmp_path / "nets.py").write_text("def net(): return 1")
    with pytest.raises(SpecError, match="was changed"):
        check_job_unchanged(found)


def test_a_nan_ends_the_command_with_a_line_and_a_result(cli: Cli, tmp_path: Path) -> None:
    job, out = tmp_path / "job.py", tmp_path / "run"
    job.write_text(JOB.replace("(output, target)\ndef o", "(output * float('nan'), target)\ndef o"))
    assert "The loss of step 0" in refused(cli, "train", "run", job, "--out", out, code=1)
    result = json.loads((out / "training-result.json").read_text())
    assert result["status"] == "failed"
    assert [e["kind"] for e in result["events"]] == ["non-finite loss"]
    assert (out / "nonfinite-step0.pt").is_file()


def test_without_a_folder_it_is_said(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(JOB)
    assert "--out runs/NAME" in refused(cli, "train", "run", tmp_path / "job.py")


def test_two_processes_do_not_train_in_one_folder(tmp_path: Path) -> None:
    import subprocess
    import sys

    from saccade.train.folder_lock import LOCK, only_trainer

    hold = (
        "import fcntl, sys, time\n"
        f"f = open({str(tmp_path / LOCK)!r}, 'w'); fcntl.lockf(f, fcntl.LOCK_EX)\n"
        "print('held', flush=True); sys.stdin.read()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout is not None and other.stdout.readline() == b"held\n"
    with pytest.raises(SpecError, match="Another process trains"), only_trainer(tmp_path):
        pass
    other.communicate()
    with only_trainer(tmp_path):
        pass
