"""A predicted scaling curve as a document, and as a table for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from saccade.train.scaling import Link, ScalingPoint, StepModel

COLUMNS = ("processes", "machines", "samples/s", "speedup", "efficiency", "compute", "exposed")


@dataclass(frozen=True)
class ScalingReport:
    """What was measured, what it predicts, and what was reached where that could be tried.

    Attributes:
        config_hash: of the configuration, in one process.
        batch: samples of a step, over all processes.
        model: what a step is made of.
        link: between processes of this machine.
        measured_link: whether it was measured, and not assumed.
        network: between machines, as the user says it is.
        allreduce_s: message size in 10^6 bytes → seconds, as measured.
        points: predicted.
        achieved: number of processes → samples per second that were reached here.
    """

    config_hash: str
    batch: int
    model: StepModel
    link: Link
    measured_link: bool
    network: Link
    points: tuple[ScalingPoint, ...]
    allreduce_s: Mapping[float, float] = field(default_factory=dict)
    achieved: Mapping[int, float] = field(default_factory=dict)

    def error(self, world: int) -> float:
        """Predicted over achieved, less one."""
        predicted = next(p for p in self.points if p.world == world and p.nodes == 1)
        return predicted.samples_per_s / self.achieved[world] - 1

    def document(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "kind": "training_scaling",
            "schema_version": 1,
            "config_hash": self.config_hash,
            "batch": self.batch,
            "gradients_mb": self.model.gradients_mb,
            "cores": self.model.cores,
            "contention": self.model.contention,
            "loading_samples_per_s": self.model.loading,
            "costs": {str(threads): asdict(cost) for threads, cost in self.model.costs.items()},
            "allreduce_s": {str(size): seconds for size, seconds in self.allreduce_s.items()},
            "link": {**asdict(self.link), "measured": self.measured_link},
            "network": {**asdict(self.network), "measured": False},
            "points": [asdict(point) for point in self.points],
            "achieved": {
                str(world): {"samples_per_s": rate, "error": self.error(world)}
                for world, rate in self.achieved.items()
            },
        }

    def table(self) -> str:
        """Markdown."""
        lines = [
            f"| {' | '.join((*COLUMNS, 'achieved', ''))} |",
            "|" + "---:|" * (len(COLUMNS) + 1) + ":--|",
        ]
        return "\n".join([*lines, *(self._row(point) for point in self.points), "", self._told()])

    def _row(self, point: ScalingPoint) -> str:
        rate = self.achieved.get(point.world) if point.nodes == 1 else None
        cells = (
            str(point.world),
            str(point.nodes),
            f"{point.samples_per_s:.4g}",
            f"{point.speedup:.2f}x",
            f"{point.efficiency:.0%}",
            f"{1e3 * point.compute_s:.1f} ms",
            f"{1e3 * point.exposed_s:.1f} ms",
            "" if rate is None else f"{rate:.4g}",
            "estimate" if point.estimate else "",
        )
        return f"| {' | '.join(cells)} |"

    def _told(self) -> str:
        how = "measured" if self.measured_link else "assumed"
        cores = self.model.cores
        shared = (
            f" Processes of one machine share its {cores} cores, and sending takes them from "
            f"computing; beside another process computing takes {self.model.contention:.2f} times "
            "as long."
            if cores
            else ""
        )
        return (
            f"Effective batch {self.batch}, gradients {self.model.gradients_mb:.1f} MB; between "
            f"processes of this machine {self.link.bandwidth_mbs:.0f} MB/s and "
            f"{1e6 * self.link.latency_s:.0f} us ({how}), between machines "
            f"{self.network.bandwidth_mbs:.0f} MB/s and {1e6 * self.network.latency_s:.0f} us "
            f"(given).{shared}"
        )
