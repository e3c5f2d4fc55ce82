"""`Bundle`: a bundle that was opened, which says what it is and where it came from."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from saccade.deploy.bundle import bundle_at, config_of, load, read_manifest
from saccade.pipeline.config import PipelineConfig
from saccade.pipeline.pipeline import Pipeline
from saccade.pipeline.system import SystemConfig
from saccade.pipeline.system_pipeline import SystemPipeline


@dataclass(frozen=True)
class Bundle:
    """The deployable result of a study: model, settings and provenance in one checked folder.

        bundle = saccade.Bundle.open("runs/street")
        print(bundle.changes, bundle.speedup)
        with bundle.load(score_threshold=0.4) as pipeline:
            result = pipeline("image.jpg")

    Attributes:
        folder: where it lies.
        manifest: the content of its ``manifest.json``, with a hash of every file.
        config: how it runs, its model's paths absolute; of two tasks where it does two.
    """

    folder: Path
    manifest: dict[str, Any] = field(repr=False, hash=False)
    config: PipelineConfig | SystemConfig = field(repr=False)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Check every file against its hash and read the settings; nothing is loaded yet.

        Args:
            path: the bundle's folder, or a run folder that holds one.

        Raises:
            BundleError: it is no bundle, or is incomplete, damaged or of a newer saccade.
        """
        folder = bundle_at(path)
        manifest = read_manifest(folder)
        return cls(folder, manifest, config_of(folder, manifest))

    def load(self, **overrides: Any) -> Pipeline | SystemPipeline:
        """The pipeline, as `saccade.load` gives it; the files are checked again.

        Args:
            overrides: settings of `PipelineConfig` to change, such as ``score_threshold=0.001``.

        Raises:
            BundleError: it was changed since it was opened, or has no such setting.
        """
        return load(self.folder, **overrides)

    @property
    def hash(self) -> str:
        """Hash of the configuration that was written: equal hash means equal behaviour."""
        return str(self.manifest["config_hash"])

    @property
    def changes(self) -> tuple[str, ...]:
        """What was changed of the baseline, in order; empty where that is not on record."""
        return tuple(self.manifest.get("provenance", {}).get("changes") or ())

    @property
    def speedup(self) -> tuple[float, float, float] | None:
        """How many times faster than the baseline: low end, value, high end; None if unknown."""
        found = self.manifest.get("provenance", {}).get("speedup")
        return (found[0], found[1], found[2]) if found else None

    def document(self) -> dict[str, Any]:
        """What it is, JSON-ready."""
        low, value, high = self.speedup or (None, None, None)
        interval = None if value is None else {"value": value, "interval": [low, high]}
        return {
            "hash": self.hash,
            "created": self.manifest.get("created"),
            "changes": list(self.changes),
            "speedup": interval,
        }
