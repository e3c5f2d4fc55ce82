"""Fine-tunings of a trained model, asked for by name, through the same loop and run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from saccade import plugins
from saccade.errors import SaccadeError, SpecError
from saccade.models.torch_program import read_program
from saccade.playbook.train_run import TrainingRequest, run_training
from saccade.runtimes.openvino_core import openvino_core
from saccade.testing.training_change_conformance import JOB
from saccade.train.job import open_job, refer
from saccade.train.recipe import joined, parse_recipes
from saccade.train.spec import make_training_spec


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job, and a run of it."""
    folder = tmp_path_factory.mktemp("recipes")
    (folder / "job.py").write_text(JOB.replace("8", "16"))
    run_training(TrainingRequest(str(folder / "job.py"), folder / "run"))
    return folder


def fine_tuned(workplace: Path, name: str, *recipes: str) -> dict[str, Any]:
    weights = workplace / "run" / "model.pt"
    settings = {"weights": str(weights), "recipe": joined(recipes) or ""}
    job = str(workplace / "job.py")
    return run_training(TrainingRequest(job, workplace / name, epochs=1, settings=settings))


def parameters(path: Path) -> int:
    return sum(tensor.numel() for tensor in torch.load(path, weights_only=True).values())


def test_a_run_leaves_a_program_that_answers_as_its_weights_do(workplace: Path) -> None:
    program = read_program(workplace / "run" / "model.pt2").module()
    model = open_job(refer(str(workplace / "job.py"))).model().eval()
    model.load_state_dict(torch.load(workplace / "run" / "model.pt", weights_only=True))
    image = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        assert torch.allclose(program(image), model(image), atol=1e-5)


def test_a_pruned_model_is_taught_by_what_it_was(workplace: Path) -> None:
    pytest.importorskip("torch_pruning")
    result = fine_tuned(workplace, "smaller", "distill", "prune=0.4")
    assert result["deployable"] == "model.pt2"
    (event,) = result["events"]
    assert event["kind"] == "it learns" and "answers and features (layers:" in event["detail"]
    whole, less = (parameters(workplace / run / "model.pt") for run in ("run", "smaller"))
    assert less < whole
    program = read_program(workplace / "smaller" / "model.pt2")
    # Neither the teacher's weights nor the channels that went are in it.
    assert sum(t.numel() for t in program.state_dict.values()) <= less
    assert program.module()(torch.rand(1, 3, 16, 16)).shape == (1, 4)


def test_a_quantized_model_becomes_an_openvino_file(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("nncf")
    pytest.importorskip("openvino")
    monkeypatch.setattr(os, "environ", dict(os.environ))
    result = fine_tuned(workplace, "rounded", "quantize")
    assert result["deployable"] == "model.xml"
    model = openvino_core().read_model(workplace / "rounded" / "model.xml")
    assert any(op.get_type_name() == "FakeQuantize" for op in model.get_ops())


def test_another_teacher_may_be_named(workplace: Path) -> None:
    teacher = f"{workplace / 'job.py'}:model@{workplace / 'run' / 'model.pt'}"
    assert fine_tuned(workplace, "taught", f"distill={teacher}")["deployable"] == "model.pt2"


def test_weights_of_another_model_are_refused(workplace: Path, tmp_path: Path) -> None:
    weights = torch.load(workplace / "run" / "model.pt", weights_only=True)
    weights.popitem()
    torch.save(weights, tmp_path / "less.pt")
    settings = {"weights": str(tmp_path / "less.pt"), "recipe": "distill"}
    with pytest.raises(SaccadeError):
        open_job(refer(str(workplace / "job.py"), settings)).model()


def test_mistakes_are_told(workplace: Path) -> None:
    with pytest.raises(SpecError, match="Did you mean 'prune'"):
        parse_recipes("prunes=0.3")
    with pytest.raises(SpecError, match="asked for twice"):
        parse_recipes(["prune=0.3", "prune=0.5"])
    with pytest.raises(SpecError, match="no share of channels"):
        fine_tuned(workplace, "none", "prune=much")
    with pytest.raises(SpecError, match="Give its state dict with --weights"):
        open_job(refer(str(workplace / "job.py"), {"recipe": "prune=0.3"}))
    with pytest.raises(SpecError, match="no recipe"):
        make_training_spec({"job": str(workplace / "job.py"), "recipe": "shrink"})


def test_what_cannot_be_exported_fails_no_training(tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(
        JOB.replace(
            "return nn.Sequential(\n", "return Odd(\n"
        ).replace(
            "class Noise:",
            "class Odd(nn.Sequential):\n"
            "    def forward(self, image):\n"
            "        return super().forward(image if image.sum().item() > 0 else -image)\n\n\n"
            "class Noise:",
        )
    )  # fmt: skip
    result = run_training(TrainingRequest(str(tmp_path / "job.py"), tmp_path / "run", epochs=1))
    assert result["status"] == "done"
    assert result["deployable"] is None
    assert "torch.export refuses it" in result["not_deployable"]


@pytest.mark.parametrize("name", plugins.names("recipes"))
def test_every_recipe_says_how_it_is_written(name: str) -> None:
    assert plugins.load("recipes", name).usage.startswith(name)
