"""Other architectures in the place of a job's own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_steps import CONFIG, job, losses, net, taken
from torch import nn

from saccade.errors import SpecError
from saccade.train.architectures.depthwise_separable import divide_convolutions, divided
from saccade.train.architectures.narrower import Narrower
from saccade.train.narrowing import answering_layers


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(8, 12, 3, padding=1, bias=False),
        nn.Conv2d(8, 4, 5, stride=2, padding=4, dilation=2),
        nn.Conv2d(8, 8, (3, 5), padding="same", padding_mode="reflect"),
    ],
    ids=str,
)
def test_a_divided_convolution_answers_in_the_same_shape_and_size(layer: nn.Conv2d) -> None:
    torch.manual_seed(0)
    images = torch.randn(4, 8, 20, 20)
    both = divided(layer)
    with torch.no_grad():
        expected, found = layer(images), both(images)
    assert found.shape == expected.shape
    assert 0.5 < float(found.std() / expected.std()) < 2
    assert sum(p.numel() for p in both.parameters()) < sum(p.numel() for p in layer.parameters())
    assert (both[1].bias is None) == (layer.bias is None)


def test_only_dense_convolutions_are_divided() -> None:
    class Own(nn.Conv2d):
        """With weights of its own kind."""

    shared = nn.Conv2d(8, 8, 3, padding=1)
    model = nn.ModuleList(
        [
            nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, groups=2), Own(8, 8, 3),
            shared, shared,
        ]
    )  # fmt: skip
    assert divide_convolutions(model) == 1
    assert model[4] is model[5]
    assert isinstance(model[4], nn.Sequential)
    assert [type(layer) for layer in model[:4]] == [nn.Conv2d] * 3 + [Own]


def test_a_divided_model_trains_and_compares_by_seed() -> None:
    config = replace(CONFIG, model_change="depthwise_separable")
    curve = losses(config, 5)
    assert curve[-1] < curve[0]
    assert losses(config, 5) == curve
    loop, _ = taken(config, 1)
    assert len(list(loop.model.parameters())) == len(list(net().parameters())) + 1


def test_a_model_without_dense_convolutions_is_refused() -> None:
    flat = job(lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 4)))
    with pytest.raises(SpecError, match="no convolutions of 3×3"):
        taken(replace(CONFIG, model_change="depthwise_separable"), 1, flat)


class Skipping(nn.Module):
    """A net with a skip connection, an upsampling layer and answers at each pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.down = nn.Conv2d(16, 32, 3, padding=1, stride=2)
        self.up = nn.ConvTranspose2d(32, 16, 2, 2)
        self.mix = nn.Conv2d(32, 16, 3, padding=1)
        self.head = nn.Conv2d(16, 5, 1)

    def forward(self, images: Any) -> Any:
        early = self.norm(self.first(images)).relu()
        late = self.up(self.down(early).relu())
        return self.head(self.mix(torch.cat([early, late], 1)).relu())


def test_the_layers_that_answer_are_found() -> None:
    model = Skipping()
    images = torch.zeros(2, 3, 16, 16)
    assert answering_layers(model, images) == [model.head]
    layers = net()
    assert answering_layers(layers, images) == [layers[2][2]]


def test_a_narrower_model_keeps_its_answers_shape_and_its_scale() -> None:
    pytest.importorskip("torch_pruning")
    torch.manual_seed(0)
    model, images = Skipping(), torch.randn(4, 3, 16, 16)
    before = model(images).detach()
    found = Narrower.changed(model, lambda: images)
    assert (found.first.out_channels, found.down.out_channels) == (8, 16)
    assert (found.mix.in_channels, found.head.in_channels) == (16, 8)
    assert found.training
    after = found(images).detach()
    assert after.shape == before.shape
    assert 0.3 < float(after.std() / before.std()) < 3


def test_a_narrower_model_is_the_same_for_the_same_seed() -> None:
    pytest.importorskip("torch_pruning")
    config = replace(CONFIG, model_change="narrower")
    assert losses(config, 3) == losses(config, 3)


def test_a_model_that_cannot_be_narrower_says_so() -> None:
    pytest.importorskip("torch_pruning")
    small = job(lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 4)))
    with pytest.raises(SpecError, match="No layer can lose 50%"):
        taken(replace(CONFIG, model_change="narrower"), 1, small)
