"""Read a kit, and what a device measured with it, refusing what does not belong together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from saccade.deploy.kit.record import KIT_FILE, SCHEMA_VERSION, kit_id
from saccade.errors import InputError
from saccade.measurement import Block
from saccade.pipeline.config import PipelineConfig

# Name of the reference's second process in a measurements file.
TWIN = "twin"


@dataclass(frozen=True)
class Kit:
    """A kit on disk, checked.

    Attributes:
        folder: where it is.
        document: content of ``kit.json``.
    """

    folder: Path
    document: Mapping[str, Any]

    @property
    def candidates(self) -> dict[str, dict[str, Any]]:
        """Candidate id → its entry."""
        return {entry["id"]: entry for entry in self.document["candidates"]}

    def config(self, file: str) -> PipelineConfig:
        """How a file of the kit runs on this machine."""
        config = PipelineConfig.from_dict(self.document["files"][file]["config"])
        model = config.model
        weights = str(self.folder / model.weights) if model.weights else None
        return replace(
            config, model=replace(model, path=str(self.folder / model.path), weights=weights)
        )


@dataclass(frozen=True)
class MeasuredBlock:
    """One block of one candidate, and when in the measurement it ran."""

    group: int
    round: int
    candidate: str
    block: Block


@dataclass(frozen=True)
class Measurements:
    """What a device measured.

    Attributes:
        path: of the file.
        kit_id: of the kit it measured.
        complete: it was not interrupted.
        reference: id of the candidate that the others are compared with.
        environment: what the device said of itself.
        candidates: id → status, reason, error of outputs, versions.
        blocks: in the order in which they ran.
    """

    path: Path
    kit_id: str
    complete: bool
    reference: str
    environment: Mapping[str, Any]
    candidates: Mapping[str, Mapping[str, Any]]
    blocks: tuple[MeasuredBlock, ...]

    @property
    def device(self) -> str:
        """One line that names the device."""
        said = self.environment
        parts = [said.get("device") or said.get("cpu_model"), said.get("gpu"), said.get("os")]
        cores = f"{said.get('cores')} cores"
        return ", ".join(str(part) for part in (*parts[:2], cores, parts[2]) if part)


def read_kit(folder: Path) -> Kit:
    """A kit whose files are all as they were written.

    Raises:
        InputError: it is no kit, is newer than this saccade, or was changed.
    """
    document = read_kit_document(folder)
    for name, expected in document["sha256"].items():
        file = folder / name
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != expected:
            raise InputError(
                f"The kit '{folder}' is damaged: '{name}' is missing or was changed. "
                "Export it again."
            )
    return Kit(folder, document)


def read_kit_document(folder: Path) -> dict[str, Any]:
    """The document of a kit, whatever became of its other files.

    Raises:
        InputError: it is no kit, is newer than this saccade, or the document was changed.
    """
    document = _document(folder / KIT_FILE, "kit", "the folder that `saccade export --kit` writes")
    if document["kit_id"] != kit_id(document):
        raise InputError(
            f"The kit '{folder}' was changed after it was written: {KIT_FILE} does not match its "
            "own hash. Export it again."
        )
    return document


def read_measurements(path: Path) -> Measurements:
    """What ``measure.py`` wrote.

    Raises:
        InputError: it cannot be read, was cut short or edited, or is too new.
    """
    document = _document(path, "measurements file", "the file that the kit's measure.py writes")
    content = {key: value for key, value in document.items() if key != "digest"}
    found = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    if document.get("digest") != found:
        raise InputError(
            f"The measurements file '{path}' was changed after it was written: it does not match "
            "its own hash. Copy it from the device again, or measure again."
        )
    return Measurements(
        path=path,
        kit_id=document["kit_id"],
        complete=bool(document["complete"]),
        reference=document["reference"],
        environment=document["environment"],
        candidates=document["candidates"],
        blocks=tuple(_block(entry) for entry in document["blocks"]),
    )


def check_match(kit: Kit, measured: Measurements) -> None:
    """Refuse measurements of another kit.

    Raises:
        InputError: the file belongs to another kit.
    """
    if measured.kit_id != kit.document["kit_id"]:
        raise InputError(
            f"The measurements file '{measured.path}' is of another kit ({measured.kit_id[:12]}, "
            f"and '{kit.folder}' is {kit.document['kit_id'][:12]}). Give --kit with the folder "
            "that was measured, or measure this one."
        )


def _block(entry: Mapping[str, Any]) -> MeasuredBlock:
    latencies = tuple(float(value) for value in entry["latency_ms"])
    emitted, now = [0.0], 0.0
    for value in latencies:
        now += value / 1e3
        emitted.append(now)
    block = Block(
        emitted_s=tuple(emitted),
        latency_ms=latencies,
        cpu_s=float(entry.get("cpu_s") or 0.0),
        busy_share=0.0,
        stage_ms={"infer": latencies},
        peak_rss_mb=float(entry.get("peak_rss_mb") or 0.0),
        warmup_s=tuple(float(value) / 1e3 for value in entry["warmup_ms"]),
    )
    return MeasuredBlock(entry["group"], entry["round"], entry["candidate"], block)


def _document(path: Path, what: str, expected: str) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"The {what} '{path}' cannot be read: {error.strerror}. Expected {expected}."
        ) from None
    except ValueError as error:
        raise InputError(
            f"The {what} '{path}' is cut short or damaged ({error}). Copy it again."
        ) from None
    if not isinstance(document, dict) or not {"schema_version", "kit_id"} <= document.keys():
        raise InputError(f"'{path}' is no {what}. Expected {expected}.")
    if document["schema_version"] > SCHEMA_VERSION:
        raise InputError(
            f"'{path}' was written by a newer saccade (format {document['schema_version']}, this "
            f"one reads {SCHEMA_VERSION}). Upgrade saccade."
        )
    return document
