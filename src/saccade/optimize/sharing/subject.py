"""A system of two tasks in a worker: measured like any other, and judged task by task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from saccade import plugins
from saccade.data.contract import Dataset
from saccade.data.frame_roles import OFFSETS, STEP, Role
from saccade.optimize.measuring import Subject
from saccade.optimize.race import Runner
from saccade.pipeline.config import PipelineConfig
from saccade.pipeline.system import SystemConfig
from saccade.pipeline.system_pipeline import SystemPipeline

# Frames on which two systems are compared.
COMPARED = 12
TIMEOUT_S = 300.0


class SystemSubject(Subject):
    """A system on one source. What it collects is ``{task: what the task collects}``."""

    def __init__(self, config: SystemConfig, source: str) -> None:
        self.config = config  # type: ignore[assignment]
        self._hold(source, SystemPipeline(config), self._collected)

    @property
    def _system(self) -> SystemPipeline:
        held: SystemPipeline = self._pipeline
        return held

    def _collected(self, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return {
            task: plugins.load("tasks", task).collect([result[task] for result in results])
            for task in self._system.config.tasks
        }

    def judge_part(self, part: int, dataset: Dataset, score_threshold: float) -> Any:
        """Results of one of the tasks on every image of a dataset."""
        self._judged = True
        found = list(self._system.judge_images(part, dataset.images, score_threshold))
        return self._of_task(part, found)

    def watch_part(self, part: int, count: int, role: Role, score_threshold: float) -> Any:
        """Results of one of the tasks on frames of the source that serve ``role``."""
        self._judged = True
        found = self._system.judge_frames(
            part, self._source, count, STEP, score_threshold, OFFSETS[role]
        )
        return self._of_task(part, list(found))

    def _of_task(self, part: int, results: Sequence[Any]) -> Any:
        return plugins.load("tasks", self._system.config.tasks[part]).collect(results)


class SystemRunner(Runner):
    """A system in its worker, warmed up, ready to be raced."""

    subject: ClassVar[str] = "saccade.optimize.sharing.subject:SystemSubject"
    config: SystemConfig  # type: ignore[assignment]

    def __init__(self, config: SystemConfig, source: str) -> None:
        super().__init__(config, source)  # type: ignore[arg-type]

    def part(self, index: int) -> RunnerPart:
        """One of its tasks, to be judged."""
        return RunnerPart(self, index)


class RunnerPart:
    """One task of a running system, as a judge sees it."""

    def __init__(self, runner: SystemRunner, index: int) -> None:
        self._runner, self._index = runner, index

    @property
    def config(self) -> PipelineConfig:
        """How this task runs."""
        return self._runner.config.parts[self._index]

    @property
    def worker(self) -> RunnerPart:
        """Itself: it passes on what it is asked."""
        return self

    def call(self, method: str, *arguments: Any, timeout_s: float = 120.0) -> Any:
        """Ask the system's worker about this task."""
        return self._runner.worker.call(
            f"{method}_part", self._index, *arguments, timeout_s=timeout_s
        )


def same_answers(reference: SystemRunner, candidate: SystemRunner) -> bool:
    """Whether both say the same of the same frames, in both tasks, but for rounding.

    Each is asked anew: a reference that has raced before stands elsewhere in the stream.
    """
    for part, task in enumerate(reference.config.tasks):
        threshold = reference.config.parts[part].score_threshold
        found = [
            runner.part(part).call("watch", COMPARED, "selection", threshold, timeout_s=TIMEOUT_S)
            for runner in (reference, candidate)
        ]
        if not plugins.load("tasks", task).same(*found):
            return False
    return True
