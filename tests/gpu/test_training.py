"""Compute settings of a training that only a GPU has. Not part of a run without one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from tiny_steps import CONFIG, losses, taken

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]
GPU = CONFIG.with_compute(device="cuda")


@pytest.fixture(scope="module")
def plain() -> list[float]:
    return losses(GPU)


@pytest.mark.parametrize(
    ("settings", "tolerance"),
    [
        ({"channels_last": True}, 1e-3),
        ({"autotune": True}, 1e-3),
        ({"tf32": True}, 0.02),
        ({"precision": "bf16"}, 0.05),
        ({"precision": "fp16"}, 0.05),
        ({"precision": "bf16", "channels_last": True}, 0.05),
        ({"fused_optimizer": True}, 1e-3),
        ({"checkpointing": True}, 1e-3),
        ({"compile": "default"}, 1e-3),
        ({"compile": "reduce-overhead"}, 1e-3),
        ({"compile": "reduce-overhead", "precision": "bf16", "channels_last": True}, 0.05),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # of Inductor's own modules
def test_the_loss_curve_stays(
    settings: dict[str, Any], tolerance: float, plain: list[float]
) -> None:
    # More steps than a CUDA graph takes to be recorded.
    assert losses(GPU.with_compute(**settings), 8)[:4] == pytest.approx(plain, rel=tolerance)


def test_recomputing_takes_less_memory() -> None:
    def peak_mb(checkpointing: bool) -> float:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        taken(GPU.with_compute(checkpointing=checkpointing).with_batch(size=512), 2)
        return torch.cuda.max_memory_allocated() / 1e6

    assert peak_mb(True) < peak_mb(False)
