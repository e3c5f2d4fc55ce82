"""A realistic `result.json`: YOLO11n on a 1080p street video, two cores, one int8 repair."""

from __future__ import annotations

from typing import Any

RUNTIME, RECT, BF16, OVERLAP = "runtime: openvino", "rect letterbox 384×640", "bf16", "overlap"


def sample_result() -> dict[str, Any]:
    """A fresh document of a run that met both goals."""
    return {
        "schema_version": 1,
        "status": "met",
        "objective": "throughput_fps",
        "budget_s": 300,
        "wall_s": 287.2,
        "goals": _goals(),
        "baseline": {"metrics": _baseline_metrics(), "stages": _stages(4.6, 5.9, 27.8, 8.2)},
        "best": _best(),
        "pareto": _pareto(),
        "rejected": [
            {
                "trial": t["trial"],
                "change": t["change"],
                "reason": t["reason"],
                "verdict": t["verdict"],
            }
            for t in _trials()
            if not t["kept"]
        ],
        "trials": _trials(),
        "findings": _findings(),
        "data_problems": _data_problems(),
        "repair": _repair(),
        "operators": _operators(),
        "roofline": {
            "peak_gflops": {"fp32": 265.0, "bf16": 1480.0, "int8": 2890.0},
            "bandwidth_gbs": 21.4,
            "dispatch_us": 2.1,
        },
        "environment": _environment(),
        "noise": {"percent": 2.1},
        "notes": [
            "64 labelled images bound the drop within ±0.005; about 150 would halve that.",
            "The demo's weights are AGPL-3.0; the bundle repeats their licence.",
        ],
        "spec": _spec(),
        "bundle": "runs/street/bundle",
        "model": {
            "license": "AGPL-3.0 (https://www.ultralytics.com/license)",
            "description": {
                "decode": "yolov8",
                "input_size": 640,
                "stride": 32,
                "evidence": ["output (1, 84, 8400): boxes and 80 classes", "metadata: stride 32"],
            },
        },
        "guard": {
            "metric": "map50_95",
            "allowed": 0.01,
            "data": {"calibration": 64, "selection": 64, "report": 64},
        },
    }


def _goals() -> list[dict[str, Any]]:
    return [
        {
            "name": "throughput_fps>=60",
            "metric": "throughput_fps",
            "bound": 60,
            "op": ">=",
            "value": 91.2,
            "interval": [88.1, 94.0],
            "status": "met",
            "note": "the whole interval is above the bound",
        },
        {
            "name": "map50_95_drop<=0.01",
            "metric": "map50_95_drop",
            "bound": 0.01,
            "op": "<=",
            "value": 0.001,
            "interval": [-0.004, 0.006],
            "status": "met",
            "note": "judged by the upper end, on the report images",
        },
    ]


def _stages(*wall: float) -> list[dict[str, Any]]:
    names = ("decode", "preprocess", "infer", "postprocess")
    cpu = (1.3, 1.02, 1.92, 1.0)
    return [
        {"name": n, "wall_ms": w, "cpu_ms": round(w * c, 2)}
        for n, w, c in zip(names, wall, cpu, strict=True)
    ]


def _baseline_metrics() -> dict[str, Any]:
    return {
        "throughput_fps": 20.7,
        "latency_ms.mean": 48.3,
        "latency_ms.p50": 47.6,
        "latency_ms.p95": 55.2,
        "latency_ms.p99": 61.8,
        "core_ms_per_frame": 74.2,
        "peak_rss_mb": 612.0,
        "model_mb": 10.7,
        "map50_95": 0.4121,
        "map50": 0.5687,
        "agreement": 1.0,
        "busy_share": 0.768,
    }


def _best() -> dict[str, Any]:
    return {
        "trial": 12,
        "changes": [RUNTIME, RECT, BF16, "vectorized nms", "fused preprocess", OVERLAP, "tuned"],
        "config": {
            "task": "detection",
            "input_size": 640,
            "runtime": "openvino",
            "shape": "rect",
            "execution": "overlapped",
            "options": {"precision": "bf16", "threads": 2, "streams": 2, "in_flight": 2},
            "description": {"decode": "yolov8", "class_names": ["person", "bicycle", "car"]},
        },
        "metrics": {
            "throughput_fps": 91.2,
            "latency_ms.mean": 30.9,
            "latency_ms.p50": 30.2,
            "latency_ms.p95": 36.9,
            "latency_ms.p99": None,
            "core_ms_per_frame": 21.6,
            "peak_rss_mb": 388.0,
            "model_mb": 10.7,
            "map50_95": 0.4111,
            "map50": 0.5661,
            "map50_95_drop": 0.001,
            "agreement": 0.964,
            "busy_share": 0.985,
        },
        "stages": _stages(4.3, 1.5, 6.8, 0.4),
        "speedup": {"value": 4.4, "interval": [4.2, 4.6]},
        "drop": {
            "estimate": 0.001,
            "lower": -0.004,
            "upper": 0.006,
            "level": 0.95,
            "images": 64,
            "data": "report",
        },
        "per_class": [
            _class("person", 0.512, 0.511, -0.003, 0.006, 263),
            _class("car", 0.447, 0.444, -0.006, 0.012, 97),
            _class("bicycle", 0.291, 0.268, -0.011, 0.061, 14, "too few instances to decide"),
            _class("traffic light", 0.262, 0.271, -0.031, 0.014, 31),
            _class("bus", 0.702, 0.700, -0.009, 0.014, 11, "too few instances to decide"),
        ],
    }


def _class(
    name: str,
    before: float,
    after: float,
    low: float,
    high: float,
    instances: int,
    flag: str = "",
) -> dict[str, Any]:
    return {
        "class": name,
        "baseline": before,
        "best": after,
        "drop_low": low,
        "drop_high": high,
        "instances": instances,
        "flag": flag,
    }


def _pareto() -> list[dict[str, Any]]:
    return [
        _front(0, "baseline", 20.7, 48.3, 0.412, True),
        _front(2, f"{RUNTIME} + rect", 45.1, 22.2, 0.413, True),
        _front(12, "bf16, overlapped, tuned", 91.2, 30.9, 0.411, True),
        _front(8, "int8, head in bf16", 97.9, 27.8, 0.403, False),
        _front(9, "int8 everywhere", 104.0, 26.1, 0.371, False),
        _front(10, "512 px input", 118.0, 24.4, 0.391, False),
    ]


def _front(
    trial: int, label: str, fps: float, latency: float, accuracy: float, kept: bool
) -> dict[str, Any]:
    return {
        "trial": trial,
        "label": label,
        "throughput_fps": fps,
        "latency_ms": latency,
        "accuracy": accuracy,
        "accuracy_low": round(accuracy - 0.013, 3),
        "accuracy_high": round(accuracy + 0.012, 3),
        "kept": kept,
    }


def _trials() -> list[dict[str, Any]]:
    t = _trial
    return [
        t(1, 0, RUNTIME, "better", "the interval is above 1", 1.45, 1.38, 0.03, 28.6, 0.412),
        t(2, 1, RECT, "better", "the interval is above 1", 1.52, 1.58, 0.03, 45.1, 0.413),
        t(3, 2, BF16, "better", "faster, and the drop is bounded", 1.22, 1.31, 0.02, 59.0, 0.411),
        t(4, 3, "graph optimization: all", "not distinguishable",
          "the interval 0.98–1.02 contains 1; this machine resolves 2.1 %",
          1.03, 1.0, 0.02, 59.1, 0.411),
        t(5, 3, "vectorized nms", "better", "identical results", 1.35, 1.29, 0.02, 63.2, 0.411),
        t(6, 5, "fused preprocess", "better", "the interval is above 1",
          1.18, 1.12, 0.02, 66.8, 0.411),
        t(7, 6, "preprocess in the graph", "worse",
          "slower by 6 % although one stage fewer: the uint8 input forces an extra layout change",
          1.06, 0.94, 0.02, 62.9, 0.411),
        t(9, 6, "int8 (PTQ, per channel)", "broke a goal",
          "map50_95 drop 0.041, at least 0.029; the goal allows 0.01. Every step of the repair "
          "ladder was tried", 1.28, 1.21, 0.03, 104.0, 0.371),
        t(8, 6, "int8, head in bf16", "inconclusive",
          "the drop is between 0.003 and 0.017 and the goal allows 0.01: about 210 labelled images "
          "would decide", 1.22, 1.14, 0.03, 97.9, 0.403),
        t(10, 6, "resolution 512", "broke a goal",
          "map50_95 drop 0.021, at least 0.011; the goal allows 0.01", 1.5, 1.49, 0.04, 118, 0.391),
        t(11, 6, OVERLAP, "better", "both cores busy 97 % of the time",
          1.30, 1.24, 0.03, 83.0, 0.411),
        t(12, 11, "tuned: streams 2, in_flight 2, queue_depth 3", "better",
          "best of 9 settings, measured again on its own", None, 1.08, 0.02, 91.2, 0.411),
        t(13, 12, "skip the loop filter", "not distinguishable",
          "a gain of 1.01 (0.99–1.03) does not pay for changed pixels",
          1.05, 1.01, 0.02, 91.9, 0.410),
        t(14, 12, "runtime: onnxruntime with bf16", "failed",
          "the runtime refused the model: bf16 Conv is not implemented on this CPU",
          0.8, None, 0.0, None, None),
    ]  # fmt: skip


def _trial(
    trial: int,
    parent: int,
    change: str,
    verdict: str,
    reason: str,
    predicted: float | None,
    achieved: float | None,
    spread: float,
    fps: float | None,
    accuracy: float | None,
) -> dict[str, Any]:
    drop = None
    if accuracy is not None:
        estimate = round(0.412 - accuracy, 3)
        drop = {"estimate": estimate, "lower": estimate - 0.006, "upper": estimate + 0.005}
    return {
        "trial": trial,
        "parent": parent,
        "change": change,
        "verdict": verdict,
        "reason": reason,
        "predicted_gain": predicted,
        "prediction_basis": "infer at 0.62 of its time (operator table)" if predicted else "",
        "achieved_gain": achieved,
        "achieved_interval": None if achieved is None else [achieved - spread, achieved + spread],
        "throughput_fps": fps,
        "latency_ms": None if fps is None else round(2200 / fps, 1),
        "accuracy": accuracy,
        "accuracy_drop": drop,
        "wall_s": 8.1,
        "kept": verdict == "better",
    }


def _findings() -> list[dict[str, Any]]:
    return [
        {
            "name": "compute_bound",
            "title": "Inference takes 60 % of each frame and its convolutions reach 41 % of peak.",
            "evidence": {"infer_wall_ms": 27.8, "conv_share": 0.93, "peak_gflops": 265},
            "share": 0.6,
            "max_gain_sequential": 2.49,
            "max_gain_pipelined": 4.6,
            "hints": ["bf16", "int8", "rect_letterbox", "resolution"],
        },
        {
            "name": "postprocess_bound",
            "title": "NMS runs box after box in Python: 8.2 ms a frame on one core.",
            "evidence": {"postprocess_wall_ms": 8.2, "candidates": 412},
            "share": 0.18,
            "max_gain_sequential": 1.21,
            "max_gain_pipelined": 1.12,
            "hints": ["vectorized_nms"],
        },
        {
            "name": "serialized_stages",
            "title": "One core of two idles while decode and postprocess run.",
            "evidence": {"busy_share": 0.768, "gap_ms_per_frame": 11.2},
            "share": 0.23,
            "max_gain_sequential": 1.0,
            "max_gain_pipelined": 1.3,
            "hints": ["overlap_stages"],
        },
    ]


def _data_problems() -> list[dict[str, Any]]:
    return [
        {
            "kind": "truncated_image",
            "count": 2,
            "action": "skipped",
            "examples": ["val/000000139871.jpg", "val/Straße 7.jpg"],
        },
        {
            "kind": "box_out_of_range",
            "count": 3,
            "action": "clipped",
            "examples": ["labels/000000001000.txt, line 4"],
        },
    ]


def _repair() -> list[dict[str, Any]]:
    return [
        {"step": "int8 everywhere", "result": "broke the goal", "drop": 0.041},
        {"step": "exclude the head", "result": "inconclusive", "drop": 0.009},
        {"step": "exclude the 4 most sensitive layers", "result": "inconclusive", "drop": 0.008},
        {"step": "bf16 instead", "result": "kept", "drop": 0.001},
    ]


def _operators() -> dict[str, list[dict[str, Any]]]:
    def op(
        name: str, kind: str, wall: float, gflops: float, share: float, bound: str
    ) -> dict[str, Any]:
        return {
            "name": name,
            "kind": kind,
            "wall_ms": wall,
            "gflops": gflops,
            "share_of_peak": share,
            "bound": bound,
        }

    return {
        "baseline": [
            op("/model.2/m.0/cv1/conv/Conv", "Conv", 2.91, 148, 0.56, "compute"),
            op("/model.0/conv/Conv", "Conv", 2.42, 61, 0.23, "memory"),
            op("/model.4/cv2/conv/Conv", "Conv", 1.87, 171, 0.65, "compute"),
            op("/model.23/cv2.0/cv2.0.0/conv/Conv", "Conv", 1.52, 180, 0.68, "compute"),
            op("/model.10/m/m.0/attn/MatMul", "MatMul", 0.84, 33, 0.12, "overhead"),
            op("/model.23/dfl/Softmax", "Softmax", 0.61, 0, 0.05, "overhead"),
        ],
        "best": [
            op("/model.0/conv/Conv", "Conv", 0.91, 163, 0.11, "memory"),
            op("/model.2/m.0/cv1/conv/Conv", "Conv", 0.62, 695, 0.47, "compute"),
            op("/model.4/cv2/conv/Conv", "Conv", 0.44, 727, 0.49, "compute"),
            op("/model.10/m/m.0/attn/MatMul", "MatMul", 0.31, 89, 0.06, "overhead"),
        ],
    }


def _environment() -> dict[str, Any]:
    return {
        "cpu_model": "Intel(R) Xeon(R) Processor",
        "isa_flags": ["avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8"],
        "cores": 2,
        "memory_mb": 7936,
        "governor": None,
        "gpu": None,
        "os": "Linux 6.1",
        "python": "3.11.9",
        "versions": {"onnxruntime": "1.32.0", "openvino": "2026.4.1", "numpy": "2.4.6"},
    }


def _spec() -> dict[str, Any]:
    return {
        "task": "detection",
        "model": "yolo11n.onnx",
        "data": "coco/data.yaml",
        "video": "video/street-1080p.mp4",
        "target": "cpu",
        "goals": ["throughput_fps>=60", "map50_95_drop<=0.01"],
        "budget": "5m",
    }
