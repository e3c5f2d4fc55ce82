"""Olive's search over its ONNX Runtime quantization. Runs in Olive's own venv.

    python olive_rival.py MODEL INPUTS.npz OUT MAX_DROP SECONDS

It searches what its static quantization pass declares as searchable, plus u8 activations with s8
weights, which its space leaves out and which is the fastest on x86; metrics are Olive's own latency
and accuracy on the validation inputs, bounded as a maximal degradation. Where no candidate is left
within the bound, the float model stands in.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

CLASSES = 1000
# Olive imports this file as the user's script, and finds the inputs here.
INPUTS = "OLIVE_RIVAL_INPUTS"


def _arrays() -> Any:
    import numpy as np

    return np.load(os.environ[INPUTS])


def _register() -> None:
    from olive.data.registry import Registry

    @Registry.register_dataset("rival_inputs")  # type: ignore[untyped-decorator]
    def rival_inputs(role: str = "calibration", **_: Any) -> Any:
        return _Samples(role)

    @Registry.register_post_process("rival_class")  # type: ignore[untyped-decorator]
    def rival_class(outputs: Any, **_: Any) -> Any:
        return outputs.argmax(dim=-1)


class _Samples:
    """Inputs as Olive's loader wants them: a dictionary, and a label."""

    def __init__(self, role: str) -> None:
        data = _arrays()
        self._values = data[role]
        self._labels = data["labels"] if role == "validation" else [0] * len(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index: int) -> tuple[dict[str, Any], int]:
        import torch

        return {"images": torch.from_numpy(self._values[index])}, int(self._labels[index])


def _data(role: str) -> dict[str, Any]:
    return {
        "name": role,
        "type": "DataContainer",
        "user_script": str(Path(__file__).resolve()),
        "load_dataset_config": {"type": "rival_inputs", "params": {"role": role}},
        "pre_process_data_config": {"type": "skip_pre_process"},
        "post_process_data_config": {"type": "rival_class"},
        "dataloader_config": {"type": "default_dataloader", "params": {"batch_size": 1}},
    }


def configuration(model: str, out: str, max_drop: float, seconds: float) -> dict[str, Any]:
    """The workflow, as Olive's documentation lays it out."""
    accuracy = {
        "name": "accuracy",
        "type": "accuracy",
        "backend": "torch_metrics",
        "data_config": "validation",
        "sub_types": [
            {
                "name": "accuracy_score",
                "priority": 2,
                "metric_config": {"task": "multiclass", "num_classes": CLASSES},
                "goal": {"type": "max-degradation", "value": max_drop},
            }
        ],
    }
    latency = {
        "name": "latency",
        "type": "latency",
        "data_config": "calibration",
        "sub_types": [{"name": "avg", "priority": 1}],
    }
    searched = {
        "type": "OnnxStaticQuantization",
        "data_config": "calibration",
        "quant_format": "QDQ",
        "precision": "int8",
        "activation_type": ["uint8", "int8"],
        "per_channel": [True, False],
        "calibrate_method": ["MinMax", "Entropy", "Percentile"],
        "reduce_range": False,
        "activation_symmetric": False,
        "weight_symmetric": True,
    }
    return {
        "input_model": {"type": "OnnxModel", "model_path": model},
        "systems": {
            "local": {
                "type": "LocalSystem",
                "accelerators": [
                    {"device": "cpu", "execution_providers": ["CPUExecutionProvider"]}
                ],
            }
        },
        "data_configs": [_data("calibration"), _data("validation")],
        # Left out, the type trips over itself in Olive 0.13.
        "evaluators": {"both": {"type": "OnnxEvaluator", "metrics": [latency, accuracy]}},
        "passes": {"quantize": searched},
        "search_strategy": {
            "execution_order": "joint",
            "sampler": "tpe",
            "max_time": round(seconds),
            "output_model_num": 1,
        },
        "evaluator": "both",
        "host": "local",
        "target": "local",
        "cache_dir": f"{out}/cache",
        "output_dir": f"{out}/output",
        "log_severity_level": 3,
    }


def main(model: str, inputs: str, out: str, max_drop: float, seconds: float) -> dict[str, Any]:
    """Search; the best model with what it took."""
    os.environ[INPUTS] = inputs
    os.environ["OLIVE_DISABLE_TELEMETRY"] = "1"
    Path(out).mkdir(parents=True, exist_ok=True)
    from olive.workflows import run

    began = time.monotonic()
    found = run(configuration(model, out, max_drop, seconds))
    best = found.get_best_candidate() if found is not None else None
    tried = len(found.footprint.nodes) - 1 if found is not None else 0
    return {
        "model": str(best.model_path) if best is not None else model,
        "how": _settings(best) if best is not None else "none within the bound, the float model",
        "tried": tried,
        "wall_s": time.monotonic() - began,
    }


def _settings(best: Any) -> str:
    value = best.metrics_value or {}
    return ", ".join(f"{name} {entry['value']:.3g}" for name, entry in value.items())


if __name__ == "__main__":
    # What Olive prints must not get into the answer.
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    model, inputs, out = sys.argv[1:4]
    result = main(model, inputs, out, float(sys.argv[4]), float(sys.argv[5]))
    answer.write(json.dumps(result) + "\n")
    answer.flush()
else:
    _register()
