from __future__ import annotations

import json
from collections import namedtuple
from datetime import timedelta
from pathlib import Path

import numpy as np
import onnx
import pytest

from saccade.errors import RuntimeFailure
from saccade.pipeline.config import ModelFile, RuntimeOptions
from saccade.profile.flops import COMPUTE_KINDS, Work, operator_work
from saccade.profile.operators import (
    attained,
    is_compute,
    merge_work,
    parse_openvino_profile,
    parse_ort_profile,
)
from saccade.profile.records import Roofline
from saccade.runtimes.contract import OperatorTime, SessionRequest

WORK = {
    "/a/conv/Conv": Work("Conv", 100.0, 40.0, ("x", "w"), ("/a/conv/Conv_output_0",)),
    "/a/act/Sigmoid": Work("Sigmoid", 1.0, 8.0, ("/a/conv/Conv_output_0",), ("/a/s_out",)),
    "/a/act/Mul": Work("Mul", 2.0, 12.0, ("/a/conv/Conv_output_0", "/a/s_out"), ("/a/m_out",)),
    "Conv_7": Work("Conv", 300.0, 80.0, ("/a/m_out", "w7"), ("onnx::Sigmoid_9",)),
    "Sigmoid_8": Work("Sigmoid", 3.0, 16.0, ("onnx::Sigmoid_9",), ("onnx::Concat_10",)),
    "/b/MatMul": Work("MatMul", 500.0, 60.0, ("p", "q"), ("/b/MatMul_out",)),
    "/b/MatMul_1": Work("MatMul", 700.0, 60.0, ("p", "q"), ("/b/MatMul_1_out",)),
}


def joined(name: str, kind: str, precision: str = "fp32", moved: float = 0.0) -> OperatorTime:
    (op,) = merge_work([OperatorTime(name, kind, 1.0, precision, bytes=moved)], WORK)
    return op


@pytest.mark.parametrize(
    ("name", "kind", "flops"),
    [
        ("/a/conv/Conv", "Conv", 100),
        ("/a/conv/Conv_output_0_nchwc", "Conv", 100),
        ("/a/conv/Conv/WithoutBiases", "Conv", 100),
        ("/a/conv/Conv_token_12", "FusedConv", 100),
        ("/a/conv/Conv_quant", "QLinearConv", 100),
        ("/a/act/Mul/QuickGeluFusion/", "QuickGelu", 2),
        ("onnx::Sigmoid_9_nchwc", "Conv", 300),
        ("/b/MatMul/MatmulTransposeFusion//MatMulScaleFusion/", "FusedMatMul", 500),
        ("/b/MatMul_1", "QGemm", 700),
        ("/b/MatMul_1", "TransposeMatMul", 700),
        ("/b/MatMul_1/MatmulTransposeFusion/", "FusedMatMul", 700),
        ("fused_with_/b/MatMul_1_tail", "MatMul", 700),
        # Named after the activation that the convolution took over.
        ("onnx::Concat_10_nchwc", "Conv", 300),
        # A reorder carries the convolution's name and does none of its work.
        ("x_abcd_acdb_/a/conv/Conv/WithoutBiases", "Reorder", 0),
        ("/a/conv/Conv/WithoutBiases_bf16_f32_/b", "Reorder", 0),
        ("ReorderOutput_token_334", "ReorderOutput", 0),
        # Names that merely begin alike.
        ("/b/MatMul_17", "Softmax", 0),
        ("Multiply_12798", "Subgraph", 0),
    ],
)
def test_runtime_names_find_their_node(name: str, kind: str, flops: float) -> None:
    assert joined(name, kind).flops == flops


def test_no_two_operators_are_given_the_same_convolution_by_fusion() -> None:
    ops = [OperatorTime("Conv_7", "Conv", 2.0), OperatorTime("onnx::Concat_10", "Conv", 1.0)]
    assert [op.flops for op in merge_work(ops, WORK)] == [300.0, 100.0]


def test_bytes_scale_with_precision_unless_the_runtime_counted_them() -> None:
    assert joined("/a/conv/Conv", "Conv", "bf16").bytes == 20
    assert joined("/a/conv/Conv", "Conv", "int8").bytes == 10
    assert joined("/a/conv/Conv", "Conv", "int8", moved=33).bytes == 33


def test_merged_operators_come_slowest_first() -> None:
    ops = [OperatorTime("a", "Add", 1.0), OperatorTime("b", "Add", 3.0)]
    assert [op.name for op in merge_work(ops, {})] == ["b", "a"]


ROOFLINE = Roofline({"fp32": 100.0, "bf16": 400.0}, 10.0)


def test_attained_under_the_compute_roof() -> None:
    reached = attained(OperatorTime("c", "Conv", 1.0, "fp32", "", 50e6, 1e6), ROOFLINE)
    assert reached.binding == "compute"
    assert reached.gflops == pytest.approx(50)
    assert reached.share_of_peak == reached.share_of_roof == pytest.approx(0.5)
    assert reached.intensity == 50
    assert reached.ideal_ms == pytest.approx(0.5)


def test_the_same_work_in_lower_precision_is_under_the_memory_roof() -> None:
    reached = attained(OperatorTime("c", "Conv", 1.0, "bf16", "", 30e6, 5e6), ROOFLINE)
    assert reached.binding == "memory"
    assert reached.bandwidth_gbs == pytest.approx(5)
    assert reached.share_of_roof == pytest.approx(0.5)
    assert reached.share_of_peak == pytest.approx(0.075)


def test_precision_without_a_peak_is_held_against_fp32() -> None:
    reached = attained(OperatorTime("c", "Conv", 1.0, "fp16", "", 50e6, 1e6), ROOFLINE)
    assert reached.share_of_peak == pytest.approx(0.5)


def test_unknown_work_is_under_no_roof() -> None:
    assert attained(OperatorTime("c", "Reorder", 1.0), ROOFLINE).binding == "none"


def kernel(name: str, ts: int, dur: int, kind: str, dtype: str = "float") -> dict[str, object]:
    sizes = {"activation_size": "100", "parameter_size": "20", "output_size": "3"}
    args = {"op_name": kind, "provider": "CPU", "input_type_shape": [{dtype: [1]}], **sizes}
    return {"cat": "Node", "name": f"{name}_kernel_time", "ts": ts, "dur": dur, "args": args}


def run_event(ts: int) -> dict[str, object]:
    return {"cat": "Session", "name": "model_run", "ts": ts, "dur": 90, "args": {}}


def write_profile(folder: Path, events: list[dict[str, object]]) -> Path:
    path = folder / "profile.json"
    path.write_text(json.dumps(events))
    return path


def test_ort_profile_leaves_the_first_run_out(tmp_path: Path) -> None:
    events = [
        *(run_event(ts) for ts in (0, 100, 200)),
        *(kernel("c", ts, dur, "Conv") for ts, dur in ((10, 9000), (110, 40), (210, 60))),
        *(kernel("q", ts, 8, "QLinearConv", "uint8") for ts in (120, 220)),
        {"cat": "Node", "name": "c_fence_before", "ts": 105, "dur": 1, "args": {}},
    ]
    conv, quantized = parse_ort_profile(write_profile(tmp_path, events))
    assert (conv.name, conv.kind, conv.precision) == ("c", "Conv", "fp32")
    assert conv.wall_ms == pytest.approx(0.05)
    assert conv.bytes == 123
    assert (quantized.wall_ms, quantized.precision) == (pytest.approx(0.008), "int8")


def test_a_single_ort_run_is_kept(tmp_path: Path) -> None:
    path = write_profile(tmp_path, [run_event(0), kernel("c", 10, 500, "Conv")])
    assert parse_ort_profile(path)[0].wall_ms == 0.5


def test_ort_profile_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeFailure, match="no complete run"):
        parse_ort_profile(write_profile(tmp_path, []))


@pytest.mark.parametrize("content", ["not json", '{"a": 1}', "[1]"])
def test_ort_profile_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "profile.json"
    path.write_text(content)
    with pytest.raises(RuntimeFailure, match="cannot be read"):
        parse_ort_profile(path)


Info = namedtuple("Info", "node_name node_type exec_type status real_time")


def info(kind: str, kernel: str, us: int, status: str = "Status.EXECUTED") -> Info:
    return Info(kind.lower(), kind, kernel, status, timedelta(microseconds=us))


def test_openvino_counters() -> None:
    def one(us: int) -> list[Info]:
        return [
            info("Convolution", "brgconv_avx512_amx_bf16", us),
            info("FullyConnectedQuantizedLegacy", "brgemm_avx512_amx_I8", 10),
            info("SwishCPU", "undef", 0, "Status.NOT_RUN"),
            info("Concat", "unknown", 1, "Status.OPTIMIZED_OUT"),
            info("Add", "jit_avx512_f32", 2),
        ]

    conv, dense, add = parse_openvino_profile([one(9000), one(100), one(300)])
    assert (conv.kind, conv.precision, conv.wall_ms) == ("Conv", "bf16", pytest.approx(0.2))
    assert conv.kernel == "brgconv_avx512_amx_bf16"
    assert (dense.kind, dense.precision) == ("MatMul", "int8")
    assert (add.kind, add.precision) == ("Add", "fp32")


def test_openvino_profile_without_a_run_is_refused() -> None:
    with pytest.raises(RuntimeFailure, match="no run"):
        parse_openvino_profile([])


@pytest.mark.demo_model
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_all_arithmetic_of_yolo11n_is_joined_with_real_operators(
    yolo11n: Path, runtime: str
) -> None:
    pytest.importorskip(runtime)
    from saccade import plugins

    hw = (128, 160)
    work = operator_work(onnx.load(str(yolo11n)), hw)
    request = SessionRequest(
        ModelFile(str(yolo11n), ""), hw, RuntimeOptions(), "images", profile=True
    )
    session = plugins.load("runtimes", runtime).open(request)
    try:
        for _ in range(2):
            session.infer(np.random.default_rng(0).random((1, 3, *hw), np.float32))
        ops = merge_work(session.operators(), work)
    finally:
        session.close()
    expected = sum(item.flops for item in work.values() if item.kind in COMPUTE_KINDS)
    found = sum(op.flops for op in ops if is_compute(op.kind))
    assert found == pytest.approx(expected, rel=0.01)
    assert all(op.wall_ms >= 0 for op in ops)
