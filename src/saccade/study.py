"""`Trial` and the run folder: everything that was tried, on disk as soon as it is known."""

from __future__ import annotations

import errno
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from saccade.errors import InputError, StorageError
from saccade.measurement import Block

SCHEMA_VERSION = 1
# Marks a folder as a run, because a stranger's folder may well hold a result.json.
MARKER = ".saccade-run"

Verdict = Literal[
    "better", "worse", "not distinguishable", "broke a goal", "failed", "inconclusive"
]


@dataclass(frozen=True)
class Ratio:
    """A ratio with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Drop:
    """A loss of accuracy against the baseline with its one-sided bounds.

    Attributes:
        metric: what dropped.
        estimate: baseline minus candidate.
        lower: bound from below at ``level``.
        upper: bound from above at ``level``.
        images: how many it was judged on.
        by_margins: what is likely by how far every image moved, where the task knows.
    """

    metric: str
    estimate: float
    lower: float
    upper: float
    level: float
    images: int
    by_margins: float | None = None

    @property
    def likely(self) -> float:
        """The best guess, which decides where no bound does."""
        return self.estimate if self.by_margins is None else self.by_margins


@dataclass(frozen=True)
class RepairStep:
    """One step of the repair ladder, on selection data.

    Attributes:
        rung: name of the step.
        setting: label of the change that was tried; empty where nothing could be tried.
        drop_before: smallest drop of accuracy of the steps before; None for the first.
        drop_after: drop with this step; None where it was not judged.
        wall_s: how long it took.
        outcome: verdict of its trial, or why the rung could not be tried.
    """

    rung: str
    setting: str
    drop_before: float | None
    drop_after: float | None
    wall_s: float
    outcome: str


@dataclass(frozen=True)
class Terms:
    """What a trial was decided by; with other goals it may be decided otherwise.

    Attributes:
        objective: what its race compared.
        guards: metric and largest drop allowed, for each task that is judged.
        sizes: names of the goals that say what a smaller configuration may cost, none where there
            is no goal on size.
        levels: names of the goals on accuracy itself, as opposed to its drop.
    """

    objective: str
    guards: tuple[tuple[str, float], ...] = ()
    sizes: tuple[str, ...] = ()
    levels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Trial:
    """One change, tried.

    Attributes:
        number: from 1; 0 is the baseline.
        parent: number of the trial it changes.
        change: label of the change.
        name: name of the optimization, ``"tuning"`` for numeric knobs.
        config: the configuration, as `PipelineConfig.to_dict` gives it; empty where the change
            could not be applied.
        gain: measured against the parent, in one run, interleaved.
        metrics: measured in the same run.
        by_size: object size → ``objects``, ``baseline`` and ``candidate`` accuracy, for changes
            that look at other pixels.
        kept: whether it became the configuration that the next change starts from.
        repair: the repair ladder up to this trial, this trial included; empty where there is none.
        details: what else the change has to say, JSON-ready, such as ``sensitivity`` per layer.
        float_config: the configuration before its weights were rounded, where the change made new
            weights and rounded them as those before had been; None elsewhere.
        parts: labels of the changes that it consists of, where they are several.
        terms: what it was decided by.
    """

    number: int
    parent: int
    change: str
    name: str
    config: dict[str, Any]
    config_hash: str
    parent_hash: str
    verdict: Verdict
    reason: str
    kept: bool = False
    predicted_gain: float | None = None
    predicted_bound: float | None = None
    prediction_basis: str = ""
    gain: Ratio | None = None
    metrics: dict[str, float | None] = field(default_factory=dict)
    drop: Drop | None = None
    by_size: dict[str, dict[str, float]] = field(default_factory=dict)
    wall_s: float = 0.0
    blocks: tuple[Block, ...] = ()
    parent_blocks: tuple[Block, ...] = ()
    environment_hash: str = ""
    repair: tuple[RepairStep, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)
    float_config: dict[str, Any] | None = None
    parts: tuple[str, ...] = ()
    terms: Terms | None = None

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready document."""
        return {"schema_version": SCHEMA_VERSION, **asdict(self)}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Trial:
        """The inverse of `to_dict`."""
        data = {key: value for key, value in document.items() if key != "schema_version"}
        for key in ("blocks", "parent_blocks"):
            data[key] = tuple(block_from_dict(block) for block in data.get(key, ()))
        data["repair"] = tuple(RepairStep(**step) for step in data.get("repair", ()))
        data["gain"] = Ratio(**data["gain"]) if data.get("gain") else None
        data["drop"] = _drop_from_dict(data["drop"]) if data.get("drop") else None
        data["parts"] = tuple(data.get("parts", ()))
        data["terms"] = _terms_from_dict(data["terms"]) if data.get("terms") else None
        return cls(**data)


def _drop_from_dict(document: Mapping[str, Any]) -> Drop:
    """A `Drop` after a trip through JSON, which knows no infinity."""
    unbounded = {"estimate": math.nan, "lower": -math.inf, "upper": math.inf}
    absent = {name: bound for name, bound in unbounded.items() if document[name] is None}
    return Drop(**{**document, **absent})


def _terms_from_dict(document: Mapping[str, Any]) -> Terms:
    guards = tuple((metric, allowed) for metric, allowed in document["guards"])
    levels = tuple(document.get("levels", ()))  # lacking in folders of before there were any
    return Terms(document["objective"], guards, tuple(document["sizes"]), levels)


def block_from_dict(document: Mapping[str, Any]) -> Block:
    """A `Block` after a trip through JSON."""
    data = dict(document)
    for key in ("emitted_s", "latency_ms", "warmup_s"):
        data[key] = tuple(data[key])
    data["stage_ms"] = {name: tuple(values) for name, values in data["stage_ms"].items()}
    return Block(**data)


class RunFolder:
    """Reads and writes the documents of one run. Nothing that was there is lost.

    Raises:
        StorageError: from every method that writes, where the disk is full or read-only.
        InputError: the folder holds something that is not a run.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with storage_errors(path):
            if path.exists() and not path.is_dir():
                raise InputError(
                    f"'{path}' is a file. Expected a folder for the run; choose another --out."
                )
            if path.is_dir() and any(path.iterdir()) and not self.holds_run(path):
                raise InputError(
                    f"The folder '{path}' is not empty and holds no saccade run. Nothing was "
                    "changed; choose another --out or an empty folder."
                )
            path.mkdir(parents=True, exist_ok=True)
            (path / MARKER).touch()

    @staticmethod
    def holds_run(path: Path) -> bool:
        """Whether a folder was made by saccade: it has the marker, or our ``environment.json``."""
        if (path / MARKER).is_file():
            return True
        found = _read_document(path / "environment.json") or {}
        return {"schema_version", "cpu_model", "hash"} <= found.keys()

    def write_json(self, name: str, document: Mapping[str, Any]) -> Path:
        """Write a document whole or not at all."""
        content = {"schema_version": SCHEMA_VERSION, **document}
        return self.write_text(name, to_json(content, indent=1))

    def write_text(self, name: str, text: str) -> Path:
        """Write a text file whole or not at all."""
        target = self.path / name
        with storage_errors(target):
            write_whole(target, text)
        return target

    def read_json(self, name: str) -> dict[str, Any] | None:
        """A document, or None where it is absent or unreadable."""
        return _read_document(self.path / name)

    @property
    def is_finished(self) -> bool:
        """Whether it holds the result of a run that came to its end."""
        found = self.read_json("result.json") or {"interrupted": True}
        return not found.get("interrupted") and not found.get("failure")

    def append_trial(self, trial: Trial) -> None:
        """Add a line to ``trials.jsonl``."""
        target = self.path / "trials.jsonl"
        line = to_json(trial.to_dict())
        with storage_errors(target), target.open("a", encoding="utf-8") as file:
            # A line that an earlier run could not finish must not swallow this one.
            if file.tell() and not _ends_line(target):
                file.write("\n")
            file.write(line + "\n")

    def record_trial(self, trial: Trial) -> Trial:
        """Add a trial under the next free number, unless the very same is there; as it is there."""
        before = self.trials()
        for known in before:
            if to_json(replace(known, number=trial.number).to_dict()) == to_json(trial.to_dict()):
                return known
        numbered = replace(trial, number=1 + max((t.number for t in before), default=0))
        self.append_trial(numbered)
        return numbered

    def trials(self) -> list[Trial]:
        """Every complete trial on record, in order."""
        return read_trials(self.path)


def read_trials(folder: Path) -> list[Trial]:
    """Every complete trial in a run folder's ``trials.jsonl``, in order."""
    try:
        content = (folder / "trials.jsonl").read_bytes()
    except OSError:
        return []
    found = []
    # Split as bytes: a line that was cut within a character is not UTF-8.
    for line in content.split(b"\n"):
        try:
            found.append(Trial.from_dict(json.loads(line)))
        except (ValueError, TypeError, KeyError, AttributeError):
            continue  # the line of a run that was killed while writing it
    return found


def _read_document(path: Path) -> dict[str, Any] | None:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def _ends_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def write_whole(target: Path, text: str) -> None:
    """Write a text file whole or not at all.

    Raises:
        OSError: it cannot be written; what was there before is untouched.
    """
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def to_json(document: Any, indent: int | None = None) -> str:
    """JSON text that UTF-8 can hold, also where a file name in it is not valid UTF-8."""
    text = json.dumps(finite(document), indent=indent, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(finite(document), indent=indent)
    return text


def finite(value: Any) -> Any:
    """The same document with infinities and NaN as None, which JSON can hold."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item") and callable(value.item):
        return finite(value.item())
    return value


@contextmanager
def storage_errors(target: Path) -> Iterator[None]:
    """Turn what the disk says into a `StorageError` that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(
                f"The disk is full: '{target}' could not be written. Free some space and run the "
                "same command again; it resumes where it stopped."
            ) from error
        raise StorageError(
            f"'{target}' could not be written: {error.strerror or error}. Choose another --out or "
            "change the permissions, and run the same command again."
        ) from error


@dataclass(frozen=True)
class Study:
    """All of one run: what came out, and where it is.

    Attributes:
        folder: the run folder.
        result: the content of ``result.json``.
        trials: everything tried, in order.
    """

    folder: Path
    result: dict[str, Any]
    trials: tuple[Trial, ...]

    @property
    def status(self) -> str:
        """``"met"``, ``"not_met"`` or ``"inconclusive"``."""
        return str(self.result["status"])

    @property
    def best(self) -> dict[str, Any] | None:
        """The best configuration with its metrics, None where nothing was finished."""
        return self.result.get("best")

    @property
    def pareto(self) -> list[dict[str, Any]]:
        """The front: systems that no other beats in both speed and accuracy.

        Of a training, in both speed and peak memory.
        """
        return [point for point in self.result.get("pareto", []) if point.get("front", True)]

    @property
    def rejected(self) -> list[dict[str, Any]]:
        """Every change that did not pay, with its reason."""
        return list(self.result.get("rejected", []))

    @property
    def bundle(self) -> Path | None:
        """The bundle's folder, None where none was written."""
        path = self.folder / "bundle"
        return path if path.is_dir() else None

    def report(self) -> Path:
        """Write ``report.html`` anew and return its path."""
        from saccade.report.html import write_html

        return write_html(self.folder)

    @classmethod
    def load(cls, folder: Path | str) -> Study:
        """Read a finished run.

        Raises:
            InputError: there is no result in it.
        """
        path = Path(folder)
        result = _read_document(path / "result.json")
        if result is None or "status" not in result:
            raise InputError(
                f"'{folder}' holds no finished run (no readable result.json). "
                "Run `saccade optimize` with --out pointing there; it resumes."
            )
        return cls(path, result, tuple(read_trials(path)))
