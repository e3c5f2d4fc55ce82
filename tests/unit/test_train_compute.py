"""Every compute setting trains what plain eager fp32 trains."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_steps import CONFIG, adam, job, losses, net, sgd, taken
from torch import nn

from saccade.errors import RuntimeFailure, SpecError
from saccade.profile.training import compilations
from saccade.train import compiling
from saccade.train.compiling import compiler_environment, why_not_compiled
from saccade.train.computing import fused, set_backends
from saccade.train.config import TrainingConfig
from saccade.train.model_facts import model_facts
from saccade.train.own_settings import own_compute

ROUNDING = 1e-4
REDUCED = 0.05


@pytest.fixture(scope="module")
def plain() -> list[float]:
    return losses(CONFIG)


@pytest.mark.parametrize(
    ("settings", "tolerance"),
    [
        ({"channels_last": True}, ROUNDING),
        ({"precision": "bf16"}, REDUCED),
        ({"precision": "fp16"}, REDUCED),
        ({"precision": "bf16", "channels_last": True}, REDUCED),
        ({"fused_optimizer": True}, ROUNDING),
        ({"checkpointing": True}, ROUNDING),
        ({"checkpointing": True, "precision": "bf16", "channels_last": True}, REDUCED),
        ({"threads": 1}, ROUNDING),
        ({"tf32": True, "autotune": True}, ROUNDING),  # of no effect on a CPU
    ],
    ids=str,
)
def test_the_loss_curve_stays(
    settings: dict[str, Any], tolerance: float, plain: list[float]
) -> None:
    threads = torch.get_num_threads()
    try:
        found = losses(CONFIG.with_compute(**settings))
    finally:
        torch.set_num_threads(threads)
        as_pytorch_begins()
    assert plain[-1] < plain[0]
    assert found == pytest.approx(plain, rel=tolerance)


def as_pytorch_begins() -> None:
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = False, True
    torch.backends.cudnn.benchmark = False


def test_what_a_script_told_pytorch_stays_and_is_part_of_its_configuration() -> None:
    cuda, cudnn = torch.backends.cuda, torch.backends.cudnn
    as_pytorch_begins()
    set_backends(CONFIG)
    assert (cudnn.benchmark, cuda.matmul.allow_tf32, cudnn.allow_tf32) == (False, False, True)
    own = own_compute(job())
    assert (own.tf32, own.autotune) == (False, False)
    try:
        cudnn.benchmark = cuda.matmul.allow_tf32 = True
        set_backends(CONFIG)
        assert (cudnn.benchmark, cuda.matmul.allow_tf32, cudnn.allow_tf32) == (True, True, True)
        own = own_compute(job())
        assert (own.tf32, own.autotune) == (True, True)
    finally:
        as_pytorch_begins()


def small_net() -> nn.Module:
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 4, 3, stride=4, bias=False), nn.BatchNorm2d(4)),
        nn.Sequential(nn.Flatten(), nn.Linear(64, 4)),
    )


@pytest.mark.skipif(bool(why_not_compiled("cpu")), reason="nothing to compile with")
def test_a_compiled_model_trains_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in compiler_environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Inductor's own modules
        config = CONFIG.with_compute(compile="default", checkpointing=True)
        found, curve = taken(config, 2, job(small_net))
    expected, plain = taken(CONFIG, 2, job(small_net))
    assert [float(x) for x in curve] == pytest.approx([float(x) for x in plain], rel=ROUNDING)
    for name, value in expected.model.state_dict().items():  # statistics among them
        torch.testing.assert_close(found.model.state_dict()[name], value, rtol=1e-3, atol=1e-4)
    assert compiling.is_warm(tmp_path)
    assert compilations() >= 1


@pytest.mark.skipif(bool(why_not_compiled("cpu")), reason="nothing to compile with")
def test_a_model_that_cannot_be_compiled_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def gives_up(*_: Any, **__: Any) -> Any:
        raise NotImplementedError("no kernel for this operator")

    def with_that_backend(model: Any, settings: Any) -> Any:
        return torch.compile(model, backend=gives_up)

    monkeypatch.setattr("saccade.train.loop.compiled", with_that_backend)
    with pytest.raises(RuntimeFailure, match=r"cannot compile .* no kernel for this operator"):
        losses(CONFIG.with_compute(compile="default"), 1)


def test_without_a_compiler_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling.shutil, "which", lambda name: None)
    reason = why_not_compiled("cpu")
    assert reason is not None
    assert "apt-get install g++" in reason


def test_recomputing_leaves_statistics_of_batch_normalization_alone() -> None:
    kept = taken(CONFIG)[0].model.state_dict()
    found = taken(CONFIG.with_compute(checkpointing=True))[0].model.state_dict()
    assert kept.keys() == found.keys()
    assert int(found["0.1.num_batches_tracked"]) == 4
    for name, value in kept.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)


def test_a_model_without_blocks_cannot_be_recomputed() -> None:
    flat = job(lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 4)))
    with pytest.raises(SpecError, match="no blocks"):
        taken(CONFIG.with_compute(checkpointing=True), 1, flat)


@pytest.mark.parametrize("make", [adam, sgd, lambda m: torch.optim.AdamW(m.parameters(), lr=0.01)])
def test_a_fused_optimizer_is_the_same(make: Any) -> None:
    config = CONFIG.with_compute(fused_optimizer=True)
    plain, loop = taken(CONFIG, 3, job(optimizer=make)), taken(config, 3, job(optimizer=make))
    assert all(group["fused"] for group in loop[0].optimizer.param_groups)
    for mine, theirs in zip(plain[0].model.parameters(), loop[0].model.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_a_fused_optimizer_keeps_its_groups() -> None:
    layers = net()
    groups = [{"params": layers[0].parameters(), "lr": 0.5}, {"params": layers[2].parameters()}]
    found = fused(torch.optim.AdamW(groups, lr=0.1, weight_decay=0.3))
    assert [group["lr"] for group in found.param_groups] == [0.5, 0.1]
    assert {group["weight_decay"] for group in found.param_groups} == {0.3}


def test_an_optimizer_without_a_fused_form_is_refused() -> None:
    with pytest.raises(SpecError, match="RMSprop has no fused form"):
        fused(torch.optim.RMSprop(net().parameters()))


def test_facts_of_a_model() -> None:
    facts = model_facts(net(), adam(net()))
    assert (facts.optimizer, facts.fusable) == ("Adam", True)
    assert (facts.layers, facts.dense_convolutions) == (4, 1)
    assert facts.batch_norm
    assert facts.blocks == 3
    assert not model_facts(net(), torch.optim.RMSprop(net().parameters())).fusable
    assert not model_facts(net(), fused(adam(net()))).fusable


@pytest.mark.parametrize(("size", "accumulation"), [(4, 2), (2, 4), (1, 8)])
def test_accumulated_gradients_are_those_of_the_whole_batch(size: int, accumulation: int) -> None:
    bare = job(lambda: net(norm=False))
    config: TrainingConfig = CONFIG.with_batch(size=size, accumulation=accumulation)
    # Over the border of an epoch too: there are two steps in one.
    assert losses(config, 5, bare) == pytest.approx(losses(CONFIG, 5, bare), rel=ROUNDING)


def test_a_step_that_overflows_is_left_out_without_a_word() -> None:
    def steep(output: Any, target: Any) -> Any:
        return nn.functional.cross_entropy(output, target) * 1e9

    def halving(optimizer: Any, steps: int) -> Any:
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5)

    overflowing = replace(job(), loss=steep, scheduler=halving)
    loop, _ = taken(CONFIG.with_compute(precision="fp16"), 2, overflowing)
    fresh, _ = taken(CONFIG, 0)
    assert loop.scaler.get_scale() < 65536
    for mine, theirs in zip(loop.model.parameters(), fresh.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)
