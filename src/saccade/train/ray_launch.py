"""Starts the processes that train together on several machines, through Ray Train.

A Ray cluster has to stand: ``ray start --head`` on one machine, ``ray start --address=HEAD:6379``
on the others. Every machine needs saccade, the job's file and its data under the same paths.
Without a cluster Ray starts one of this machine alone.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from saccade.errors import MissingExtraError, RuntimeFailure, SaccadeError, SpecError, WorkerFailure
from saccade.train.config import ScaleSettings, TrainingConfig
from saccade.train.launch import called_as_rank, to_blame

# What Ray warns of or counts, on its own account.
QUIET = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_V2_ENABLED": "1",
}


def launch_on_ray(config: TrainingConfig, function: Callable[..., Any], *arguments: Any) -> Any:
    """``function(*arguments)`` in every process, one GPU or an equal share of cores each.

    Args:
        config: says how many processes and machines.
        function: of a module that can be imported on every machine; it finds the others joined.
        arguments: picklable.

    Returns:
        What it returned on the first rank.

    Raises:
        MissingExtraError: Ray is not installed.
        SpecError: the cluster has fewer machines or GPUs than the configuration asks for.
        SaccadeError: whatever a rank raised, or that one died.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        from ray import train
        from ray.train.torch import TorchConfig, TorchTrainer
    except ImportError as error:
        raise MissingExtraError("ray", "ray", "Training on several machines") from error
    scale, cuda = config.scale, config.compute.device.startswith("cuda")
    own = not ray.is_initialized()
    if own:
        _connect(ray, scale)
    try:
        _check_cluster(ray, scale, cuda)
        with TemporaryDirectory(prefix="saccade-ray-") as folder:
            trainer = TorchTrainer(
                _as_rank,
                train_loop_config={"task": pickle.dumps((function, arguments))},
                torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if cuda else "gloo"),
                scaling_config=train.ScalingConfig(
                    num_workers=scale.world,
                    use_gpu=cuda,
                    placement_strategy="SPREAD" if scale.nodes > 1 else "PACK",
                ),
                run_config=train.RunConfig(name="saccade", storage_path=str(Path(folder))),
            )
            return pickle.loads(_carried_out(trainer))
    finally:
        if own:
            ray.shutdown()


def _connect(ray: Any, scale: ScaleSettings) -> None:
    """To the cluster that stands, or to one of this machine alone."""
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        ray.init(address="auto", **quiet)
    except ConnectionError:
        # One more core than processes, for the controller that Ray Train runs beside them.
        ray.init(address="local", num_cpus=scale.world + 1, include_dashboard=False, **quiet)


def _check_cluster(ray: Any, scale: ScaleSettings, cuda: bool) -> None:
    machines = sum(1 for node in ray.nodes() if node["Alive"])
    if machines < scale.nodes:
        raise SpecError(
            f"The configuration trains on {scale.nodes} machines and the Ray cluster has "
            f"{machines}. Start it on the others: ray start --address=<head>:6379, after ray "
            "start --head on the first."
        )
    gpus = ray.cluster_resources().get("GPU", 0)
    if cuda and gpus < scale.world:
        raise SpecError(
            f"The configuration trains on {scale.world} GPUs and the Ray cluster has {gpus:.0f}. "
            "Train in fewer processes, or add machines."
        )


def _as_rank(settings: Mapping[str, Any]) -> bytes:
    """What each of Ray's workers does; Ray has made them a group."""
    function, arguments = pickle.loads(settings["task"])
    return pickle.dumps(called_as_rank(function, arguments, leaves=False))


def _carried_out(trainer: Any) -> bytes:
    """What the first rank returned.

    Raises:
        SaccadeError: what went wrong.
    """
    try:
        found: bytes = trainer.fit().return_value
    except Exception as error:
        raise _explained(error) from error
    return found


def _explained(error: Exception) -> SaccadeError:
    """Ray wraps what a worker raised, and keeps it by rank."""
    failures = getattr(error, "worker_failures", None) or {}
    causes = {rank: _cause(failure) for rank, failure in failures.items()}
    if not causes:
        return RuntimeFailure(f"Ray could not carry the training out: {error}")
    rank, cause = to_blame(causes)
    if isinstance(cause, SaccadeError):
        return cause
    return WorkerFailure(f"Rank {rank} died: {type(cause).__name__}: {str(cause)[:300]}")


def _cause(error: BaseException) -> BaseException:
    """The innermost exception."""
    inner = getattr(error, "_base_exc", None) or getattr(error, "cause", None) or error.__cause__
    return _cause(inner) if isinstance(inner, BaseException) and inner is not error else error
