"""What a kit is made of, and the document that describes it. Pure values."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from saccade.deploy.exports.contract import ExportRequest, Run
from saccade.pipeline.config import PipelineConfig

SCHEMA_VERSION = 1
KIT_FILE = "kit.json"

# Largest error of outputs that still passes for rounding, by the file's precision and the run's.
# It catches a device that computes something else; accuracy is judged with labels, not by this.
TOLERANCES = {
    ("fp32", "fp32"): 0.02,
    ("fp32", "fp16"): 0.1,
    ("fp32", "bf16"): 0.3,
    ("fp32", "int8"): 0.6,
    ("fp16", "fp32"): 0.05,
    ("fp16", "fp16"): 0.1,
    ("fp16", "bf16"): 0.3,
    ("int8", "int8"): 0.3,
}
DEFAULT_TOLERANCE = 0.3


@dataclass(frozen=True, eq=False)
class KitFile:
    """A model file of a kit.

    Attributes:
        name: of the export that made it, after the model's where it is another one.
        label: for people.
        precision: of its weights.
        config: how it runs on this machine.
        outputs: what it answers on this machine to each of the frames that are checked.
        runs: how devices may run it; empty where it only stands for the accuracy of others.
        model: what it is of, where it may take the model's place: a candidate's name, or a size.
        request: of that one, whose frames are its own; None where it is the kit's.
    """

    name: str
    label: str
    precision: str
    config: PipelineConfig
    outputs: tuple[list[NDArray[Any]], ...]
    runs: tuple[Run, ...]
    model: str = ""
    request: ExportRequest | None = None

    def of_model(self, model: str, request: ExportRequest) -> KitFile:
        """The same file as one of another model, or of another size."""
        prefix = f"{slug(model)}."
        runs = tuple(
            replace(run, judged_as=prefix + run.judged_as if run.judged_as else "")
            for run in self.runs
        )
        name, label = prefix + self.name, f"{model}: {self.label}"
        return replace(self, name=name, label=label, runs=runs, model=model, request=request)


def slug(name: str) -> str:
    """A name without what file names and shells take amiss; different names stay different."""
    safe = re.sub(r"[^\w.-]+", "-", name).strip("-.")
    return safe if safe == name else f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


@dataclass(frozen=True)
class KitCandidate:
    """A file in one runtime and precision, to be measured.

    Attributes:
        id: unique in the kit, such as ``onnx_fixed@tensorrt-fp16``.
        file: name of the export.
        judged_as: export whose accuracy here stands for it.
        model: as of the file.
    """

    id: str
    file: str
    runtime: str
    precision: str
    flags: tuple[str, ...]
    tolerance: float
    judged_as: str
    model: str = ""


def candidates_of(files: tuple[KitFile, ...]) -> tuple[KitCandidate, ...]:
    """Every run of every file."""
    return tuple(
        KitCandidate(
            id=f"{file.name}@{run.runtime}-{run.precision}",
            file=file.name,
            runtime=run.runtime,
            precision=run.precision,
            flags=run.flags,
            tolerance=TOLERANCES.get((file.precision, run.precision), DEFAULT_TOLERANCE),
            judged_as=run.judged_as or file.name,
            model=file.model,
        )
        for file in files
        for run in file.runs
    )


def reference_of(candidates: tuple[KitCandidate, ...]) -> KitCandidate:
    """What the others are compared with: the model as given, in fp32, wherever that can be."""
    return min(
        candidates,
        key=lambda c: (
            bool(c.model), c.precision != "fp32", c.file != "onnx", c.runtime != "tensorrt"
        ),
    )  # fmt: skip


def kit_id(document: Mapping[str, Any]) -> str:
    """SHA-256 over everything that a kit's document says, the hashes of its files included."""
    content = {key: value for key, value in document.items() if key != "kit_id"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
