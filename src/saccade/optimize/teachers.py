"""Teachers as modules: of an exported program or of an ONNX file, shown what their students see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from saccade.models.description import Preprocessing
from saccade.models.torch_layers import with_layers
from saccade.models.torch_program import read_program


@dataclass(frozen=True)
class TeacherSpec:
    """The teacher and how it is fed; small enough to be sent to a worker.

    Attributes:
        path: a ``.pt2`` program or an ONNX file.
        hw: height and width that it takes, pixels.
        preprocessing: how its pixels become its input.
        student_hw: height and width of the student's input.
        student_preprocessing: the same of the student's; what it says of geometry is not read.
    """

    path: str
    hw: tuple[int, int]
    preprocessing: Preprocessing
    student_hw: tuple[int, int]
    student_preprocessing: Preprocessing


def load_teacher(spec: TeacherSpec) -> Any:
    """An ``nn.Module`` that takes the student's input and gives the teacher's answers.

    Raises:
        ModelError: the file cannot be read, or a program holds no layers.
    """
    teacher = onnx_teacher(spec.path) if spec.path.endswith(".onnx") else _program(spec.path)
    alike = values_of(spec.preprocessing) == values_of(spec.student_preprocessing)
    return teacher if alike and spec.hw == spec.student_hw else _shown(teacher, spec)


def values_of(pre: Preprocessing) -> tuple[object, ...]:
    """What decides a channel's values, geometry left out."""
    return pre.channel_order, pre.scale, pre.mean, pre.std


def _program(path: str) -> Any:
    return with_layers(read_program(path))


def onnx_teacher(path: str) -> Any:
    """An ONNX model as a module without parameters; it has no layers to compare features with.

    Images are answered one by one, because many ONNX files hold a batch of one.
    """
    import onnxruntime as ort
    import torch

    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(path, options, ["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    class OnnxTeacher(torch.nn.Module):  # type: ignore[misc]
        def forward(self, images: Any) -> list[Any]:
            singles = [session.run(None, {name: image[None].numpy()}) for image in images]
            return [
                torch.cat([torch.from_numpy(value) for value in outputs])
                for outputs in zip(*singles, strict=True)
            ]

    return OnnxTeacher()


def _shown(teacher: Any, spec: TeacherSpec) -> Any:
    """The teacher, its input made from what the student is fed."""
    import torch

    mine, its = spec.student_preprocessing, spec.preprocessing

    def constant(values: tuple[float, ...]) -> Any:
        return torch.tensor(values, dtype=torch.float32).reshape(1, 3, 1, 1)

    class Shown(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.teacher = teacher

        def forward(self, images: Any) -> Any:
            pixels = (images * constant(mine.std) + constant(mine.mean)) / mine.scale
            if mine.channel_order != its.channel_order:
                pixels = pixels.flip(1)
            if spec.hw != spec.student_hw:
                pixels = torch.nn.functional.interpolate(
                    pixels, spec.hw, mode="bilinear", align_corners=False, antialias=True
                )
            return self.teacher((pixels * its.scale - constant(its.mean)) / constant(its.std))

    return Shown()


class School:
    """Teaches a program; lives in a worker process, because PyTorch is heavy and may fail."""

    def teach(
        self,
        student: str,
        teacher: TeacherSpec,
        source: Any,
        count: int,
        settings: Any,
        target: str,
    ) -> Any:
        """Teach the program in the file ``student`` and write what it became to ``target``.

        Args:
            student: path of an exported program.
            teacher: who teaches.
            source: the `saccade.optimize.training_frames.FrameSource`.
            count: frames at most.
            settings: the `saccade.optimize.distill.Distillation`.
            target: the ``.pt2`` file to write.

        Returns:
            The `saccade.optimize.distill.Lesson`.

        Raises:
            DataError: there are no frames to learn from.
            ModelError: the student cannot be trained, or answers in another shape.
        """
        import torch

        from saccade.optimize.distill import distill
        from saccade.optimize.pruner import write_program

        program = read_program(student)
        module = with_layers(program)
        lesson = distill(module, load_teacher(teacher), source.load(count), settings)
        write_program(module, program, torch.zeros(1, 3, *teacher.student_hw), target)
        return lesson
