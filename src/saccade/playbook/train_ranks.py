"""A whole training in several processes: started by torchrun, or by Ray on several machines.

The first rank carries the training out as one process would: it judges, saves and reports. The
others take the same steps on their parts of every batch; gradients are averaged in each.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from saccade.errors import MissingExtraError, RuntimeFailure, SpecError
from saccade.playbook.train_run import RESULT, Asked, TrainingRequest, look_up, train_here
from saccade.study import RunFolder
from saccade.train.checkpoint import Checkpoints
from saccade.train.config import TrainingConfig
from saccade.train.distributed import join, leave, rank_here
from saccade.train.loop import TrainingLoop
from saccade.train.resuming import resumed_config
from saccade.train.run_progress import RunProgress
from saccade.train.running import CHECKPOINTS

REQUEST = ".ranks-request.pickle"
LAST_WORDS = 2000


def run_on_ranks(
    request: TrainingRequest, config: TrainingConfig, folder: Path, progress: RunProgress | None
) -> dict[str, Any]:
    """Start torchrun with a process per rank, and wait for the training's end.

    Raises:
        KeyboardInterrupt: passed on to every rank; the first one saved.
        SaccadeError: a rank failed, which ended all of them.
    """
    run = RunFolder(folder)
    place = folder / REQUEST
    place.write_bytes(pickle.dumps(request))
    if progress is not None:
        progress.note(f"training in {config.scale.world} processes ({config.scale.strategy})")
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
        *("--nproc-per-node", str(config.scale.processes)),
        *("-m", "saccade.playbook.train_ranks", str(place)),
    ]
    try:
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, env=_environment(config))
    finally:
        place.unlink(missing_ok=True)
    result = run.read_json(RESULT)
    if done.returncode != 0:
        said = (result or {}).get("reason") or done.stderr.strip()[-LAST_WORDS:]
        raise RuntimeFailure(f"A process of the training failed: {said}")
    assert result is not None
    return result


def _environment(config: TrainingConfig) -> dict[str, str]:
    """Without it torchrun gives every process a single thread."""
    threads = config.compute.threads or max(1, (os.cpu_count() or 1) // config.scale.processes)
    return {"OMP_NUM_THREADS": str(threads), **os.environ}


def run_rank(request: TrainingRequest) -> None:
    """What each rank does.

    Raises:
        SaccadeError: the training failed on this rank.
    """
    # Progress bars of several processes would overwrite each other.
    asked = look_up(request)
    join(asked.config)
    try:
        if rank_here() == 0:
            train_here(request, asked)
        else:
            follow(asked)
    finally:
        leave()


def follow(asked: Asked) -> None:
    """Take every step of a training that the first rank carries out.

    Raises:
        DataError: this rank's samples cannot be read.
    """
    job = replace(asked.job, epochs=asked.epochs)
    found = Checkpoints(asked.folder / CHECKPOINTS).newest()
    config = asked.config
    if found is not None:
        config = resumed_config(found.content, asked.config, asked.epochs, job)
    loop = TrainingLoop(job, config)
    try:
        if found is not None:
            loop.restore(found.content["loop"])
        while loop.step_number < loop.steps:
            loop.step()
    finally:
        loop.close()


def run_on_ray(
    request: TrainingRequest, workers: int, address: str | None = None
) -> dict[str, Any]:
    """The same over the machines of a Ray cluster; each of ``workers`` is a rank.

    The run folder and the data have to be on storage that all machines see.

    Args:
        request: as for `saccade train run`.
        workers: ranks in all.
        address: of the cluster; None starts Ray on this machine.

    Raises:
        MissingExtraError: Ray is not installed.
        SpecError: the configuration is of another number of processes.
    """
    try:
        import ray
        from ray.train import ScalingConfig
        from ray.train.torch import TorchTrainer
    except ImportError:
        raise MissingExtraError("ray[train]", "ray", "Training on several machines") from None
    asked = look_up(request)
    if asked.config.scale.world != workers:
        raise SpecError(
            f"The configuration trains in {asked.config.scale.world} processes, not {workers}. "
            "Set its scale to the number of workers."
        )
    cuda = asked.config.compute.device.startswith("cuda")
    ray.init(address=address, ignore_reinit_error=True, log_to_driver=False)
    try:
        trainer = TorchTrainer(
            _ray_rank,
            train_loop_config={"request": pickle.dumps(request)},
            scaling_config=ScalingConfig(num_workers=workers, use_gpu=cuda),
        )
        trainer.fit()
    finally:
        ray.shutdown()
    result = RunFolder(asked.folder).read_json(RESULT)
    assert result is not None
    return result


def _ray_rank(settings: dict[str, bytes]) -> None:
    """One of Ray's workers; Ray has made the group of processes already."""
    from torch import distributed

    os.environ["RANK"] = str(distributed.get_rank())
    os.environ["WORLD_SIZE"] = str(distributed.get_world_size())
    request: TrainingRequest = pickle.loads(settings["request"])
    asked = look_up(request)
    if rank_here() == 0:
        train_here(request, asked)
    else:
        follow(asked)


if __name__ == "__main__":
    run_rank(pickle.loads(Path(sys.argv[1]).read_bytes()))
