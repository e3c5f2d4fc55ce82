"""Estimates for a target that is not at hand: checked against arithmetic done by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from models_graphs import model_of
from onnx import helper
from test_targets import write_toy
from tiny_system import write_model

from saccade.errors import ModelError
from saccade.estimate.bounds import latency_bound
from saccade.estimate.candidates import LABEL, candidates, check_usable, estimate_document
from saccade.estimate.graph import GraphFacts, read_graph
from saccade.estimate.legality import legality
from saccade.estimate.memory import memory_estimate
from saccade.targets.read import names, read_target, rules_of

SIDE = 8


def residual(folder: Path, extra: str = "Relu", domain: str = "") -> Path:
    """conv → ``extra`` → conv → add to the first conv's output; 4 channels of 8×8."""
    weight = np.ones((4, 3, 1, 1), np.float32)
    second = np.ones((4, 4, 3, 3), np.float32)
    nodes = [
        helper.make_node("Conv", ["images", "w"], ["a"], name="first"),
        helper.make_node(extra, ["a"], ["b"], name="middle", domain=domain),
        helper.make_node("Conv", ["b", "v"], ["c"], name="second", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c", "a"], ["output0"], name="join"),
    ]
    constants = {"w": weight, "v": second}
    model = model_of(nodes, {"output0": (1, 4, SIDE, SIDE)}, constants, (1, 3, SIDE, SIDE), {})
    path = folder / f"{extra}.onnx"
    onnx.save(model, str(path))
    return path


@pytest.fixture
def facts(tmp_path: Path) -> GraphFacts:
    return read_graph(residual(tmp_path, "Exp"), (SIDE, SIDE))


def test_a_graph_is_counted_as_by_hand(facts: GraphFacts) -> None:
    plane = 4 * SIDE * SIDE
    assert facts.weights == 4 * 3 + 4 * 4 * 9
    assert facts.inputs == 3 * SIDE * SIDE
    assert facts.outputs == plane
    assert facts.flops == 2 * plane * 3 + plane + 2 * plane * 36 + plane
    assert not facts.dynamic
    # At the second convolution `a` is still needed by the addition: a, b and c are alive.
    assert facts.live == 3 * plane


def test_what_must_be_alive_does_not_grow_with_depth(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Exp", ["images" if i == 0 else f"t{i}"], [f"t{i + 1}"], name=f"n{i}")
        for i in range(6)
    ]
    nodes.append(helper.make_node("Exp", ["t6"], ["output0"], name="last"))
    shape = (1, 3, SIDE, SIDE)
    path = tmp_path / "chain.onnx"
    onnx.save(model_of(nodes, {"output0": shape}, {}, shape, {}), str(path))
    assert read_graph(path, (SIDE, SIDE)).live == 2 * 3 * SIDE * SIDE


def test_the_bound_is_the_roofline(facts: GraphFacts, tmp_path: Path) -> None:
    processor = read_target(str(write_toy(tmp_path))).processors["cpu"]
    found = latency_bound(facts, processor, "fp32")
    assert found is not None
    arithmetic = facts.flops / 2e9 * 1e3
    assert (found.bound_ms, found.binding) == (pytest.approx(arithmetic), "arithmetic")
    assert found.unfused_ms >= found.bound_ms
    slow = replace(processor, bandwidth_gbs=replace(processor.bandwidth_gbs, value=1e-4))
    starved = latency_bound(facts, slow, "fp32")
    assert starved is not None
    # 1 kB of the weights stays in the cache.
    streamed = (4 * facts.weights - 1e3) / 1e5 * 1e3
    assert max(streamed, 0) == 0 or starved.bound_ms == pytest.approx(streamed)
    assert latency_bound(facts, processor, "int8") is None


def test_over_a_bus_inputs_and_outputs_count(facts: GraphFacts) -> None:
    coral = read_target("coral-edgetpu").processors["tpu"]
    found = latency_bound(facts, coral, "int8")
    assert found is not None
    assert found.bound_ms == pytest.approx((facts.inputs + facts.outputs) / 0.5e9 * 1e3)
    assert found.binding == "memory"


def test_weights_beyond_the_chip_are_streamed(facts: GraphFacts) -> None:
    coral = read_target("coral-edgetpu")
    large = replace(facts, weights=20_000_000)
    memory = memory_estimate(large, "int8", coral)
    assert memory.fit == "streams"
    assert "12.0 MB of weights do not fit on the chip" in memory.reason
    before = latency_bound(facts, coral.processors["tpu"], "int8")
    after = latency_bound(large, coral.processors["tpu"], "int8")
    assert before is not None
    assert after is not None
    assert after.bound_ms - before.bound_ms == pytest.approx(12e6 / 0.5e9 * 1e3)


def test_coral_runs_what_comes_before_the_first_operator_outside_its_list(
    facts: GraphFacts,
) -> None:
    coral, rules = read_target("coral-edgetpu"), rules_of("edgetpu")
    found = legality(facts, coral, "edgetpu", rules, "int8")
    plane = 4 * SIDE * SIDE
    assert (found.verdict, found.refused) == ("partly", (("Exp", 1),))
    assert found.share == pytest.approx(2 * plane * 3 / facts.flops)
    assert legality(facts, coral, "edgetpu", rules, "fp32").verdict == "illegal"


def test_coral_takes_a_net_of_its_own_operators(tmp_path: Path) -> None:
    graph = read_graph(residual(tmp_path, "Sigmoid"), (SIDE, SIDE))
    found = legality(graph, read_target("coral-edgetpu"), "edgetpu", rules_of("edgetpu"), "int8")
    assert (found.verdict, found.share) == ("legal", 1.0)


def test_an_operator_that_a_runtime_refuses_is_named(facts: GraphFacts) -> None:
    first = replace(facts.operators[0], kind="QLinearConv")
    strange = replace(facts, operators=(first, *facts.operators[1:]))
    nano = read_target("jetson-orin-nano")
    found = legality(strange, nano, "tensorrt", rules_of("tensorrt"), "fp16")
    assert found.verdict == "illegal"
    assert "TensorRT does not take QLinearConv; export the model without" in found.reasons[0]


def test_jetson_nano_has_no_int8(facts: GraphFacts) -> None:
    found = candidates(facts, read_target("jetson-nano"))
    int8 = [c for c in found if c.precision == "int8"]
    assert int8
    assert all(not c.usable and "DP4A" in c.reason and c.latency is None for c in int8)
    assert any(c.usable and c.precision == "fp16" for c in found)


def test_dynamic_shapes_are_said_to_be_fixed(facts: GraphFacts) -> None:
    graph = replace(facts, dynamic=True)
    pi = read_target("rpi5")
    assert "fixed at 8x8" in legality(graph, pi, "ncnn", rules_of("ncnn"), "fp32").reasons[0]
    assert legality(graph, pi, "onnxruntime", rules_of("onnxruntime"), "fp32").reasons == ()


def test_a_foreign_operator_is_named(tmp_path: Path) -> None:
    path = residual(tmp_path, "Fancy", domain="my.ops")
    with pytest.raises(ModelError, match=r"not ONNX's own: .*Fancy.*export the model without"):
        read_graph(path, (SIDE, SIDE))


def test_a_model_larger_than_the_memory_is_refused_with_what_to_do(
    facts: GraphFacts, tmp_path: Path
) -> None:
    toy = read_target(str(write_toy(tmp_path, memory_mb={"value": 0.001, "source": "its box"})))
    found = candidates(facts, toy)
    with pytest.raises(ModelError, match=r"does not fit into toy.*smaller model or input size"):
        check_usable(found, toy, "m.onnx")
    check_usable(candidates(facts, read_target("rpi5")), read_target("rpi5"), "m.onnx")


@pytest.mark.parametrize("name", names())
def test_every_number_is_labelled(name: str, tmp_path: Path) -> None:
    graph = read_graph(write_model(tmp_path), (64, 64))
    target = read_target(name)
    found = estimate_document(graph, target, candidates(graph, target))
    assert found["label"] == LABEL == "estimate, not verified on hardware"
    assert found["candidates"]
    for entry in found["candidates"]:
        assert entry["label"] == LABEL
        if entry["latency_bound_ms"] is not None:
            assert 0 < entry["latency_bound_ms"] <= entry["latency_unfused_ms"]


def test_usable_candidates_come_first_by_their_estimate(facts: GraphFacts) -> None:
    found = candidates(facts, read_target("jetson-orin-nano"))
    usable = [c.usable for c in found]
    assert usable == sorted(usable, reverse=True)
    times = [c.latency.unfused_ms for c in found if c.usable and c.latency]
    assert times == sorted(times)
