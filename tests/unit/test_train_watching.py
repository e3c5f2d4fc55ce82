"""The passes that watch a training, one by one, on a job made for each."""

from __future__ import annotations

import builtins
import contextlib
import dataclasses
import logging
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from saccade.errors import RuntimeFailure, SpecError
from saccade.optimize.training_profile import nsys_command, profile_training
from saccade.profile.training import compilations, graph_breaks
from saccade.profile.training_machine import training_machine
from saccade.profile.training_memory import memory_by_category
from saccade.profile.training_operators import watch_operators
from saccade.profile.training_scaling import repeated, scaled_steps
from saccade.profile.training_scan import scan_samples
from saccade.profile.training_syncs import watch_syncs
from saccade.profile.training_timeline import SpanClock, watch_timeline
from saccade.testing.planted_jobs import (
    DELAY_S,
    Arrays,
    Files,
    Model,
    SlowConsole,
    as_tensors,
    loss,
    optimizer,
)
from saccade.testing.planted_training import training_block
from saccade.train import output_clock
from saccade.train.config import JobReference, TrainingConfig
from saccade.train.job import TrainingJob
from saccade.train.joining import joined_blocks
from saccade.train.loop import TrainingLoop
from saccade.train.machine import gpu_samples
from saccade.train.samples import Loaded
from saccade.train.step_clock import StepClock

CONFIG = TrainingConfig(JobReference("job.py", "python_file", "x")).with_batch(size=4)


def loop_of(config: TrainingConfig = CONFIG, **functions: Any) -> TrainingLoop:
    job = TrainingJob(
        model=Model(4),
        dataset=lambda split: Arrays(16),
        loss=loss,
        optimizer=lambda model: torch.optim.Adam(model.parameters()),
        transforms=lambda split: as_tensors,
    )
    return TrainingLoop(dataclasses.replace(job, **functions), config.with_compute(threads=1))


def here(text: str) -> str:
    """File and line of a text in this file."""
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    return f"{__file__}:{next(i for i, line in enumerate(lines, 1) if text in line)}"


def noisy_loss(output: Any, target: Any) -> Any:
    found = loss(output, target)
    print("loss", float(found.detach()))  # planted in the loss
    return found


def choosy(sample: Any) -> Any:
    pixels, label = as_tensors(sample)
    return (pixels, label) if pixels.mean().item() >= 0 else (pixels, 0)  # planted in transforms


def counted(output: Any, target: Any) -> float:
    return (output.argmax(1) == target).float().mean().item()  # planted in the metric


def test_values_are_found_where_they_are_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    loop = loop_of(loss=noisy_loss, transforms=lambda split: choosy, metric=counted)
    found = {(s.operator, s.part): s for s in watch_syncs(loop, 3)}
    assert found["Tensor.__float__", "step"].where == here("# planted in the loss")
    assert found["Tensor.__float__", "step"].per_step == 1
    assert found["Tensor.__float__", "step"].function == "noisy_loss"
    assert found["print", "step"].where == here("# planted in the loss")
    assert found["Tensor.item", "loader"].where == here("# planted in transforms")
    assert found["Tensor.item", "loader"].per_step == CONFIG.batch.size
    assert found["Tensor.item", "metric"].where == here("# planted in the metric")
    assert len(found) == 4  # none of them saccade's or PyTorch's own


def talking_loss(output: Any, target: Any) -> Any:
    found = loss(output, target)
    print(found.detach())  # planted in the print
    return found


def test_a_value_that_a_print_asks_for_is_within_it(capsys: pytest.CaptureFixture[str]) -> None:
    found = {s.operator: s for s in watch_syncs(loop_of(loss=talking_loss), 2)}
    asked, printed = found["Tensor.__repr__"], found["print"]
    assert asked.where == printed.where == here("# planted in the print")
    assert asked.within_output and not printed.within_output
    assert asked.wait_ms <= printed.wait_ms
    noisy = {s.operator: s for s in watch_syncs(loop_of(loss=noisy_loss), 2)}
    assert not noisy["Tensor.__float__"].within_output  # asked for before the print began


def test_batches_of_two_sizes_are_timed_without_what_is_printed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Put back afterwards what `time_output` replaces for good.
    monkeypatch.setattr(builtins, "print", print)
    monkeypatch.setattr(logging.Handler, "handle", logging.Handler.handle)

    def slow(output: Any, target: Any) -> Any:
        print("a step", file=SlowConsole())
        return loss(output, target)

    output_clock.time_output()
    loop = loop_of(loss=slow)
    loop.use_cached_batch()
    found = scaled_steps(loop, 1.0, DELAY_S)
    assert max(found.values()) < 1e3 * DELAY_S


def test_a_job_that_asks_for_no_value_has_no_place() -> None:
    assert watch_syncs(loop_of(), 2) == ()


def test_what_a_library_asks_for_on_the_cpu_is_its_own_business() -> None:
    from torchvision.transforms import v2

    flip = v2.RandomHorizontalFlip(0.5)  # looks at a random number with .item() or bool()
    loop = loop_of(transforms=lambda split: lambda s: (flip(as_tensors(s)[0]), s[1]))
    assert watch_syncs(loop, 1) == ()


def test_graphs_that_are_compiled_are_counted() -> None:
    import torch._dynamo.utils as dynamo

    dynamo.counters.clear()
    twice = torch.compile(lambda x: x * 2, backend="eager")
    twice(torch.ones(2))
    assert compilations() == 1
    twice(torch.ones(2))
    assert compilations() == 1
    twice(torch.ones(3))
    assert compilations() == 2
    assert graph_breaks() == 0


def test_watching_leaves_print_and_the_compiled_model_alone() -> None:
    loop = loop_of()
    loop.callable = compiled = torch.nn.Sequential(loop.model)
    watch_syncs(loop, 1)
    assert loop.callable is compiled
    assert print.__module__ == "builtins"


def test_memory_is_counted_by_category() -> None:
    loop = loop_of()
    found = memory_by_category(loop)
    parameters = sum(p.numel() * 4 for p in loop.model.parameters()) / 1e6
    assert found["parameters"] == pytest.approx(parameters)
    assert found["gradients"] == pytest.approx(parameters)
    # Adam keeps two moments and a step count of each parameter.
    assert found["optimizer"] == pytest.approx(2 * parameters, rel=0.05)
    assert found["batch"] == pytest.approx((4 * 3 * 32 * 32 * 4 + 4 * 8) / 1e6)
    # Two layers of four channels, kept once each as the output of their ReLU.
    assert found["activations"] >= 2 * 4 * 4 * 32 * 32 * 4 / 1e6
    assert all(p.grad is None for p in loop.model.parameters())


def test_recomputed_activations_are_not_kept() -> None:
    kept = memory_by_category(loop_of())["activations"]
    config = CONFIG.with_compute(checkpointing=True)
    with contextlib.suppress(SpecError):  # a model may have nothing to recompute
        assert memory_by_category(loop_of(config))["activations"] <= kept


def test_operators_of_a_step_and_their_spans() -> None:
    loop = loop_of()
    loop.use_cached_batch()
    loop.step()
    found = watch_operators(loop, 2)
    names = {op.name for op in found.operators}
    assert any("conv" in name for name in names)
    assert found.operators[0].wall_ms == max(op.wall_ms for op in found.operators)
    assert found.launches > 10
    assert 0 < found.share <= 1
    assert found.device_ms is None
    assert {span.name for span in found.spans} >= names & {"aten::addmm", "aten::cross_entropy"}
    assert all(0 <= span.start_s <= span.end_s for span in found.spans)


def test_steps_are_scaled_with_the_same_samples() -> None:
    loop = loop_of()
    loop.use_cached_batch()
    batch = loop.cached_batch
    found = scaled_steps(loop, seconds=0.1, step_s=0.001)
    assert sorted(found) == [4, 16]
    assert all(ms > 0 for ms in found.values())
    assert loop.cached_batch is batch


def test_slow_steps_are_not_scaled() -> None:
    loop = loop_of()
    loop.use_cached_batch()
    assert scaled_steps(loop, seconds=1.0, step_s=3.0) == {4: 3000.0}


def test_batches_of_any_form_are_repeated() -> None:
    boxes = [{"boxes": torch.ones(n, 4)} for n in (1, 2)]
    images = torch.arange(2.0)
    found = repeated(Loaded(({"image": images}, boxes), 2), 3)
    assert found.size == 6
    assert found.data[0]["image"].tolist() == [0, 1, 0, 1, 0, 1]
    assert [len(item["boxes"]) for item in found.data[1]] == [1, 2] * 3
    two = repeated(Loaded((images, (images, images)), 2), 2).data[1]
    assert [len(item) for item in two] == [4, 4]
    with pytest.raises(RuntimeFailure, match="cannot be made larger"):
        repeated(Loaded((images, object()), 2), 2)


def test_unreadable_samples_are_found(tmp_path: Path) -> None:
    from PIL import Image

    for number in range(40):
        Image.new("RGB", (64, 64), (number, 0, 0)).save(tmp_path / f"{number:02}.jpg")
    path = tmp_path / "07.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    found = scan_samples(Files(tmp_path), seconds=30.0)
    assert found.scanned == 40
    assert [bad.index for bad in found.broken] == [7]
    assert "07.jpg" in found.broken[0].reason


def test_a_scan_ends_in_time() -> None:
    assert 0 < scan_samples(Arrays(10_000), seconds=0.0).scanned < 10_000


class Ranges:
    """Stands in for ``torch.cuda.nvtx``."""

    def __init__(self) -> None:
        self.open: list[str] = []
        self.seen: list[str] = []

    def range_push(self, name: str) -> None:
        self.open.append(name)

    def range_pop(self) -> None:
        self.seen.append(self.open.pop())


def test_ranges_are_named_as_the_parts_are(monkeypatch: pytest.MonkeyPatch) -> None:
    ranges = Ranges()
    monkeypatch.setattr(torch.cuda, "nvtx", ranges)
    clock = SpanClock(StepClock(), nvtx=True, accumulation=2)
    clock.begin()
    for part in ("data", "copy", "forward", "loss", "backward") * 2:
        clock.mark(part)
    clock.mark("optimizer")
    clock.end()
    spans = [span.name for span in clock.spans]
    assert ranges.seen == spans
    assert spans[-2:] == ["optimizer", "logging"] and spans.count("backward") == 2
    assert not ranges.open


def test_a_timeline_has_steps_workers_and_resources() -> None:
    loop = loop_of(CONFIG.with_loader(workers=1))
    clock = loop.clock
    try:
        found = watch_timeline(loop, 3)
    finally:
        loop.close()
    assert loop.clock is clock and loop.observe is None
    steps = [span for span in found.spans if span.thread == "training loop"]
    assert {span.frame for span in steps} == {0, 1, 2}
    batches = [span for span in found.spans if span.category == "loader"]
    assert len(batches) == 3
    # On the same clock: a batch is made before the step that waits for it goes on.
    waits = [span for span in steps if span.name == "data"]
    assert all(b.end_s <= w.end_s for b, w in zip(batches, waits, strict=True))
    assert batches[0].details["transform_ms"] > 0  # type: ignore[operator]
    assert len(found.resources) >= 2


def test_ranges_need_a_gpu() -> None:
    with pytest.raises(SpecError, match="NVTX"):
        profile_training(CONFIG, nvtx=True)


def test_the_command_for_nsight_systems(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert nsys_command(["saccade"], tmp_path) is None
    monkeypatch.setattr("shutil.which", lambda name: f"/opt/{name}")
    command = nsys_command(["saccade", "train", "profile", "job.py", "--nvtx"], tmp_path)
    assert command is not None
    assert command[:2] == ["/opt/nsys", "profile"]
    assert command[-5:] == ["saccade", "train", "profile", "job.py", "--nvtx"]


def test_blocks_are_joined() -> None:
    first, second = training_block(), dataclasses.replace(training_block(), first_step=40)
    both = joined_blocks([first, second])
    assert both.step_s == first.step_s + second.step_s
    assert both.samples == 2 * first.samples
    assert both.first_step == 0
    assert both.share("forward") == pytest.approx(first.share("forward"))
    assert np.isclose(both.busy_share, first.busy_share)


def test_the_busy_share_is_of_the_gpu_that_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver counts other GPUs than PyTorch where a process may not use all of them."""
    samples = [SimpleNamespace(timeStamp=5, sampleValue=SimpleNamespace(uiVal=40))]
    nvml = SimpleNamespace(
        NVML_GPU_UTILIZATION_SAMPLES=1,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetSamples=lambda handle, kind, since: (0, samples if handle == "GPU-a" else []),
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    uuids = {"cuda": "a", "cuda:1": "b"}
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda d: SimpleNamespace(uuid=uuids[str(d)])
    )
    assert gpu_samples("cuda", 0) == [(5, 0.4)]
    assert gpu_samples("cuda:1", 0) == []


def test_the_machine_is_described(tmp_path: Path) -> None:
    machine = training_machine(tmp_path / "not" / "there", CONFIG)
    assert machine.cores >= 1
    assert machine.free_memory_mb > 0 and machine.free_disk_mb > 0
    assert machine.gpus == torch.cuda.device_count() or machine.gpu == ""


def test_the_plain_optimizer_has_no_state() -> None:
    assert memory_by_category(loop_of(optimizer=optimizer))["optimizer"] == 0
