"""NNCF's own accuracy control, in a process of its own: the rival that `quantizers` races.

    python -m benchmarks.nncf_rival MODEL INPUTS.npz TARGET.xml MAX_DROP

``INPUTS.npz`` holds ``calibration`` and ``validation`` inputs ``(N, 3, H, W)`` float32 and the
``labels`` of the latter. Everything is left at NNCF's defaults.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from typing import Any


def main(model: str, inputs: str, target: str, max_drop: float) -> dict[str, Any]:
    """Quantize with accuracy control; what it took."""
    import nncf
    import numpy as np
    import openvino as ov

    data = np.load(inputs)
    began = time.monotonic()

    def top1(compiled: Any, items: Iterable[Any]) -> tuple[float, list[float]]:
        hits = [
            float(np.argmax(next(iter(compiled(image[None]).values()))) == label)
            for image, label in items
        ]
        return float(np.mean(hits)), hits

    pairs = list(zip(data["validation"], data["labels"], strict=True))
    quantized = nncf.quantize_with_accuracy_control(
        ov.Core().read_model(model),
        nncf.Dataset(list(data["calibration"][:, None])),
        nncf.Dataset(pairs),
        validation_fn=top1,
        max_drop=max_drop,
    )
    ov.save_model(quantized, target, compress_to_fp16=False)
    return {"wall_s": time.monotonic() - began}


if __name__ == "__main__":
    found = main(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]))
    print(json.dumps(found), flush=True)
