"""Memory that is mapped anew every step: measured, diagnosed, and kept."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from saccade.diagnose.training.diagnose import diagnose_training
from saccade.diagnose.training.page_fault_bound import page_fault_bound
from saccade.optimize.worker import Worker
from saccade.pipeline.allocator import has_mallopt
from saccade.testing.planted_training import planted_training
from saccade.testing.training_change_conformance import example_contexts
from saccade.train.change import TrainingContext
from saccade.train.changes.keep_memory import KeepMemory
from saccade.train.config import BatchSettings, TrainingConfig
from saccade.train.job import refer
from saccade.train.records import TrainingBlock
from saccade.train.subject import SUBJECT

LARGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
needs_mallopt = pytest.mark.skipif(not has_mallopt(), reason="the C library has no mallopt")

# Activations of 64 MB: larger than what malloc keeps by itself.
JOB = """
import torch
from torch import nn

def model():
    return nn.Sequential(nn.Conv2d(3, 16, 1), nn.ReLU(), nn.Conv2d(16, 1, 1))

class Noise:
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return torch.full((3, 512, 512), float(index)), index

def dataset(split):
    return Noise()

def loss(output, target):
    return output.square().mean()

def optimizer(model):
    return torch.optim.SGD(model.parameters(), lr=1e-3)
"""


@pytest.fixture
def context(tmp_path: Path) -> TrainingContext:
    return next(iter(example_contexts(tmp_path)))


@needs_mallopt
def test_the_kernel_is_asked_for_memory_once(tmp_path: Path) -> None:
    job = tmp_path / "job.py"
    job.write_text(JOB)
    default = TrainingConfig(refer(str(job)), batch=BatchSettings(4))
    before, after = (cached_steps(c) for c in (default, default.with_compute(allocator="kept")))
    assert before.page_faults > 50_000
    # The heap may still grow by a tensor.
    assert after.page_faults < 20_000
    assert before.kernel_s > after.kernel_s
    assert before.losses == after.losses


def cached_steps(config: TrainingConfig) -> TrainingBlock:
    worker = Worker(SUBJECT, (config, None))
    try:
        worker.call("hold_batch")
        worker.call("block", 6)  # until the heap is as large as a step needs
        found: TrainingBlock = worker.call("block", 3)
        return found
    finally:
        worker.close()


def test_the_finding_says_how_many_and_suggests_to_keep_memory() -> None:
    found = diagnose_training(planted_training("page_fault_bound"))[0]
    assert found.name == "page_fault_bound"
    assert found.evidence["page_faults_per_step"] == 40_000
    assert found.evidence["kernel_share_of_cpu"] == pytest.approx(0.4)
    assert found.hints[0] == "keep_memory"
    assert "40,000 pages" in found.title


def test_what_else_the_kernel_does_is_not_called_page_faults() -> None:
    profile = planted_training("page_fault_bound")
    few = replace(profile, synthetic=replace(profile.synthetic, page_faults=100))
    assert page_fault_bound(few) is None


def test_it_is_offered_where_steps_fault(context: TrainingContext) -> None:
    if has_mallopt():
        assert KeepMemory().applies(context) is None
        assert 1.2 < KeepMemory().predict(context).gain < 2.0
    calm = replace(context.profile.synthetic, page_faults=0)
    quiet = replace(context, profile=replace(context.profile, synthetic=calm))
    assert "small enough" in (KeepMemory().applies(quiet) or "") or not has_mallopt()
    gpu = replace(context, config=context.config.with_compute(device="cuda"))
    assert "GPU" in (KeepMemory().applies(gpu) or "")


@needs_mallopt
def test_mallopt_keeps_large_blocks() -> None:
    """Filling 64 MiB again and again: mapped anew each time as it comes, once where it is kept."""
    script = """
import resource, sys
import numpy as np
from saccade.pipeline.allocator import keep_memory
if sys.argv[1] == "kept":
    assert keep_memory()
np.ones(8 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    np.ones(8 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    faults = {mode: int(printed(script, mode)) for mode in ("default", "kept")}
    # numpy asks for huge pages, so that a mapping takes fewer faults than it has small pages.
    assert faults["default"] > 100 > 10 > faults["kept"]


@needs_mallopt
@pytest.mark.skipif(not LARGE_PAGES.exists(), reason="a kernel with transparent huge pages")
def test_what_is_kept_may_lie_in_large_pages() -> None:
    script = """
import ctypes, sys
from saccade.pipeline.allocator import keep_memory
if sys.argv[1] == "kept":
    assert keep_memory()
library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p
address = library.malloc(ctypes.c_size_t(64 << 20)) + (32 << 20)
inside = False
for line in open("/proc/self/smaps"):
    first = line.split()[0]
    if "-" in first:
        low, high = (int(end, 16) for end in first.split("-"))
        inside = low <= address < high
    elif inside and first == "VmFlags:":
        print("hg" in line.split())
"""
    assert [printed(script, mode).strip() for mode in ("default", "kept")] == ["False", "True"]


def printed(script: str, mode: str) -> str:
    command = [sys.executable, "-c", script, mode]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
