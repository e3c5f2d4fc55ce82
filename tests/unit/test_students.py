"""Students: named by the user, raced, taught by the user's own model, judged like every change."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from tiny_system import write_video

from saccade.data.assemble import unlabelled_image
from saccade.data.contract import FrameOf
from saccade.errors import ChangeRefused, ModelError, SpecError
from saccade.models.description import Preprocessing
from saccade.models.files import model_file
from saccade.optimize import students as students_module
from saccade.optimize.change import PlanContext, Student
from saccade.optimize.changes.distill import Distill
from saccade.optimize.distill import Distillation
from saccade.optimize.plan import make_plan
from saccade.optimize.students import record_of, taught, taught_path
from saccade.optimize.training_frames import FrameSource
from saccade.pipeline.config import PipelineConfig
from saccade.pipeline.pipeline import Pipeline
from saccade.playbook.prepare import prepare
from saccade.playbook.students import with_students
from saccade.progress import SilentProgress
from saccade.spec import make_spec
from saccade.statistics import Comparison, Interval, RatioEstimate
from saccade.study import RunFolder
from saccade.tasks.classification import ClassificationTask
from saccade.testing.tiny_torch import CLASSES, HW, classifier_context, exported, residual_net

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from saccade.models.torch_program import looks_untrained, read_program, run_program  # noqa: E402
from saccade.optimize.teachers import TeacherSpec, load_teacher, onnx_teacher  # noqa: E402

STEPS = Distillation(
    max_steps=300, budget_s=120.0, learning_rate=1e-2, patience=1000, attention_weight=0.1
)


def colour_net(width: int) -> Any:
    """A net that answers by mean colour: as a teacher it is easy to follow, however narrow."""

    class Net(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.stem = torch.nn.Conv2d(3, width, 3, 4, 1)
            self.norm = torch.nn.BatchNorm2d(width)
            self.head = torch.nn.Linear(width, CLASSES)

        def forward(self, image: Any) -> Any:
            return self.head(torch.relu(self.norm(self.stem(image))).mean((2, 3)))

    torch.manual_seed(width)
    return Net().eval()


def planted_teacher() -> Any:
    """Confident by colour: class 0 for much red, 1 for much green, 2 for much blue."""

    class Teacher(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.stem = torch.nn.Conv2d(3, 64, 3, 4, 1)
            self.deep = torch.nn.Conv2d(64, 64, 3, 1, 1)
            self.colour = torch.nn.Conv2d(3, 3, 1, bias=False)
            self.head = torch.nn.Linear(3, CLASSES)

        def forward(self, image: Any) -> Any:
            # The deep part costs time and, its weights being zero, says nothing.
            deep = self.deep(torch.relu(self.stem(image))).mean((1, 2, 3))[:, None]
            return self.head(self.colour(image).mean((2, 3))) + deep

    net = Teacher().eval()
    with torch.no_grad():
        net.deep.weight.zero_()
        net.deep.bias.zero_()
        net.colour.weight.copy_(torch.eye(3)[:, :, None, None])
        net.head.weight.zero_()
        net.head.weight[:3] = 20 * torch.eye(3)
        net.head.bias.copy_(torch.tensor([0.0, 0.0, 0.0, -50.0, -50.0]))
    return net


def student_of(folder: Path, net: Any, name: str = "small", trained: bool = False) -> Student:
    program = exported(net, folder / f"{name}.pt2")
    context = classifier_context(folder / name, program, "onnxruntime")
    graph = context.config.model
    return Student(name, model_file(program), graph, context.config.description, trained, 30.0)


def taught_context(tmp_path: Path, teacher: Any, *students: Student) -> PlanContext:
    program = exported(teacher, tmp_path / "teacher.pt2")
    context = classifier_context(tmp_path, program)
    return replace(context, students=students, teacher=context.config)


def comparison(ratio: float) -> Comparison:
    verdict = "faster" if ratio > 1.05 else "slower" if ratio < 0.95 else "not distinguishable"
    interval = Interval(ratio * 0.98, ratio * 1.02, 0.95)
    return Comparison(cast(Any, verdict), RatioEstimate(ratio, interval, 5), 0.03, "planted")


def by_weights(context: PlanContext, changed: PipelineConfig) -> Comparison:
    """A machine whose time is the number of weights."""
    count = [
        sum(v.numel() for v in read_program(config.model.path).parameters())
        for config in (context.config, changed)
    ]
    return comparison(count[0] / count[1])


def agreement(config: PipelineConfig, teacher: Any, frames: np.ndarray[Any, Any]) -> float:
    student = read_program(config.model.path).module()
    said = [run_program(student, frame[None])[0].argmax() for frame in frames]
    wanted = [run_program(teacher, frame[None])[0].argmax() for frame in frames]
    return float(np.mean([a == b for a, b in zip(said, wanted, strict=True)]))


def frames_of(context: PlanContext) -> np.ndarray[Any, Any]:
    return FrameSource.of(context).load(64).tensors


# Teaching


def test_a_student_with_random_weights_learns_a_planted_teacher_without_labels(
    tmp_path: Path,
) -> None:
    teacher = planted_teacher()
    context = taught_context(tmp_path, teacher, student_of(tmp_path, colour_net(16)))
    (student,) = context.students
    before = replace(context.config, model=student.model)
    after = taught(context, student, by_weights, STEPS)
    frames = frames_of(context)
    assert agreement(after, teacher, frames) >= 0.9 > agreement(before, teacher, frames)
    record = record_of(taught_path(context, student, STEPS))
    assert not record["began_trained"] and not record["lesson"]["labelled"]
    assert record["lesson"]["loss_after"] < 0.3 * record["lesson"]["loss_before"]
    assert record["lesson"]["wall_s"] > 0 and record["lesson"]["frames"] == len(frames)
    with Pipeline(after) as pipeline:
        assert len(pipeline(np.zeros((40, 40, 3), np.uint8)).scores) == CLASSES


@pytest.mark.slow
def test_one_that_is_too_small_stays_far_from_its_teacher(tmp_path: Path) -> None:
    """A single number per image cannot carry what the teacher says of three colours."""

    class One(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.stem = torch.nn.Conv2d(3, 1, 1, bias=False)
            self.head = torch.nn.Linear(1, CLASSES)
            torch.nn.init.zeros_(self.stem.weight)

        def forward(self, image: Any) -> Any:
            return self.head(torch.relu(self.stem(image)).mean((2, 3)))

    teacher = planted_teacher()
    context = taught_context(tmp_path, teacher, student_of(tmp_path, One().eval(), "one"))
    after = taught(context, context.students[0], by_weights, STEPS)
    assert agreement(after, teacher, frames_of(context)) < 0.9


def test_one_that_is_no_faster_is_refused_before_training(tmp_path: Path) -> None:
    context = taught_context(tmp_path, colour_net(8), student_of(tmp_path, residual_net(32)))
    with pytest.raises(ChangeRefused, match=r"not faster here .* so it was not trained"):
        taught(context, context.students[0], by_weights, STEPS)
    assert not list(context.folder.glob("taught-*"))


def test_the_same_request_is_carried_out_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = taught_context(tmp_path, residual_net(32), student_of(tmp_path, colour_net(8)))
    quick = replace(STEPS, max_steps=3)
    first = taught(context, context.students[0], by_weights, quick)
    monkeypatch.setattr(students_module, "_teach", lambda *_: pytest.fail("taught again"))
    assert taught(context, context.students[0], by_weights, quick) == first


def test_only_calibration_frames_are_learnt_from(tmp_path: Path) -> None:
    context = taught_context(tmp_path, residual_net(32), student_of(tmp_path, colour_net(8)))
    assert context.calibration is not None
    half = replace(context.calibration, images=context.calibration.images[:12])
    rest = replace(context.calibration, images=context.calibration.images[12:])
    source = FrameSource.of(replace(context, calibration=half, selection=rest))
    assert source.images == half.images
    assert source.video is None


def test_labelled_frames_of_a_video_are_decoded(tmp_path: Path) -> None:
    context = classifier_context(tmp_path, exported(colour_net(8), tmp_path / "net.pt2"))
    video = write_video(tmp_path / "street.mp4")
    frames = [
        replace(unlabelled_image((video, 128, 96)), frame=FrameOf(video, index))
        for index in (0, 3, 7)
    ]
    assert context.calibration is not None
    calibration = replace(context.calibration, images=tuple(frames))
    context = replace(context, calibration=calibration)
    assert len(frames_of(context)) == 3


@pytest.mark.slow
def test_answers_of_other_shapes_are_named(tmp_path: Path) -> None:
    class Other(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.head = torch.nn.Linear(3, CLASSES + 1)

        def forward(self, image: Any) -> Any:
            return self.head(image.mean((2, 3)))

    context = taught_context(tmp_path, residual_net(32), student_of(tmp_path, Other().eval()))
    with pytest.raises(ModelError, match="have to answer in the same shapes"):
        taught(context, context.students[0], by_weights, STEPS)


# Teachers


def test_an_onnx_teacher_answers_as_its_program(tmp_path: Path) -> None:
    net = residual_net(16)
    context = classifier_context(tmp_path, exported(net, tmp_path / "net.pt2"), "onnxruntime")
    images = torch.randn(3, 3, *HW)
    (answers,) = onnx_teacher(context.config.model.path)(images)
    assert torch.allclose(answers, net(images), atol=1e-4)


def test_a_teacher_is_shown_what_its_student_sees(tmp_path: Path) -> None:
    net = residual_net(16)
    path = str(exported(net, tmp_path / "net.pt2"))
    its = Preprocessing("bgr", 1.0, (100.0, 110.0, 120.0), (50.0, 60.0, 70.0))
    mine = Preprocessing("rgb", 1 / 255, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    pixels = torch.randint(0, 255, (2, 3, *HW)).float()

    def fed(pre: Preprocessing) -> Any:
        ordered = pixels.flip(1) if pre.channel_order == "bgr" else pixels
        mean, std = (torch.tensor(v).reshape(1, 3, 1, 1) for v in (pre.mean, pre.std))
        return (ordered * pre.scale - mean) / std

    shown = load_teacher(TeacherSpec(path, HW, its, HW, mine))
    assert torch.allclose(shown(fed(mine)), net(fed(its)), atol=1e-3)
    bare = load_teacher(TeacherSpec(path, HW, its, HW, its))
    assert torch.allclose(bare(fed(its)), net(fed(its)), atol=1e-4)
    larger = load_teacher(TeacherSpec(path, HW, its, (64, 64), mine))
    assert larger(torch.randn(1, 3, 64, 64)).shape == (1, CLASSES)


def test_statistics_tell_what_was_trained(tmp_path: Path) -> None:
    assert looks_untrained(exported(colour_net(8), tmp_path / "new.pt2"))
    assert not looks_untrained(exported(residual_net(8), tmp_path / "old.pt2"))


# The change


def test_it_is_planned_with_its_cost_and_named(tmp_path: Path) -> None:
    context = taught_context(tmp_path, residual_net(32), student_of(tmp_path, colour_net(8)))
    planned = {c.change.label: c for c in make_plan(context).candidates}
    found = planned["distill: small"]
    assert found.change.effect == "lossy"
    assert found.prediction.cost_s > context.students[0].training_s
    assert found.prediction.gain > 1.02


def test_when_it_does_not_apply(tmp_path: Path) -> None:
    context = taught_context(tmp_path, residual_net(32), student_of(tmp_path, colour_net(8)))
    (change,) = Distill.variants(context)
    assert change.applies(context) is None
    assert "fewer than 8 images" in (change.applies(replace(context, calibration=None)) or "")
    assert "no model to teach" in (change.applies(replace(context, teacher=None)) or "")
    foreign = replace(context.config.model, stored="int8")
    rounded = replace(context, config=replace(context.config, model=foreign))
    assert "no float model is known" in (change.applies(rounded) or "")
    assert not list(Distill.variants(replace(context, students=())))


# In the spec and in preparation


def test_students_in_the_spec(tmp_path: Path) -> None:
    listed = ["timm:some_net", {"model": "s.pt2", "training": "2m"}]
    spec = make_spec({"model": "m.onnx", "students": listed}, tmp_path)
    assert [s.model for s in spec.students] == ["timm:some_net", str(tmp_path / "s.pt2")]
    assert [s.training for s in spec.students] == [60.0, 120.0]
    assert make_spec(spec.document()) == spec
    assert "students" not in make_spec({"model": "m.onnx"}).document()
    with pytest.raises(SpecError, match="Did you mean 'training'"):
        make_spec({"model": "m.onnx", "students": [{"model": "a.pt2", "trainng": 3}]})


def prepared(tmp_path: Path, *students: object) -> Any:
    teacher = exported(residual_net(32), tmp_path / "teacher.pt2")
    context = classifier_context(tmp_path, teacher)
    spec = make_spec(
        {
            "task": "classification",
            "model": str(teacher),
            "video": context.source,
            "students": [s if isinstance(s, dict) else str(s) for s in students],
        }
    )
    run = RunFolder(tmp_path / "run")
    return with_students(prepare(spec, run, SilentProgress()), run, SilentProgress())


def test_students_take_their_teachers_classes_and_geometry(tmp_path: Path) -> None:
    job = prepared(tmp_path, exported(colour_net(8), tmp_path / "small.pt2"))
    (student,) = job.students
    assert student.name == "small" and not student.trained
    assert student.description.class_names == job.description.class_names
    assert student.description.preprocessing == job.description.preprocessing
    assert student.graph.format == "onnx"
    assert "begins with random weights" in job.notes[-1]


def test_a_student_of_other_classes_is_left_out_and_the_study_goes_on(tmp_path: Path) -> None:
    class Other(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.head = torch.nn.Linear(3, 9)

        def forward(self, image: Any) -> Any:
            return self.head(image.mean((2, 3)))

    other = exported(Other().eval(), tmp_path / "other.pt2")
    graph = classifier_context(tmp_path / "x", other, "onnxruntime").config.model.path
    job = prepared(tmp_path, other, graph)
    assert job.students == ()
    *_, wrong, foreign = job.notes
    assert "it has 9 classes, the model has 5" in wrong
    assert "is no PyTorch program" in foreign


def test_a_missing_student_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"absent\.pt2"):
        prepared(tmp_path, tmp_path / "absent.pt2")


def test_the_lesson_is_told_in_the_trials_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = taught_context(tmp_path, residual_net(32), student_of(tmp_path, colour_net(8)))
    (change,) = Distill.variants(context)
    settings = students_module.default_settings(context.students[0], context.seed)
    target = taught_path(context, context.students[0], settings)
    lesson = {
        "loss_before": 4.0, "loss_after": 1.0, "steps": 90, "ended_by": "time", "wall_s": 30.2,
        "frames": 80, "labelled": False,
    }  # fmt: skip
    target.parent.mkdir(parents=True, exist_ok=True)
    students_module.record_path(target).write_text(
        json.dumps({"student": "small", "began_trained": False, "lesson": lesson})
    )
    assert change.remark(context) == (
        "small was trained for 30 s (90 steps on 80 frames, from the teacher alone, without "
        "labels; distance from the teacher on frames held out: 4 to 1), from random weights"
    )


def test_descriptions_of_students_are_read_like_any_classifier(tmp_path: Path) -> None:
    student = student_of(tmp_path, colour_net(8))
    assert ClassificationTask.describe(student.graph.path).decode == "logits"
