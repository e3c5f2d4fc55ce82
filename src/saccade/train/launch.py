"""Starts the processes that train together: on this machine by torchrun's own agent.

A function that stands in a module is called in each of them, after which its answer on the first
is that of all. Where one fails all are ended, and what it said is raised.
"""

from __future__ import annotations

import logging
import pickle
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from saccade.errors import RuntimeFailure, SaccadeError, WorkerFailure
from saccade.train.config import TrainingConfig
from saccade.train.distributed import is_rank

# After a signal ranks finish their step and write a checkpoint.
SHUTDOWN_S = 60
ANSWER, STOPPED = "answer", "stopped"
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def launch_training(config: TrainingConfig, function: Callable[..., Any], *arguments: Any) -> Any:
    """``function(*arguments)`` in every process that a configuration trains in.

    In a process that torchrun or Ray has started it is called right here, so that the same command
    may stand behind ``torchrun --nnodes 2 ... --no-python``. Otherwise one machine's processes are
    started by torchrun's agent and those of several machines by Ray.

    Args:
        config: says how many processes and machines.
        function: of a module; joins by itself (`saccade.train.distributed.join`).
        arguments: picklable.

    Returns:
        What it returned on the first rank.

    Raises:
        KeyboardInterrupt: a signal came and every rank stopped.
        WorkerFailure: a rank died.
        MissingExtraError: several machines, and no Ray.
        SaccadeError: whatever a rank raised.
    """
    if is_rank() or config.scale.strategy == "single":
        return function(*arguments)
    if config.scale.nodes > 1:
        from saccade.train.ray_launch import launch_on_ray

        return launch_on_ray(config, function, *arguments)
    with tempfile.TemporaryDirectory(prefix="saccade-ranks-") as folder:
        return _launch(config.scale.processes, Path(folder), function, arguments)


def _launch(
    processes: int, folder: Path, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> Any:
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    task = folder / "task.pkl"
    task.write_bytes(pickle.dumps((function, arguments)))
    settings = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=folder.name,
        rdzv_backend="static",
        rdzv_endpoint=f"127.0.0.1:{free_port()}",
        rdzv_configs={"rank": 0, "timeout": 180},
        signals_to_handle=",".join(kind.name for kind in SIGNALS),
        max_restarts=0,  # a run that failed goes on from its checkpoint, when a person says so
        local_addr="127.0.0.1",
        shutdown_timeout=SHUTDOWN_S,
    )
    command = ["-m", "saccade.train.rank_process", str(folder)]
    with _agent_manners():
        try:
            elastic_launch(settings, sys.executable)(*command)
        except SignalException:
            raise KeyboardInterrupt from None
        except ChildFailedError as error:
            raise _explained(error, folder) from None
    return _answer(folder)


def _answer(folder: Path) -> Any:
    """What the first rank left."""
    if (folder / STOPPED).exists():
        raise KeyboardInterrupt
    return pickle.loads((folder / ANSWER).read_bytes())


def _explained(error: Any, folder: Path) -> SaccadeError:
    """What the rank said that is to blame."""
    told = sorted(folder.glob("error-*"), key=lambda path: path.stat().st_mtime_ns)
    # Those that say nothing died, but for those that the agent ended because of another.
    ended = -signal.SIGTERM
    errors: dict[int, BaseException] = {
        rank: _death(rank, failure)
        for rank, failure in error.failures.items()
        if not (folder / f"error-{rank}").exists()
        and (failure.exitcode != ended or (len(error.failures) == 1 and not told))
    }
    errors |= {int(path.name.rpartition("-")[2]): pickle.loads(path.read_bytes()) for path in told}
    rank, found = to_blame(errors)
    trace = folder / f"trace-{rank}"
    if trace.exists():
        sys.stderr.write(trace.read_text())
    assert isinstance(found, SaccadeError)
    return found


def _death(rank: int, failure: Any) -> WorkerFailure:
    """Of a rank that said nothing."""
    if failure.exitcode >= 0:
        said = f"Rank {rank} ended with exit code {failure.exitcode}"
    else:
        said = f"Rank {rank} was ended by {failure.signal_name()}"
    hint = ", most likely for lack of memory" if failure.exitcode == -signal.SIGKILL else ""
    return WorkerFailure(f"{said}{hint}. All ranks were stopped.")


def to_blame(errors: Mapping[int, BaseException]) -> tuple[int, BaseException]:
    """The rank whose failure is the cause, and not the lost connection that others speak of.

    Args:
        errors: by rank, in the order in which they came.
    """
    rank = min(errors, key=lambda rank: type(errors[rank]) is RuntimeFailure)
    return rank, errors[rank]


@contextmanager
def _agent_manners() -> Iterator[None]:
    """It logs failures, which are told in our words, and keeps signals, which are given back."""
    log = logging.getLogger("torch.distributed.elastic")
    level = log.level
    log.setLevel(logging.CRITICAL)
    own = threading.current_thread() is threading.main_thread()
    handlers = {kind: signal.getsignal(kind) for kind in SIGNALS} if own else {}
    try:
        yield
    finally:
        log.setLevel(level)
        for kind, handler in handlers.items():
            signal.signal(kind, handler)


def called_as_rank(
    function: Callable[..., Any], arguments: tuple[Any, ...], *, leaves: bool = True
) -> Any:
    """Call it, and leave the group where that is ours to do.

    Raises:
        KeyboardInterrupt: the rank was told to stop.
        SaccadeError: what went wrong; what is not of saccade's own as a `RuntimeFailure`.
    """
    from saccade.train.distributed import leave

    try:
        answer = function(*arguments)
        if leaves:
            leave()
    except (SaccadeError, KeyboardInterrupt):
        raise
    except Exception as error:
        raise RuntimeFailure(f"{type(error).__name__}: {error}") from error
    return answer


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def rank_environment(rank: int, world: int, port: int) -> dict[str, str]:
    """What torchrun would set for a rank on this machine."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
