"""Workers that train together, called as if they were one."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any

from saccade.errors import SpecError, WorkerFailure
from saccade.optimize.worker import Worker
from saccade.train.config import TrainingConfig
from saccade.train.launch import free_port, rank_environment, to_blame
from saccade.train.ranked import RANKED
from saccade.train.records import PARTS, LossCurve, TrainingBlock

# When a rank fails, those that wait for it fail too; so long its own words are waited for.
LAST_WORDS_S = 2.0
# Parts of a step in which ranks wait for each other, and those in which they do not.
WAITS = ("forward", "backward")
OWN = tuple(part for part in PARTS if part not in WAITS)


class WorkerGroup:
    """One worker per rank, on this machine. A rank that fails ends all of them.

    Args:
        config: with its ``scale``.
        steps: of the whole training.
        environment: added to the environment of every process.

    Raises:
        SpecError: the configuration is for several machines.
        WorkerFailure: a rank died, did not answer in time, or used too much memory.
        SaccadeError: whatever opening the job raised on a rank.
    """

    def __init__(
        self,
        config: TrainingConfig,
        steps: int | None,
        *,
        timeout_s: float,
        environment: Mapping[str, str],
    ) -> None:
        scale = config.scale
        if scale.nodes > 1:
            raise SpecError(
                f"This configuration trains on {scale.nodes} machines, and only what is on this "
                "one can be measured. Measure it on one machine, and carry it out with `saccade "
                "train run`."
            )
        self._pool = ThreadPoolExecutor(scale.processes)
        self._workers: list[Worker] = []
        self._strategy = scale.strategy
        port = free_port()
        try:
            for rank in range(scale.processes):
                place = {**environment, **rank_environment(rank, scale.processes, port)}
                self._workers.append(Worker(RANKED, (config, steps), environment=place))
            self.call("open", timeout_s=timeout_s)
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
        return together(self.answers(method, *arguments, timeout_s=timeout_s))

    def ranks_ms(self, steps: int, timeout_s: float = 120.0) -> tuple[float, ...]:
        """Milliseconds of each rank's own work in a step, without waiting for the others.

        Passes are timed again without the exchange, which replicas can do and shards cannot.
        """
        blocks = self.answers("block", steps, timeout_s=timeout_s)
        if self._strategy == "fsdp":
            return own_ms(blocks)
        passes = self.answers("apart", steps, timeout_s=timeout_s)
        pairs = zip(blocks, passes, strict=True)
        return tuple(_mean_ms(a, OWN) + _mean_ms(b, WAITS) for a, b in pairs)

    def answers(self, method: str, *arguments: Any, timeout_s: float = 120.0) -> list[Any]:
        """As `call`, each rank's answer by itself."""

        def calling(worker: Worker) -> Callable[[], Any]:
            return lambda: worker.call(method, *arguments, timeout_s=timeout_s)

        futures = [self._pool.submit(calling(worker)) for worker in self._workers]
        wait(futures, return_when=FIRST_EXCEPTION)
        if any(future.done() and future.exception() for future in futures):
            self._fail(futures)
        return [future.result() for future in futures]

    def _fail(self, futures: Sequence[Future[Any]]) -> None:
        """End all ranks, and raise what the one said that is to blame."""
        wait(futures, timeout=LAST_WORDS_S)
        failed = {rank: f.exception() for rank, f in enumerate(futures) if f.done()}
        self._kill()
        wait(futures)
        rank, error = to_blame({rank: e for rank, e in failed.items() if e is not None})
        if type(error) is WorkerFailure:
            raise WorkerFailure(f"Rank {rank} of {len(futures)}: {error}") from None
        raise error

    def _kill(self) -> None:
        """Those that wait for an answer then see that there will be none."""
        for worker in self._workers:
            if worker.alive:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker.pid, signal.SIGKILL)

    def close(self) -> None:
        """End all ranks. Calling it twice is allowed."""
        self._kill()
        for worker in self._workers:
            worker.close()
        self._pool.shutdown(wait=True)

    def __enter__(self) -> WorkerGroup:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


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
        kernel_s=sum(block.kernel_s for block in blocks),
        page_faults=sum(block.page_faults for block in blocks),
        peak_rss_mb=sum(block.peak_rss_mb for block in blocks),
        peak_device_mb=max(memory) if memory else None,
        corrupt=sum(block.corrupt for block in blocks),
        ranks_ms=own_ms(blocks),
    )


def own_ms(blocks: Sequence[TrainingBlock]) -> tuple[float, ...]:
    """Milliseconds of each rank's own work in a step, without waiting for the others.

    Ranks wait for each other within the backward pass, and within the forward pass where buffers
    or shards are exchanged. The one that comes last hardly waits, so that the shortest of each
    pass is taken for the work of all; `WorkerGroup.ranks_ms` tells passes apart as well.
    """
    shortest = sum(min(_mean_ms(block, (part,)) for block in blocks) for part in WAITS)
    return tuple(_mean_ms(block, OWN) + shortest for block in blocks)


def _mean_ms(block: TrainingBlock, parts: Sequence[str]) -> float:
    total = sum(sum(block.part_s.get(part, ())) for part in parts)
    return 1e3 * total / max(1, len(block.step_s))
