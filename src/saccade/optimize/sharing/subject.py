"""A system of two tasks in a worker: measured like any other, and judged task by task."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

from saccade import plugins
from saccade.data.contract import Dataset
from saccade.data.frame_roles import OFFSETS, STEP, Role
from saccade.optimize.measuring import Subject
from saccade.optimize.race import COMPARED, COMPARED_TIMEOUT_S, Runner
from saccade.pipeline.config import PipelineConfig
from saccade.pipeline.system import SystemConfig
from saccade.pipeline.system_pipeline import SystemPipeline


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

    @cached_property
    def answers(self) -> dict[str, Any]:
        """Task → what it says of some frames of the source."""
        found = {}
        for index, part in enumerate(self.config.parts):
            asked = (COMPARED, "selection", part.score_threshold)
            found[part.task] = self.part(index).call("watch", *asked, timeout_s=COMPARED_TIMEOUT_S)
        return found

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
