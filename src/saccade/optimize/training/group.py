"""Workers that train together, called as if they were one."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any

from saccade.optimize.worker import Worker
from saccade.train.config import TrainingConfig
from saccade.train.ranked import RANKED
from saccade.train.records import LossCurve, TrainingBlock


class WorkerGroup:
    """One worker per rank, on this machine. A rank that fails ends all of them.

    Args:
        config: with its ``scale``.
        steps: of the whole training.
        environment: added to the environment of every process.
    """

    def __init__(
        self,
        config: TrainingConfig,
        steps: int | None,
        *,
        timeout_s: float,
        environment: Mapping[str, str],
    ) -> None:
        world = config.scale.processes
        self._pool = ThreadPoolExecutor(world)
        self._workers: list[Worker] = []
        port = str(free_port())
        try:
            self._workers = self._all(
                [
                    (_opened, config, steps, timeout_s, {**environment, **_rank(i, world, port)})
                    for i in range(world)
                ]
            )
        except BaseException:
            self.close()
            raise

    @property
    def alive(self) -> bool:
        """Whether every rank still runs."""
        return all(worker.alive for worker in self._workers)

    def call(self, method: str, *arguments: Any, timeout_s: float = 120.0) -> Any:
        """Call a method on all ranks at once; their answers as one.

        Raises:
            WorkerFailure: a rank died, did not answer in time, or used too much memory.
            SaccadeError: whatever the method raised on a rank.
        """
        return together(
            self._all([(_called, w, method, arguments, timeout_s) for w in self._workers])
        )

    def _all(self, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        futures = [self._pool.submit(function, *rest) for function, *rest in calls]
        done, rest = wait(futures, return_when=FIRST_EXCEPTION)
        failed = [f for f in done if f.exception() is not None]
        if failed:
            for worker in self._workers:
                worker.close()
            wait(rest)
            self._workers += [f.result() for f in futures if _is_worker(f)]
            error = failed[0].exception()
            assert error is not None
            raise error
        return [future.result() for future in futures]

    def close(self) -> None:
        """End all ranks. Calling it twice is allowed."""
        for worker in self._workers:
            worker.close()
        self._pool.shutdown(wait=True)


def _is_worker(future: Any) -> bool:
    return future.exception() is None and isinstance(future.result(), Worker)


def _opened(
    config: TrainingConfig, steps: int | None, timeout_s: float, environment: dict[str, str]
) -> Worker:
    return Worker(RANKED, (config, steps), timeout_s=timeout_s, environment=environment)


def _called(worker: Worker, method: str, arguments: tuple[Any, ...], timeout_s: float) -> Any:
    return worker.call(method, *arguments, timeout_s=timeout_s)


def _rank(rank: int, world: int, port: str) -> dict[str, str]:
    """What torchrun would set."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def together(answers: Sequence[Any]) -> Any:
    """Answers of all ranks as one: blocks are added up, of everything else the first counts."""
    first = answers[0]
    if isinstance(first, TrainingBlock):
        return joined_ranks(answers)
    if isinstance(first, LossCurve):
        return replace(first, block=joined_ranks([answer.block for answer in answers]))
    return first


def joined_ranks(blocks: Sequence[TrainingBlock]) -> TrainingBlock:
    """The same steps, seen by every rank."""
    memory = [b.peak_device_mb for b in blocks if b.peak_device_mb is not None]
    return replace(
        blocks[0],
        samples=sum(block.samples for block in blocks),
        cpu_s=sum(block.cpu_s for block in blocks),
        peak_rss_mb=sum(block.peak_rss_mb for block in blocks),
        peak_device_mb=max(memory) if memory else None,
        corrupt=sum(block.corrupt for block in blocks),
        ranks_ms=tuple(1e3 * own_s(block) / max(1, len(block.step_s)) for block in blocks),
    )


def own_s(block: TrainingBlock) -> float:
    """Seconds of a rank's own work: without the backward pass, in which it waits for the others."""
    waits = sum(block.part_s.get("backward", ()))
    return block.wall_s - waits
