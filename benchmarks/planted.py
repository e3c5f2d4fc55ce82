"""A planted slow preprocessing stage in a real pipeline, which `diagnose` has to name first."""

from __future__ import annotations

from benchmarks.setting import Setting, note
from benchmarks.table import Row
from saccade.playbook.partial import profile_and_diagnose
from saccade.spec import make_spec

PLANTED = "saccade.testing.planted:SlowPreprocessor"
RULE = "preprocess_bound"


def measure(setting: Setting) -> list[Row]:
    """Diagnose the pipeline with the slow stage."""
    note("diagnosis of a planted slow stage")
    spec = make_spec(
        {
            "model": setting.inputs.model,
            "video": str(setting.inputs.video),
            "preprocessor": PLANTED,
        }
    )
    _, _, findings = profile_and_diagnose(spec, setting.folder / "planted")
    names = [finding.name for finding in findings]
    rank = names.index(RULE) + 1 if RULE in names else None
    title = findings[rank - 1].title if rank else "not found"
    return [
        Row(
            "rank of a planted slow stage in the diagnosis",
            None if rank is None else float(rank),
            bar=1.0,
            at_least=False,
            detail=f"{RULE}: {title}; all: {', '.join(names)}",
        )
    ]
