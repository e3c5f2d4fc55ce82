"""A against A: `saccade compare` has to decline to name a winner, time after time."""

from __future__ import annotations

from benchmarks.setting import Setting, note
from benchmarks.table import Row
from saccade.playbook.judge import compare_configs
from saccade.progress import SilentProgress

DECLINED = "not distinguishable"


def measure(setting: Setting) -> list[Row]:
    """Compare the bundle with itself several times."""
    bundle, source = setting.bundle(), str(setting.inputs.video)
    found = []
    for repeat in range(setting.sizes.repeats):
        note(f"A against A, {repeat + 1} of {setting.sizes.repeats}")
        found.append(compare_configs(bundle, bundle, source, "throughput", SilentProgress()))
    declined = sum(document["verdict"] == DECLINED for document in found)
    shown = ", ".join(f"{d['ratio']:.3f} (resolves {d['resolution']:.1%})" for d in found)
    return [
        Row(
            "A/A comparisons that name no winner",
            float(declined),
            bar=float(len(found)),
            detail=f"of {len(found)}; ratios {shown}",
        )
    ]
