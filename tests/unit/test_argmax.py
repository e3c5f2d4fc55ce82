"""The best class per pixel: by a running maximum, in the graph, and constants at full rank."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from onnx import helper

from saccade.errors import ModelError
from saccade.models.full_rank import count_low_rank, with_full_rank
from saccade.models.graph_argmax import with_argmax
from saccade.models.onnx_run import run_once
from saccade.optimize.rewriting import rewritten
from saccade.pipeline.pipeline import Pipeline
from saccade.tasks import argmax as module
from saccade.tasks.argmax import running_argmax
from saccade.testing.tiny_segmenter import HW, tiny_segmenter, tiny_segmenter_config

# Few different values, so that ties are the rule; no NaN, as the function asks.
PLANES = arrays(
    np.float32,
    st.tuples(st.integers(1, 9), st.integers(1, 5), st.integers(1, 7)),
    elements=st.sampled_from([-np.inf, -1.5, -0.0, 0.0, 0.25, 3.0, np.inf]),
)


@given(planes=PLANES, block=st.sampled_from([1, 3, 32768]))
@settings(max_examples=80)
def test_the_running_maximum_is_numpys_argmax(planes: NDArray[np.float32], block: int) -> None:
    before = module.BLOCK
    module.BLOCK = block
    try:
        found = running_argmax(planes, np.uint8)
    finally:
        module.BLOCK = before
    assert found.dtype == np.uint8
    assert np.array_equal(found, np.argmax(planes, axis=0))


def test_more_classes_than_a_byte_holds() -> None:
    planes = np.random.default_rng(1).normal(size=(300, 40, 50)).astype(np.float32)
    assert np.array_equal(running_argmax(planes, np.int32), planes.argmax(axis=0))
    views = planes[:, ::2, 3:]
    assert np.array_equal(running_argmax(views, np.int32), views.argmax(axis=0))


def noise() -> dict[str, NDArray[np.float32]]:
    values = np.random.default_rng(2).normal(size=(1, 3, *HW))
    return {"images": values.astype(np.float32)}


@pytest.mark.parametrize(("classes", "kind"), [(4, np.uint8), (1000, np.int32)])
def test_the_graph_chooses_the_class_that_numpy_would(classes: int, kind: type) -> None:
    planes = run_once(tiny_segmenter(), noise())[0]
    longer = with_argmax(tiny_segmenter(), classes)
    onnx.checker.check_model(longer, full_check=True)
    (ids,) = run_once(longer, noise())
    assert ids.dtype == kind and ids.shape == (1, *HW)
    assert np.array_equal(ids, planes.argmax(axis=1))
    assert len(np.unique(ids)) > 1


def test_other_outputs_are_refused_by_name() -> None:
    model = tiny_segmenter()
    model.graph.output[0].type.tensor_type.shape.dim.pop()
    with pytest.raises(ModelError, match="'planes' is no map of planes"):
        with_argmax(model, 4)
    twice = tiny_segmenter()
    twice.graph.output.append(twice.graph.output[0])
    with pytest.raises(ModelError, match="2 outputs"):
        with_argmax(twice, 4)


def test_slopes_get_the_rank_of_the_features_and_keep_every_bit() -> None:
    model = tiny_segmenter()
    assert count_low_rank(model) == 1
    full = with_full_rank(model)
    assert count_low_rank(full) == 0
    slopes = next(t for t in full.graph.initializer if t.name == full.graph.node[1].input[1])
    assert list(slopes.dims) == [1, 6, 1, 1]
    assert "slopes" not in {t.name for t in full.graph.initializer}
    assert np.array_equal(run_once(model, noise())[0], run_once(full, noise())[0])
    assert [t.name for t in model.graph.initializer] == ["first", "slopes", "second"]


@given(rank=st.integers(1, 3), kind=st.sampled_from(["Add", "Mul", "Sub", "Div", "Max", "Min"]))
@settings(max_examples=20, deadline=None)
def test_any_elementwise_constant_broadcasts_as_before(rank: int, kind: str) -> None:
    constant = np.random.default_rng(3).uniform(1, 2, (5,) * (rank > 2) + (1,) * (rank == 2) + (4,))
    constant = constant.reshape(constant.shape if rank < 3 else (5, 1, 4)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node(kind, ["x", "c"], ["y"], "op")],
        "one",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 5, 3, 4])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 5, 3, 4])],
        [onnx.numpy_helper.from_array(constant, "c")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    x = {"x": np.random.default_rng(4).normal(size=(1, 5, 3, 4)).astype(np.float32)}
    full = with_full_rank(model)
    assert count_low_rank(model) == 1 and count_low_rank(full) == 0
    assert np.array_equal(run_once(model, x)[0], run_once(full, x)[0])


def test_all_three_ways_give_one_mask(tmp_path: Path) -> None:
    from saccade.models.files import model_file
    from saccade.models.graph_argmax import argmax_description

    plain = tiny_segmenter_config(tmp_path)
    onnx.save(with_argmax(tiny_segmenter(), 4), tmp_path / "ids.onnx")
    in_graph = replace(
        plain,
        model=model_file(tmp_path / "ids.onnx"),
        description=argmax_description(plain.description),
    )
    image = np.random.default_rng(5).integers(0, 255, (50, 70, 3), np.uint8)
    masks = []
    for config in (plain, replace(plain, argmax="running"), in_graph):
        with Pipeline(config) as pipeline:
            masks.append(pipeline(image).mask)
    assert masks[0].shape == (50, 70) and len(np.unique(masks[0])) > 1
    assert all(np.array_equal(masks[0], mask) and mask.dtype == np.uint8 for mask in masks)


def test_a_rewriting_that_says_something_else_leaves_no_file(tmp_path: Path) -> None:
    config = tiny_segmenter_config(tmp_path)
    folder = tmp_path / "models"

    def differs(before: list[NDArray[np.float32]], after: list[NDArray[np.float32]]) -> None:
        raise ModelError("other values")

    with pytest.raises(ModelError, match="other values"):
        rewritten(config, folder, "test 1", with_full_rank, differs)
    assert list(folder.iterdir()) == []
    made = rewritten(config, folder, "test 1", with_full_rank, lambda before, after: None)
    assert rewritten(config, folder, "test 1", with_full_rank, differs) == made
