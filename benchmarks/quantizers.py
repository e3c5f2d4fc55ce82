"""Model latency of what saccade chose, against NNCF's accuracy control and Olive's search.

All three get the same float MobileNetV2, the same calibration and selection images, the same bound
on the drop and the same budget. What each comes out with is raced in turns on the same real inputs,
in processes of their own, with as many threads; its accuracy is judged on images none has seen.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import saccade
from benchmarks import olive_venv
from benchmarks.depthwise import mobilenet_v2
from benchmarks.pairs import median
from benchmarks.setting import REPOSITORY, Setting, note
from benchmarks.table import Row
from saccade.data.contract import Dataset
from saccade.data.images import read_image
from saccade.duration import parse_duration
from saccade.optimize.job import Job
from saccade.optimize.worker import Worker
from saccade.pipeline.config import PipelineConfig
from saccade.pipeline.frames import ArrayFrame
from saccade.pipeline.pipeline import Pipeline
from saccade.playbook.judge import config_at
from saccade.playbook.prepare import prepare
from saccade.progress import SilentProgress
from saccade.spec import Spec, make_spec
from saccade.statistics import RatioEstimate, ratio_of_blocks
from saccade.study import RunFolder

BAR, ALLOWED = 1.0, 0.01
WARMUP, BLOCK = 30, 150
# NNCF takes no budget, and Olive ends a little after its own.
PATIENCE = 2.0
GOALS = ("latency_ms.p50<=1", f"top1_drop<={ALLOWED}")


@dataclass(frozen=True)
class Contestant:
    """A finished model and who runs it.

    Attributes:
        runner: ``"openvino"`` by its latency hint, ``"onnxruntime"``, or ``"saccade"``.
        target: file, or bundle.
    """

    name: str
    runner: str
    target: Path
    detail: str = ""


class ModelRunner:
    """Runs a model alone on inputs that are ready, one at a time. Lives in a worker process."""

    def __init__(self, runner: str, target: str, inputs: str) -> None:
        data = np.load(inputs)
        self._inputs = [np.ascontiguousarray(image[None]) for image in data["report"]]
        self._labels = data["report_labels"]
        self._run = OPENERS[runner](target)

    def top1(self) -> float:
        """Share of the report images whose class is right."""
        return float(
            np.mean(
                [
                    self._run(x).argmax() == y
                    for x, y in zip(self._inputs, self._labels, strict=True)
                ]
            )
        )

    def block(self, count: int) -> float:
        """Median milliseconds of ``count`` inferences."""
        times = []
        for index in range(count):
            image = self._inputs[index % len(self._inputs)]
            began = time.perf_counter()
            self._run(image)
            times.append(1e3 * (time.perf_counter() - began))
        return median(times)


def _open_openvino(target: str) -> Callable[[NDArray[Any]], NDArray[Any]]:
    import openvino as ov

    compiled = ov.Core().compile_model(target, "CPU", {"PERFORMANCE_HINT": "LATENCY"})
    request = compiled.create_infer_request()

    def run(image: NDArray[Any]) -> NDArray[Any]:
        request.infer({0: ov.Tensor(image, shared_memory=True)}, share_outputs=True)
        found: NDArray[Any] = request.output_tensors[0].data
        return found

    return run


def _open_onnxruntime(target: str) -> Callable[[NDArray[Any]], NDArray[Any]]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(target, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda image: session.run(None, {name: image})[0]


def _open_saccade(target: str) -> Callable[[NDArray[Any]], NDArray[Any]]:
    from saccade import plugins
    from saccade.runtimes.contract import SessionRequest

    config = config_at(Path(target))
    size = (config.input_size, config.input_size)
    # Inputs are ready here, so preprocessing that moved into the graph stays out of it.
    request = SessionRequest(config.model, size, config.options, config.description.input.name)
    session = plugins.load("runtimes", config.runtime).open(request)
    return lambda image: session.infer(image)[0]


OPENERS = {
    "openvino": _open_openvino,
    "onnxruntime": _open_onnxruntime,
    "saccade": _open_saccade,
}


def measure(setting: Setting) -> list[Row]:
    """Let each quantize, then race the results."""
    folder = setting.folder / "quantizers"
    folder.mkdir(parents=True, exist_ok=True)
    model = mobilenet_v2(folder / "mobilenet_v2.onnx")
    spec = _spec(setting, model)
    job = prepare(spec, RunFolder(folder / "job"), SilentProgress())
    inputs = _write_inputs(job, folder / "inputs.npz")
    budget_s = parse_duration(setting.sizes.budget)
    note(f"saccade optimize (quantizers, budget {setting.sizes.budget})")
    study = saccade.optimize(spec, out=folder / "ours")
    if study.bundle is None:
        raise RuntimeError(f"the run ended without a bundle: {study.status}")
    ours = Contestant("saccade", "saccade", study.bundle)
    rows = []
    for make in (_nncf, _olive):
        try:
            rival = make(model, inputs, folder, budget_s)
        except (subprocess.SubprocessError, OSError, RuntimeError) as error:
            name = make.__name__.strip("_")
            rows.append(Row(f"latency over {name}'s", None, bar=BAR, detail=f"failed: {error}"))
            continue
        rows.append(_row(ours, rival, inputs, setting.sizes.pairs, _float_top1(model, inputs)))
    return rows


def _float_top1(model: Path, inputs: Path) -> float:
    """Of the float model, on images that none of the contestants has seen."""
    arguments = ("onnxruntime", str(model), str(inputs))
    with Worker("benchmarks.quantizers:ModelRunner", arguments) as worker:
        found: float = worker.call("top1")
    return found


def _spec(setting: Setting, model: Path) -> Spec:
    data = setting.inputs.data.parent.parent / "imagenet"
    return make_spec(
        {
            "task": "classification",
            "model": model,
            "data": data,
            "goals": list(GOALS),
            "budget": setting.sizes.budget,
        }
    )


def _write_inputs(job: Job, target: Path) -> Path:
    roles = job.roles
    assert roles is not None
    assert (
        roles.calibration is not None and roles.selection is not None and roles.report is not None
    )
    np.savez(
        target,
        calibration=_tensors(job.baseline, roles.calibration),
        validation=_tensors(job.baseline, roles.selection),
        labels=np.array([image.label for image in roles.selection.images]),
        report=_tensors(job.baseline, roles.report),
        report_labels=np.array([image.label for image in roles.report.images]),
    )
    return target


def _tensors(config: PipelineConfig, images: Dataset) -> NDArray[np.float32]:
    with Pipeline(config) as pipeline:
        found = []
        for image in images.images:
            frame = ArrayFrame(read_image(image.path), "rgb")
            box = pipeline.letterbox(frame.hw)
            out = pipeline.preprocessor.allocate(box)
            found.append(np.array(pipeline.preprocessor.run(frame, box, out))[0])
    return np.stack(found)


def _nncf(model: Path, inputs: Path, folder: Path, budget_s: float) -> Contestant:
    note("NNCF: quantize_with_accuracy_control")
    target = folder / "nncf.xml"
    command = [sys.executable, "-m", "benchmarks.nncf_rival", str(model), str(inputs)]
    done = subprocess.run(
        [*command, str(target), str(ALLOWED)],
        check=True,
        capture_output=True,
        text=True,
        timeout=PATIENCE * budget_s,
        cwd=REPOSITORY,
    )
    took = json.loads(done.stdout.strip().splitlines()[-1])["wall_s"]
    return Contestant(
        "NNCF's accuracy control + OpenVINO's latency hint", "openvino", target, f"{took:.0f} s"
    )


def _olive(model: Path, inputs: Path, folder: Path, budget_s: float) -> Contestant:
    note("Olive: search over its quantization passes")
    olive_venv.install()
    out = folder / "olive"
    script = REPOSITORY / "benchmarks" / "olive_rival.py"
    command = [str(olive_venv.PYTHON), str(script), str(model), str(inputs), str(out)]
    done = subprocess.run(
        [*command, str(ALLOWED), str(budget_s)],
        capture_output=True,
        text=True,
        timeout=PATIENCE * budget_s,
        cwd=folder,
    )
    if done.returncode != 0:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no message"])[-1][:300])
    found = json.loads(done.stdout.strip().splitlines()[-1])
    detail = f"{found['wall_s']:.0f} s, best of {found['tried']}: {found['how']}"
    return Contestant("Olive's best for ONNX Runtime", "onnxruntime", Path(found["model"]), detail)


def _row(ours: Contestant, rival: Contestant, inputs: Path, pairs: int, float_top1: float) -> Row:
    """Race both; above 1 saccade's is faster."""
    kind = "benchmarks.quantizers:ModelRunner"
    workers = [Worker(kind, (c.runner, str(c.target), str(inputs))) for c in (ours, rival)]
    try:
        top1 = [worker.call("top1") for worker in workers]
        times: tuple[list[float], list[float]] = ([], [])
        for worker in workers:
            worker.call("block", WARMUP)
        for number in range(pairs):
            for side in (0, 1) if number % 2 == 0 else (1, 0):
                times[side].append(workers[side].call("block", BLOCK))
    finally:
        for worker in workers:
            worker.close()
    ratio = ratio_of_blocks([1 / t for t in times[0]], [1 / t for t in times[1]])
    detail = (
        f"{median(times[0]):.2f} ms, top-1 {_judged(top1[0], float_top1)} on unseen images, "
        f"against {median(times[1]):.2f} ms, {_judged(top1[1], float_top1)} ({rival.detail})"
    )
    return row_of(rival.name, ratio, float_top1 - top1[0], detail)


def row_of(rival: str, ratio: RatioEstimate, drop: float, detail: str) -> Row:
    """Faster counts only within the bound on accuracy that all were given.

    Args:
        rival: its name.
        ratio: its time over ours.
        drop: top-1 that our own model lost, from 0 to 1.
        detail: what stands behind it.
    """
    figure = f"latency of the model over {rival}"
    if drop > ALLOWED:
        ours = f"{ratio.value:.2f}x, which does not count: ours lost {drop:.3f} of top-1"
        return Row(figure, None, unit="x", bar=BAR, detail=f"{ours} (at most {ALLOWED}); {detail}")
    low, high = ratio.interval.low, ratio.interval.high
    return Row(figure, ratio.value, low, high, "x", BAR, detail=detail)


def _judged(top1: float, float_top1: float) -> str:
    """Top-1, and whether it holds the bound that all were given."""
    drop = float_top1 - top1
    return f"{top1:.3f}" if drop <= ALLOWED else f"{top1:.3f} (lost {drop:.3f}: breaks the bound)"
