"""Every way of sharing of the table keeps the contract in every common situation."""

from __future__ import annotations

import av
import numpy as np
import pytest

from saccade import plugins
from saccade.optimize.sharing.contract import SharingContext
from saccade.testing.sharing_conformance import CHECKS, Check, example_contexts
from saccade.testing.tiny_pair import pair_context, tiny_pair


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("video") / "v.mp4"
    random = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for _ in range(30):
            pixels = random.integers(0, 255, (12, 16, 3), np.uint8).repeat(8, 0).repeat(8, 1)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return str(path)


@pytest.fixture(scope="module")
def contexts(source: str, tmp_path_factory: pytest.TempPathFactory) -> list[SharingContext]:
    return list(example_contexts(tmp_path_factory.mktemp("plan"), source))


@pytest.fixture(scope="module")
def torch_contexts(tmp_path_factory: pytest.TempPathFactory) -> list[SharingContext]:
    pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    return [pair_context(tmp_path_factory.mktemp("torch"), tiny_pair(shared=True), "onnxruntime")]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", plugins.names("sharings"))
def test_every_way_of_sharing_keeps_the_contract(
    name: str, check: Check, contexts: list[SharingContext]
) -> None:
    for context in contexts:
        check(plugins.load("sharings", name), context)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_shared_backbone_does_with_networks_that_have_one(
    check: Check, torch_contexts: list[SharingContext]
) -> None:
    for context in torch_contexts:
        check(plugins.load("sharings", "shared_backbone"), context)


@pytest.mark.parametrize("name", [n for n in plugins.names("sharings") if n != "shared_backbone"])
def test_every_way_applies_somewhere(name: str, contexts: list[SharingContext]) -> None:
    kind = plugins.load("sharings", name)
    assert any(c.applies(context) is None for context in contexts for c in kind.variants(context))
